"""Images side by side in panels with captions."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wdsr_jax.image.metrics import TooSmallError, psnr
from wdsr_jax.image.resize import imresize

_MARGIN = 8
_DETAIL = 48  # LR pixels a side of the part that is magnified: at 96 the eye hardly tells bicubic from HR
_LONGEST_NAME = 32


def before_after(
    lr: np.ndarray, sr: np.ndarray, hr: np.ndarray, scale: int, name: str, network: str
) -> np.ndarray:
    """The most detailed part of an image: nearest, bicubic, the network, HR, with PSNR-Y of the whole image.

    At scale 1 a single panel of LR stands in place of nearest and bicubic.

    Args:
        lr: uint8 (H, W, 3).
        sr: uint8 (H * scale, W * scale, 3), the network's.
        hr: uint8, of the shape of `sr`.
        scale: the upscaling factor.
        name: of the image.
        network: its name.

    Returns:
        uint8 (H', W', 3), about 1600 pixels wide.
    """
    rows, columns = busiest_crop(hr, _DETAIL * scale, scale)

    def panel(method: str, image: np.ndarray) -> tuple[str, np.ndarray]:
        try:
            value = f"{psnr(image, hr, scale=scale):.2f} dB"
        except TooSmallError:
            value = "-"
        return f"{method}\nPSNR {value}", image[rows, columns]

    if len(name) > _LONGEST_NAME:
        name = name[: _LONGEST_NAME - 3] + "..."
    if scale == 1:
        upscaled = [panel("LR", lr)]
    else:
        upscaled = [
            panel(f"LR x{scale}, nearest", nearest(lr, scale)),
            panel("bicubic", imresize(lr, scale)),
        ]
    return side_by_side([*upscaled, panel(network, sr), (f"HR\n{name}", hr[rows, columns])])


def side_by_side(panels: Sequence[tuple[str, np.ndarray]], width: int = 1600) -> np.ndarray:
    """Images of one shape beside each other, the caption below each.

    Args:
        panels: caption (lines separated by newlines) and uint8 (H, W, 3).
        width: of the whole picture, about: panels are magnified by a whole factor to fill it, but not to more
            than that height. The picture is wider where a caption is wider than its panel.

    Returns:
        uint8 (H', W', 3), on white.
    """
    height, panel_width, _ = panels[0][1].shape
    factor = max(1, min((width // len(panels) - _MARGIN) // panel_width, width // height))
    height, panel_width = height * factor, panel_width * factor
    font = ImageFont.load_default(max(12, panel_width // 20))
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    # (left, top, right, bottom) of each caption, the anchor being its top centre
    boxes = [
        measure.multiline_textbbox((0, 0), text, font, anchor="ma", align="center") for text, _ in panels
    ]
    column = max(panel_width, *(2 * math.ceil(max(-box[0], box[2])) for box in boxes))
    caption_height = math.ceil(max(box[3] for box in boxes))
    size = (len(panels) * (column + _MARGIN) + _MARGIN, height + caption_height + 3 * _MARGIN)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    for i, (caption, image) in enumerate(panels):
        centre = _MARGIN + i * (column + _MARGIN) + column // 2
        # Nearest shows the pixels themselves, without another interpolation.
        panel = Image.fromarray(image).resize((panel_width, height), Image.Resampling.NEAREST)
        picture.paste(panel, (centre - panel_width // 2, _MARGIN))
        below = (centre, height + 2 * _MARGIN)
        draw.multiline_text(below, caption, fill="black", font=font, anchor="ma", align="center")
    return np.asarray(picture)


def nearest(image: np.ndarray, scale: int) -> np.ndarray:
    """(H, W, 3) to (H * scale, W * scale, 3), each pixel a square."""
    return image.repeat(scale, 0).repeat(scale, 1)


def busiest_crop(image: np.ndarray, size: int, align: int) -> tuple[slice, slice]:
    """The crop of `size` pixels a side with the most detail: the largest sum of absolute differences.

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
