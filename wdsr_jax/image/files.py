"""Image files: opening, reading and writing them, with one line on what is wrong with one that fails."""

import ctypes
import functools
import io
import logging
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from wdsr_jax.errors import UserError
from wdsr_jax.image.jpeg import MAX_SCANS, count_scans
from wdsr_jax.image.pixels import to_uint8
from wdsr_jax.image.plugins import open_by_plugin
from wdsr_jax.system.files import open_regular, replacing

# Without a handler, what Pillow logs of damaged files would go to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".ppm", ".pgm")

# The formats that are read. Pillow knows more, some of which runs programs (EPS) or takes any file (TGA).
_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "AVIF", "BMP", "GIF", "PPM", "JPEG2000")
_MAX_PIXELS = 178_956_970  # where Pillow sees an attack: 0.5 GB as RGB
_UNREAD_FORMATS = {  # bytes from a position on: the format that they tell and what to do about it
    (4, b"ftypcrx"): "camera raw is not read; develop it to TIFF first",
    (4, b"ftyp"): "not an image but a video",
    (0, b"FUJIFILMCCD-RAW"): "camera raw is not read; develop it to TIFF first",
    (0, b"\x76\x2f\x31\x01"): "OpenEXR is not read; save it with 8 or 16 bits, as PNG or TIFF",
    (0, b"#?RADIANCE"): "Radiance HDR is not read; save it with 8 or 16 bits, as PNG or TIFF",
    (0, b"8BPS"): "Photoshop's own format is not read; save it as PNG or TIFF",
}


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turns what Pillow raises for a damaged file into a UserError, and hides what it warns of.

    Args:
        name: of the file, for the message.

    Raises:
        UserError: the block raised an exception.
    """
    try:
        # A narrow filter: where threads overlap, it may stay in place.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif|pillow_jxl)\.")
            yield
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(f"{name}: more than 178 megapixels, or damaged; not read") from None
    except MemoryError:
        raise UserError(f"{name}: cannot be read (not enough memory)") from None
    except Exception as error:  # damage: OSError, SyntaxError (PNG), ValueError (TIFF), RuntimeError (AVIF)
        raise UserError(f"{name}: cannot be read ({reason(error)})") from None


def open_image(file: BinaryIO, name: str) -> ImageFile.ImageFile:
    """Pillow's image of a file, its head checked, its pixels not yet read.

    Args:
        file: a file that can seek.
        name: for messages.

    Raises:
        UserError: the file is empty, of no known format, of one whose plug-in is not installed, or a JPEG of
            more than 500 scans; the message names it.
        Exception: damage, for `reading`.
    """
    file.seek(0)
    head = file.read(32)
    if not head:
        raise UserError(f"{name}: the file is empty")
    if head[:2] in (b"II", b"MM"):
        _silence_libtiff()
    file.seek(0)
    if count_scans(file) > MAX_SCANS:
        raise UserError(
            f"{name}: a JPEG of more than {MAX_SCANS} scans; such files are made to keep readers busy"
        )
    file.seek(0)
    try:
        image = Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError:
        image = open_by_plugin(file, head, name, _MAX_PIXELS)
        if image is None:
            raise UserError(f"{name}: {_why_not(file, head)}") from None
    if image.width * image.height > _MAX_PIXELS:
        raise Image.DecompressionBombError
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # Pillow leaves the rows that no strip or tile holds black, even millions of them. IMAGELENGTH is the
        # height before the image is turned upright.
        rows = max((tile.extents[3] for tile in image.tile if tile.extents), default=0)
        if rows < image.tag_v2[TiffImagePlugin.IMAGELENGTH]:
            raise SyntaxError("strips are missing")
    return image


@functools.cache
def _silence_libtiff() -> None:
    """Keeps libtiff, which Pillow uses, from writing messages on damaged files to stderr."""
    try:
        set_handler = ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler
    except (AttributeError, OSError):  # linked into Pillow without its names
        return
    set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
    set_handler(None)


def _why_not(file: BinaryIO, head: bytes) -> str:
    """The reason, for people, why Pillow does not open a file."""
    for (start, mark), words in _UNREAD_FORMATS.items():
        if head.startswith(mark, start):
            return words
    if head[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "not an image"
    tags = TiffImagePlugin.ImageFileDirectory_v2(head[: 16 if 43 in head[2:4] else 8])
    file.seek(tags.next)
    tags.load(file)
    bits = max(np.atleast_1d(tags.get(TiffImagePlugin.BITSPERSAMPLE, 1)))
    if 3 in np.atleast_1d(tags.get(TiffImagePlugin.SAMPLEFORMAT, 1)):
        return "floating-point pixels; save it with 8 or 16 bits"
    if bits > 16 or 2 in np.atleast_1d(tags.get(TiffImagePlugin.SAMPLEFORMAT, 1)):
        return f"{bits}-bit integers, signed or too long; save it with 8 or 16 bits"
    return f"a kind of TIFF that is not read ({bits} bits); save it anew as RGB with 8 or 16 bits"


def read_image(path: str | os.PathLike | BinaryIO) -> np.ndarray:
    """Reads an image file as RGB of 8 bits, for training and measurement; `read_photo` keeps all of it.

    Grey images become R = G = B, palettes are resolved, alpha is dropped, and 16 bits become 8 by scaling.

    Args:
        path: a file of any format that `open_image` takes.

    Returns:
        uint8 array (H, W, 3).

    Raises:
        UserError: the file is missing, empty, no regular file, damaged, of no known format, has more than 178
            megapixels or pixels of floating point (whose range it does not say); the message names it.
    """
    with (
        reading(str(path)),
        open_regular(path) if isinstance(path, str | os.PathLike) else nullcontext(path) as file,
        open_image(file, str(path)) as image,
    ):
        if image.mode == "F":
            raise UserError(f"{path}: floating-point pixels; save it with 8 or 16 bits")
        if image.mode.startswith("I"):  # 16-bit grey, which convert("RGB") would clip at 255
            grey = to_uint8(np.asarray(image, np.float32) / 65535)  # (H, W)
            return np.repeat(grey[..., None], 3, axis=-1)
        return np.asarray(image.convert("RGB"))


def image_size(path: str | os.PathLike) -> tuple[int, int] | None:
    """(H, W) as stored, from an image file's header; None where that cannot be read."""
    try:
        # Not `open_image`, which looks through the whole of a JPEG.
        with reading(str(path)), open_regular(path) as file, Image.open(file, formats=_FORMATS) as image:
            return image.height, image.width
    except UserError:
        return None


