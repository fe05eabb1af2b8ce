"""Image files and pixel types: the one place where images are read, rounded and written."""

import io
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from wdsr_jax.errors import UserError
from wdsr_jax.files import write_whole

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".ppm", ".pgm")


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Reads an image file as RGB.

    Grey images become R = G = B, palettes are resolved, alpha is dropped, and 16 bits become 8 by scaling.

    Args:
        path: a file of any format that Pillow reads.

    Returns:
        uint8 array (H, W, 3).

    Raises:
        UserError: the file is missing, truncated, no image, or of floating point (whose range it does not
            say); the message names it.
    """
    try:
        with Image.open(path) as image:
            if image.mode == "F":
                raise UserError(f"{path}: floating-point pixels; save it with 8 or 16 bits")
            if image.mode.startswith("I"):  # 16-bit grey, which convert("RGB") would clip at 255
                grey = to_uint8(np.asarray(image, np.float32) / 65535)  # (H, W)
                return np.repeat(grey[..., None], 3, axis=-1)
            return np.asarray(image.convert("RGB"))
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError(f"{path}: not an image") from None
    except Exception as error:  # damage: OSError, SyntaxError (PNG), ValueError (TIFF), RuntimeError (AVIF)
        raise UserError(f"{path}: cannot be read ({_reason(error)})") from None


def write_image(path: str | os.PathLike, image: np.ndarray) -> None:
    """Writes uint8 (H, W, 3) or (H, W) to `path`; the file appears whole or not at all.

    Raises:
        UserError: the folder is missing, read-only or full, or the ending is of no image format.
    """
    path = Path(path)
    image_format = Image.registered_extensions().get(path.suffix.lower())
    if image_format not in Image.SAVE:
        raise UserError(f"{path}: no image format that can be written ends in {path.suffix!r}; use .png")
    encoded = io.BytesIO()
    try:
        Image.fromarray(image).save(encoded, format=image_format)
    except (OSError, ValueError) as error:  # ValueError: more pixels a side than the format can hold
        raise UserError(f"{path}: cannot be written ({_reason(error)})") from None
    write_whole(path, encoded.getvalue())


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


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
