"""Image files and pixel types: the one place where images are opened, rounded and written."""

import ctypes
import functools
import io
import logging
import os
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from wdsr_jax.errors import UserError
from wdsr_jax.system.files import replacing

# What Pillow logs of damaged files is not for stderr; a handler that the program sets up still gets it.
logging.getLogger("PIL").addHandler(logging.NullHandler())

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".ppm", ".pgm")

# What photographs come in. Pillow knows more, some of which runs programs (EPS) or takes any file (TGA).
_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "AVIF", "BMP", "GIF", "PPM", "JPEG2000")
_MOST_PIXELS = 178_956_970  # where Pillow sees an attack: 0.5 GB as RGB
_OTHERS = {  # bytes from a position on: what they are and what to do about it
    (4, b"ftyphei"): "HEIC is not read; save it as JPEG or PNG",
    (4, b"ftypmif1"): "HEIF is not read; save it as JPEG or PNG",
    (4, b"ftypcrx"): "camera raw is not read; develop it to TIFF first",
    (4, b"ftyp"): "not an image but a video",
    (0, b"FUJIFILMCCD-RAW"): "camera raw is not read; develop it to TIFF first",
    (0, b"\x76\x2f\x31\x01"): "OpenEXR is not read; save it with 8 or 16 bits, as PNG or TIFF",
    (0, b"#?RADIANCE"): "Radiance HDR is not read; save it with 8 or 16 bits, as PNG or TIFF",
    (0, b"\xff\x0a"): "JPEG XL is not read; save it as JPEG or PNG",
    (4, b"JXL "): "JPEG XL is not read; save it as JPEG or PNG",
    (0, b"8BPS"): "Photoshop's own format is not read; save it as PNG or TIFF",
}


@contextmanager
def reading(name: str) -> Iterator[None]:
    """What Pillow raises in the `with` block, when it comes upon damage, turns into a UserError.

    What Pillow warns of is not shown.
    """
    try:
        # The filter is narrow, so that no harm is done where threads leave it in place.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(f"{name}: more than 178 megapixels, or damaged; not read") from None
    except MemoryError:
        raise UserError(f"{name}: cannot be read (not enough memory)") from None
    except Exception as error:  # damage: OSError, SyntaxError (PNG), ValueError (TIFF), RuntimeError (AVIF)
        raise UserError(f"{name}: cannot be read ({reason(error)})") from None


def open_file(path: str | os.PathLike) -> BinaryIO:
    """Opens a regular file for reading; a pipe would wait for its writer.

    Raises:
        OSError: there is no file, or none that can be read.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError("not a regular file")
    return open(path, "rb")


def open_image(file: BinaryIO, name: str) -> Image.Image:
    """Pillow's image of a file, its head checked, its pixels not yet read.

    Args:
        file: a file that can seek.
        name: for messages.

    Raises:
        UserError: the file is empty or of no known format; the message names it.
        Exception: damage, for `reading`.
    """
    file.seek(0)
    head = file.read(32)
    if not head:
        raise UserError(f"{name}: the file is empty")
    if head[:2] in (b"II", b"MM"):
        _silence_libtiff()
    file.seek(0)
    try:
        image = Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError:
        raise UserError(f"{name}: {_why_not(file, head)}") from None
    if image.width * image.height > _MOST_PIXELS:
        raise Image.DecompressionBombError
    if image.format == "TIFF":
        # Pillow leaves the rows that no strip or tile holds black, be they millions. (Tag 257: the height
        # before the image is turned upright.)
        rows = max((tile.extents[3] for tile in image.tile), default=0)
        if rows < image.tag_v2[257]:
            raise SyntaxError("strips are missing")
    return image


@functools.cache
def _silence_libtiff() -> None:
    """Keeps the library below Pillow from writing its own words about damaged files to stderr."""
    try:
        set_handler = ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler
    except (AttributeError, OSError):  # built into Pillow, out of reach
        return
    set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
    set_handler(None)


def _why_not(file: BinaryIO, head: bytes) -> str:
    """Why Pillow does not know a file."""
    for (start, mark), words in _OTHERS.items():
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
    """Reads an image file as RGB of 8 bits, for training and measurement; `photos.read_photo` keeps the rest.

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
        open_file(path) if isinstance(path, str | os.PathLike) else nullcontext(path) as file,
        open_image(file, str(path)) as image,
    ):
        if image.mode == "F":
            raise UserError(f"{path}: floating-point pixels; save it with 8 or 16 bits")
        if image.mode.startswith("I"):  # 16-bit grey, which convert("RGB") would clip at 255
            grey = to_uint8(np.asarray(image, np.float32) / 65535)  # (H, W)
            return np.repeat(grey[..., None], 3, axis=-1)
        return np.asarray(image.convert("RGB"))


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
    """Whatever an encoder or the disk raises in the `with` block turns into a UserError."""
    try:
        yield
    except UserError:
        raise
    except MemoryError:
        raise UserError(f"{name}: cannot be written (not enough memory)") from None
    except Exception as error:  # OSError: the disk; ValueError: more pixels a side than the format can hold
        raise UserError(f"{name}: cannot be written ({reason(error)})") from None


def save(image: Image.Image, file: BinaryIO, image_format: str, **options) -> None:
    """Pillow's `save`, by the file's own `write`, which need not seek.

    Pillow would write to the file's descriptor, and not see that the end did not fit on a full disk.
    """

    class Stream(io.RawIOBase):
        def write(self, data):
            return file.write(data)

        def tell(self):
            return file.tell()

        def seek(self, position, whence=0):
            return file.seek(position, whence)

    image.save(Stream(), format=image_format, **options)


def reason(error: Exception) -> str:
    """One line on what went wrong, without the file's name."""
    words = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    return "damaged or cut short" if isinstance(error, struct.error) or "decoder error" in words else words


def to_float(image: np.ndarray) -> np.ndarray:
    """Any shape to float32: uint8 or uint16 to [0, 1], float as it is."""
    image = np.asarray(image)
    whole = np.float32(np.iinfo(image.dtype).max) if image.dtype.kind == "u" else np.float32(1)
    return np.asarray(image, np.float32) / whole


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Float in [0, 1], unclipped, to uint8: clipped, then rounded half up (as MATLAB does); any shape.

    NaN becomes 0.
    """
    return from_float(image, np.uint8)


def from_float(image: np.ndarray, dtype: npt.DTypeLike) -> np.ndarray:
    """`to_uint8`, likewise for uint16; to float it only converts."""
    if np.dtype(dtype).kind == "f":
        return np.asarray(image, dtype)
    clipped = np.fmin(np.fmax(image, 0), 1)  # fmax takes the number where the other is NaN
    return np.floor(clipped * np.iinfo(dtype).max + 0.5).astype(dtype)


def dihedral(image: np.ndarray, transform: int) -> np.ndarray:
    """One of the 8 symmetries of the square, as a view.

    Args:
        image: (H, W, ...).
        transform: 0 to 7; bit 0 mirrors left and right, bit 1 top and bottom, bit 2 then swaps H and W.

    Returns:
        (H, W, ...), or (W, H, ...) with bit 2.
    """
    if transform & 1:
        image = image[:, ::-1]
    if transform & 2:
        image = image[::-1]
    return image.swapaxes(0, 1) if transform & 4 else image


def undo_dihedral(image: np.ndarray, transform: int) -> np.ndarray:
    """The inverse of `dihedral`: swapped first, then mirrored; a view."""
    image = image.swapaxes(0, 1) if transform & 4 else image
    return dihedral(image, transform & 3)
