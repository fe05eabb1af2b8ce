"""Image files and pixel types: the one place where images are read, rounded and written."""

import io
import os
from pathlib import Path

import numpy as np
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
    """uint8 in [0, 255] to float32 in [0, 1], any shape."""
    return np.asarray(image, np.float32) / np.float32(255)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Float in [0, 1], unclipped, to uint8: clipped, then rounded half up (as MATLAB does); any shape.

    NaN becomes 0.
    """
    clipped = np.fmin(np.fmax(image, 0), 1)  # fmax takes the number where the other is NaN
    return np.floor(clipped * 255 + 0.5).astype(np.uint8)
