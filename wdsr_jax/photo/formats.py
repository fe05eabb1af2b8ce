"""The image formats that photographs are written in: their file endings and the sizes they can hold."""

import os
from pathlib import Path
from typing import NamedTuple

from wdsr_jax.errors import UserError


class Format(NamedTuple):
    """What a format can hold.

    Attributes:
        suffixes: endings of file names; the first is the usual one.
        max_side: pixels of a side.
        max_pixels: in all.
        has_alpha: whether it holds an alpha channel.
    """

    suffixes: tuple[str, ...]
    max_side: int
    max_pixels: int = 2**62
    has_alpha: bool = False


FORMATS = {
    "png": Format((".png",), 2**31 - 1, has_alpha=True),
    "jpeg": Format((".jpg", ".jpeg", ".jpe", ".jfif"), 65_500),  # libjpeg's
    # WebP holds 512 KB of how its blocks are coded: far above this size libwebp fails, after minutes.
    "webp": Format((".webp",), 16_383, 2**27, has_alpha=True),
    "tiff": Format((".tif", ".tiff"), 2**31 - 1, has_alpha=True),
    "avif": Format((".avif",), 32_768, 2**28, has_alpha=True),  # what libavif reads, and so browsers
    "bmp": Format((".bmp",), 2**31 - 1, 2**30),
    "ppm": Format((".ppm", ".pgm", ".pnm"), 2**31 - 1),
}
# The formats that can be chosen by name, with their ending.
OUTPUT_FORMATS = {name: FORMATS[name].suffixes[0] for name in ("png", "jpeg", "webp", "tiff", "avif")}


def format_of(path: str | os.PathLike) -> str:
    """The format (a key of `FORMATS`) that a file's ending names.

    Raises:
        UserError: none of them.
    """
    suffix = Path(path).suffix.lower()
    for name, output_format in FORMATS.items():
        if suffix in output_format.suffixes:
            return name
    known = ", ".join(OUTPUT_FORMATS.values())
    raise UserError(f"{path}: no image format that can be written ends in {suffix!r}; use one of {known}")


def check_size(name: str | os.PathLike, format: str, width: int, height: int) -> None:
    """Checks that a format can hold an image of that many pixels.

    Args:
        name: of the file, for the message.
        format: a key of `FORMATS`.
        width: pixels.
        height: pixels.

    Raises:
        UserError: it cannot.
    """
    limits = FORMATS[format]
    if max(width, height) > limits.max_side:
        limit = f"{limits.max_side} a side"
    elif width * height > limits.max_pixels:
        limit = f"{limits.max_pixels / 1e6:.0f} million"
    else:
        return
    words = f"{width} x {height} pixels are too many for {format.upper()} (at most {limit}); use .png or .tif"
    raise UserError(f"{name}: {words}")