def write_image(path: str | os.PathLike, image: np.ndarray) -> None:
    """Writes uint8 (H, W, 3) or (H, W) to `path`; the file appears whole or not at all.

    Raises:
        UserError: the folder is missing, read-only or full, or the ending is of no image format.
    """
    path = Path(path)
    image_format = Image.registered_extensions().get(path.suffix.lower())
    if image_format not in Image.SAVE:
        raise UserError(f"{path}: no image format that can be written ends in {path.suffix!r}; use .png")
    with encoding(str(path)), replacing(path) as file:
        save(Image.fromarray(image), file, image_format)


@contextmanager
def encoding(name: str) -> Iterator[None]:
    """Turns whatever an encoder or the disk raises in the `with` block into a UserError.

    Args:
        name: of the file, for the message.

    Raises:
        UserError: the block raised an exception.
    """
    try:
        yield
    except UserError:
        raise
    except MemoryError:
        raise UserError(f"{name}: cannot be written (not enough memory)") from None
    except Exception as error:  # OSError: the disk; ValueError: more pixels a side than the format can hold
        raise UserError(f"{name}: cannot be written ({reason(error)})") from None


def save(image: Image.Image, file: BinaryIO, image_format: str, **options: Any) -> None:
    """Pillow's `save`, through the file's own `write`; the file need not be able to seek.

    Left alone, Pillow writes to the file's descriptor and does not notice that the end did not fit on a full
    disk.
    """

    class Stream(io.RawIOBase):
        def write(self, data: Any) -> int:
            return file.write(data)

        def tell(self) -> int:
            return file.tell()

        def seek(self, position: int, whence: int = 0) -> int:
            return file.seek(position, whence)

    image.save(cast(BinaryIO, Stream()), format=image_format, **options)


def reason(error: Exception) -> str:
    """What went wrong, in one line without the file's name."""
    words = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    return "damaged or cut short" if isinstance(error, struct.error) or "decoder error" in words else words
