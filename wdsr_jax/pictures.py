"""Pictures for people: panels side by side with captions."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_MARGIN = 8


def side_by_side(panels: Sequence[tuple[str, np.ndarray]], width: int = 1600) -> np.ndarray:
    """Images of one shape beside each other, the caption below each.

    Args:
        panels: caption (lines separated by newlines) and uint8 (H, W, 3).
        width: of the whole picture, about; panels are magnified by a whole factor to fill it.

    Returns:
        uint8 (H', W', 3), on white.
    """
    height, panel_width, _ = panels[0][1].shape
    factor = max(1, (width // len(panels) - _MARGIN) // panel_width)
    height, panel_width = height * factor, panel_width * factor
    font = ImageFont.load_default(max(12, panel_width // 20))
    lines = max(caption.count("\n") + 1 for caption, _ in panels)
    caption_height = int(lines * font.size * 1.3) + _MARGIN
    size = (len(panels) * (panel_width + _MARGIN) + _MARGIN, height + caption_height + 2 * _MARGIN)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    for i, (caption, image) in enumerate(panels):
        left = _MARGIN + i * (panel_width + _MARGIN)
        # Nearest: what is shown are the pixels, not another interpolation of them.
        panel = Image.fromarray(image).resize((panel_width, height), Image.Resampling.NEAREST)
        picture.paste(panel, (left, _MARGIN))
        centre = (left + panel_width // 2, height + _MARGIN + _MARGIN // 2)
        draw.multiline_text(centre, caption, fill="black", font=font, anchor="ma", align="center")
    return np.asarray(picture)


def nearest(image: np.ndarray, scale: int) -> np.ndarray:
    """(H, W, 3) to (H * scale, W * scale, 3), each pixel a square."""
    return image.repeat(scale, 0).repeat(scale, 1)


def busiest_crop(image: np.ndarray, size: int, align: int) -> tuple[slice, slice]:
    """Where the most detail is: the crop of `size` pixels a side with the largest gradients.

    Args:
        image: uint8 (H, W, 3).
        size: side of the crop, a multiple of `align`; less where the image is smaller.
        align: the corner is a multiple of this.

    Returns:
        Rows and columns.
    """
    grey = image.mean(axis=-1)
    detail = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]  # (H-1, W-1)
    sums = np.pad(detail.cumsum(0).cumsum(1), ((1, 0), (1, 0)))  # sums[i, j] = detail[:i, :j].sum()
    height, width = (min(size, side // align * align) for side in grey.shape)
    tops = np.arange(0, grey.shape[0] - height + 1, align)[:, None]
    lefts = np.arange(0, grey.shape[1] - width + 1, align)[None, :]
    bottoms, rights = np.minimum(tops + height, len(detail)), np.minimum(lefts + width, detail.shape[1])
    total = sums[bottoms, rights] - sums[tops, rights] - sums[bottoms, lefts] + sums[tops, lefts]
    i, j = np.unravel_index(total.argmax(), total.shape)
    top, left = int(tops[i, 0]), int(lefts[0, j])
    return slice(top, top + height), slice(left, left + width)
