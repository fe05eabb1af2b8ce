"""The size of a result: in pixels, and in words for names."""

import argparse
import math


def target_size(
    size: tuple[int, int],
    *,
    scale: float | None = None,
    width: int | None = None,
    height: int | None = None,
    megapixels: float | None = None,
) -> tuple[int, int]:
    """Height and width of the result for a photograph of `size` (H, W).

    One of `scale`, `megapixels` and `width`/`height` is given; of the latter, a side that is not given
    follows from the photograph's proportions.

    Raises:
        ValueError: none of them is given.
    """
    if width or height:
        by_width, by_height = (width or math.inf) / size[1], (height or math.inf) / size[0]
        return height or _round(size[0] * by_width), width or _round(size[1] * by_height)
    if megapixels:
        scale = math.sqrt(megapixels * 1e6 / (size[0] * size[1]))
    if scale is None:
        raise ValueError("no size is given")
    return _round(size[0] * scale), _round(size[1] * scale)


def _round(side: float) -> int:
    return max(1, math.floor(side + 0.5))


def size_label(args: argparse.Namespace) -> str:
    """The size that the arguments ask for, for names: `x4`, `3840w`, `2160h`, `3840x2160`, `12MP`."""
    if args.scale:
        return f"x{args.scale:g}"
    if args.megapixels:
        return f"{args.megapixels:g}MP"
    if args.width and args.height:
        return f"{args.width}x{args.height}"
    return f"{args.width}w" if args.width else f"{args.height}h"
