"""A page that shows images before and after, with a divider to drag: a single HTML file.

Before is the LR image itself, its pixels as squares (nearest), or bicubic, as the reader chooses; after is
SR. The LR image is embedded without loss. Bicubic and SR are AVIF, 4:4:4 of quality 95: 0.3 MB for a million
pixels, about 45 dB from the original, where WebP without loss would take 1.2 MB and PNG 1.3 MB (Set14, x4).
"""

import base64
import html
import io
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import resources
from string import Template
from typing import Any

import numpy as np
from absl import logging
from PIL import Image

from wdsr_jax.system.files import path_errors, replacing

MOST_PIXELS = 2_000_000  # of one image; of larger ones the centre is shown
MOST_BYTES = 150_000_000  # of a page; images that come later are left out
_MARKER = "<!-- figure -->\n"  # before and after the part that is repeated for each image


@contextmanager
def comparison_page(path: str | os.PathLike, method: str = "WDSR") -> Iterator[Callable[..., None]]:
    """Writes the page image by image; it appears at the end, whole, or not at all after an exception.

    with comparison_page("compare.html") as add:
        add("a.png", lr, sr)

    `add(name, lr, sr, icc_profile=None)` takes uint8 (H, W, 3) and (H', W', 3) of any ratio, and the profile
    of both if they are not sRGB, and keeps no reference to them. `sr` may be several by their labels, between
    which the page switches. The page has the centre of an image of more
    than `MOST_PIXELS`. Images after `MOST_BYTES` are left out; the page gives their number. Without an image
    no page is written.

    Args:
        path: of the page.
        method: what made the SR images, for the labels.

    Yields:
        The function `add`.

    Raises:
        UserError: the folder is missing, read-only or full, or `path` is a folder.
    """
    head, figure, tail = read_page("compare.html").split(_MARKER)
    page, left_out = None, 0
    with ExitStack() as stack:

        def add(
            name: str,
            lr: np.ndarray,
            sr: np.ndarray | Mapping[str, np.ndarray],
            icc_profile: bytes | None = None,
        ) -> None:
            nonlocal page, left_out
            with path_errors(path):
                if page is None:
                    page = stack.enter_context(replacing(path))
                    page.write(head.encode())
                if page.tell() > MOST_BYTES:
                    left_out += 1
                    return
                several = sr if isinstance(sr, Mapping) else {"": sr}
                fields = _fields(name, lr, several, method, icc_profile)
                page.write(Template(figure).substitute(fields).encode())

        yield add
        if page is None:
            return
        with path_errors(path):
            if left_out:
                logging.warning("%s: is full; %d images are not in it", path, left_out)
                page.write(f"<p>{left_out} more would have made this page too large.</p>\n".encode())
            page.write(tail.encode())
            stack.close()


def read_page(name: str) -> str:
    """A page of this package, `NAME.html`, with the style and the script of the divider in their places."""
    folder = resources.files("wdsr_jax.photo")
    page = folder.joinpath(name).read_text(encoding="utf-8")
    for part in ("slider.css", "slider.js"):
        page = page.replace(f"/* {part} */\n", folder.joinpath(part).read_text(encoding="utf-8"))
    return page


def _fields(
    name: str, lr: np.ndarray, several: Mapping[str, np.ndarray], method: str, icc_profile: bytes | None
) -> dict[str, str | float]:
    """The values of the fields of the template, escaped."""
    sr = next(iter(several.values()))
    lr_part, sr_part = shown_parts(lr.shape, sr.shape)
    top, bottom, left, right = (
        edge * small / large  # edges of the part of SR, in pixels of LR
        for part, small, large in zip(sr_part, lr.shape, sr.shape, strict=False)
        for edge in (part.start, part.stop)
    )
    height, width, _ = sr[sr_part].shape
    # Pillow's bicubic is imresize's but for rounding, and does a part of an image, at any ratio.
    box = (left, top, min(right, lr.shape[1]), min(bottom, lr.shape[0]))
    bicubic = Image.fromarray(lr).resize((width, height), Image.Resampling.BICUBIC, box)
    sizes = f"{lr.shape[1]}x{lr.shape[0]} → {sr.shape[1]}x{sr.shape[0]}"
    if (height, width) != sr.shape[:2]:
        sizes += f"; its centre, {width}x{height}"
    avif = {"quality": 95, "subsampling": "4:4:4", "speed": 10, "icc_profile": icc_profile}
    shown_name = html.escape(os.fsencode(name).decode(errors="replace"))  # it need not be UTF-8
    after = [
        f'<img class="after" data-label="{html.escape(label)}" draggable="false" '
        f'src="{_data_url(Image.fromarray(image[sr_part]), "AVIF", **avif)}" '
        f'alt="{shown_name}, upscaled by {html.escape(method)} {html.escape(label)}">'
        for label, image in several.items()
    ]
    return {
        "name": shown_name,
        "method": html.escape(method),
        "sizes": sizes,
        "width": width,
        "ratio": width / height,
        "after": "\n      ".join(after),
        "bicubic": _data_url(bicubic, "AVIF", **avif),
        "nearest": _data_url(Image.fromarray(lr[lr_part]), "PNG", icc_profile=icc_profile),
    }


def shown_parts(lr_shape: tuple[int, ...], sr_shape: tuple[int, ...]) -> tuple[tuple[slice, slice], ...]:
    """The rows and columns that are shown, of LR and of SR: whole LR pixels, of SR the nearest to them.

    They are all, or the centre of images of more than `MOST_PIXELS`.

    Args:
        lr_shape: (H, W, ...).
        sr_shape: (H', W', ...).
    """
    pixels = max(lr_shape[0] * lr_shape[1], sr_shape[0] * sr_shape[1])
    share = min(1.0, math.sqrt(MOST_PIXELS / pixels))
    lr_part, sr_part = [], []
    for small, large in zip(lr_shape[:2], sr_shape[:2], strict=True):
        length = max(1, int(small * share))
        start = (small - length) // 2
        first = min(large - 1, round(start * large / small))
        lr_part.append(slice(start, start + length))
        sr_part.append(slice(first, max(first + 1, round((start + length) * large / small))))
    return tuple(lr_part), tuple(sr_part)


def _data_url(image: Image.Image, image_format: str, **options: Any) -> str:
    encoded = io.BytesIO()
    image.save(encoded, image_format, **options)
    return f"data:image/{image_format.lower()};base64,{base64.b64encode(encoded.getvalue()).decode()}"
