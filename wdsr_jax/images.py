"""Image files and pixel types: the one place where images are read, rounded and written."""

import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from wdsr_jax.errors import UserError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".ppm", ".pgm")


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Reads an image file as RGB.

    Grey images become R = G = B and palettes are resolved; alpha is dropped.

    Args:
        path: a file of any format that Pillow reads.

    Returns:
        uint8 array (H, W, 3).

    Raises:
        UserError: the file is missing, truncated or no image; the message names it.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError:
        raise UserError(f"{path}: not an image") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow reports damage as SyntaxError or ValueError in some decoders (PNG chunks, TIFF tags).
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UserError(f"{path}: cannot be read ({reason})") from None


def write_image(path: str | os.PathLike, image: np.ndarray) -> None:
    """Writes uint8 (H, W, 3) or (H, W) to `path`; the file appears whole or not at all.

    Raises:
        UserError: the folder is missing, read-only or full.
    """
    path = Path(path)
    try:
        # mkstemp, not a fixed name: two processes may write the same file.
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=path.suffix)
        try:
            with os.fdopen(handle, "wb") as file:
                Image.fromarray(image).save(file, format=Image.registered_extensions()[path.suffix])
            os.chmod(temporary, 0o644)  # mkstemp makes it private
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None


def to_float(image: np.ndarray) -> np.ndarray:
    """uint8 in [0, 255] to float32 in [0, 1], any shape."""
    return np.asarray(image, np.float32) / np.float32(255)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Float in [0, 1], unclipped, to uint8: clipped, then rounded half up (as MATLAB does); any shape."""
    return np.floor(np.clip(np.asarray(image), 0, 1) * 255 + 0.5).astype(np.uint8)
