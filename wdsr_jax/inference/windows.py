"""Exact tiles: an image cut into windows, whose results make what the whole image would give.

A network without pooling is local: an output pixel depends on the LR pixels at most `radius` away. So an
image is cut into overlapping windows. Of each window's result the part is kept that lies `radius` pixels from
every side where the image goes on. At the image's own edge nothing is cut off, since there the network pads
with zeros, as it would for the whole image. The result is that of the whole image.

Whoever computes the network is given as a function; this module does without JAX, which takes half a second
to import.
"""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

from wdsr_jax.image.pixels import dihedral, from_float, to_float, undo_dihedral

# LR pixels that a device works on at a time. On a CPU a tile of as many takes seconds, and with larger ones a
# progress bar would stand still; accelerators are busy with as many.
MAX_PIXELS = 1 << 19
# The share of a device's free memory that one tile may take; two are under way at a time.
MEMORY_SHARE = 0.4

# The SR of each window in turn: float32 (h, w, C) each to (h * scale, w * scale, 3).
Apply = Callable[[Iterator[np.ndarray]], Iterator[np.ndarray]]


def upscale_in_windows(
    apply: Apply,
    image: np.ndarray,
    shape: tuple[int, int],
    *,
    scale: int,
    radius: int,
    ensemble: bool = False,
    on_pixels: Callable[[int], object] | None = None,
    network_input: Callable[[np.ndarray, tuple[int, int]], np.ndarray] = lambda lr, corner: lr,
) -> np.ndarray:
    """SR of an image, window by window.

    Args:
        apply: the network.
        image: RGB (H, W, 3), see `check_image`.
        shape: (H, W) of the windows; what is larger than the image is cut to it.
        scale: of the network.
        radius: of the network; 0 where the window is the whole image.
        ensemble: whether to average over the 8 symmetries of the square.
        on_pixels: is called with the number of LR pixels done since the last call.
        network_input: what the network takes for a window of LR whose corner lies at a row and a column.

    Returns:
        (H * scale, W * scale, 3): uint8 for uint8, uint16 for uint16, rounded and clipped; else float32,
        unclipped.
    """
    height, width, _ = image.shape
    rows, columns = (cut(n, side, radius) for n, side in zip((height, width), shape, strict=True))
    windows = list(itertools.product(rows, columns))
    symmetries = range(8 if ensemble else 1)

    def window_inputs() -> Iterator[np.ndarray]:
        for (y, _), (x, _) in windows:
            window = to_float(image[y.start : y.stop, x.start : x.stop])
            for symmetry in symmetries:
                yield dihedral(network_input(window, (y.start, x.start)), symmetry)

    outputs = apply(window_inputs())
    dtype = image.dtype if image.dtype.kind == "u" else np.dtype(np.float32)
    result = np.empty((height * scale, width * scale, 3), dtype)
    for (y, keep_y), (x, keep_x) in windows:
        sr = next(outputs)
        if ensemble:
            sr = sum((undo_dihedral(next(outputs), symmetry) for symmetry in symmetries[1:]), start=sr) / 8
        inner_y = slice((keep_y.start - y.start) * scale, (keep_y.stop - y.start) * scale)
        inner_x = slice((keep_x.start - x.start) * scale, (keep_x.stop - x.start) * scale)
        outer_y = slice(keep_y.start * scale, keep_y.stop * scale)
        outer_x = slice(keep_x.start * scale, keep_x.stop * scale)
        result[outer_y, outer_x] = from_float(sr[inner_y, inner_x], dtype)
        if on_pixels:
            on_pixels(len(keep_y) * len(keep_x))
    return result


def cut(length: int, side: int, radius: int) -> list[tuple[range, range]]:
    """Cuts an axis: windows of at most `side` pixels, and the part of each whose result is kept.

    Windows but the only one are `side` long; the parts kept follow each other without gap or overlap.
    """
    if length <= side:
        return [(range(length), range(length))]
    windows, done = [], 0
    while done < length:
        start = min(max(0, done - radius), length - side)
        stop = start + side
        keep = length if stop == length else stop - radius
        windows.append((range(start, stop), range(done, keep)))
        done = keep
    return windows


def pixels_computed(shape: tuple[int, int], sizes: np.ndarray, radius: int) -> np.ndarray:
    """LR pixels that are computed for images in tiles of `shape` (H, W), see `cut`.

    Args:
        shape: of the tiles.
        sizes: int (N, 2), height and width of each image.
        radius: of the network.

    Returns:
        Float (N,); infinity where tiles are too small to have a part that is kept.
    """
    sides = np.asarray(shape)
    kept = sides - 2 * radius
    more = np.where(kept > 0, np.ceil((sizes - sides) / np.maximum(kept, 1)), np.inf)
    return np.where(sizes <= sides, 1, 1 + more).prod(axis=1) * sides.prod()


def even_windows(size: tuple[int, int], radius: int, room: int) -> tuple[int, int]:
    """Height and width of windows that share an image evenly, so that few pixels are computed twice.

    Args:
        size: (H, W) of the image.
        radius: of the network.
        room: pixels that a window may have; `MAX_PIXELS` at most.
    """
    room = min(MAX_PIXELS, room)
    least = 4 * radius + 1  # half of it is kept

    def sides(length: int) -> set[int]:
        """Of 1, 2 and more windows that share the axis evenly."""
        even = (math.ceil((length - 2 * radius) / n) + 2 * radius for n in range(1, length // least + 2))
        return {max(side, min(least, length)) for side in even}

    shapes = sorted(itertools.product(sides(size[0]), sides(size[1])), key=math.prod)
    fitting = [shape for shape in shapes if math.prod(shape) <= room] or shapes[:1]
    return min(fitting, key=lambda shape: pixels_computed(shape, np.asarray([size]), radius).item())


def check_image(image: object) -> np.ndarray:
    """The image as an array of NumPy.

    Raises:
        ValueError: it is none that can be upscaled: RGB (H, W, 3), of uint8, uint16, or float in [0, 1].
    """
    image = np.asarray(image)
    is_float = "float" in image.dtype.name  # bfloat16 is no floating-point type to NumPy
    if image.dtype not in (np.uint8, np.uint16) and not is_float:
        raise ValueError(f"image must be uint8, uint16 or float, not {image.dtype}")
    if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise ValueError(f"image must be (H, W, 3) and not empty, not {image.shape}")
    if is_float:
        low, high = float(image.min()), float(image.max())
        if low < -1 or high > 2:  # a little outside is what a network's own output is
            raise ValueError(
                f"an image of float must be in [0, 1], not in [{low:.4g}, {high:.4g}]; divide it by its "
                "white, such as 255, or give it as uint8 or uint16"
            )
    return image


def check_tile(radius: int | None, size: tuple[int, int], tile: int | None) -> None:
    """ValueError for tiles of a side that a network of that radius cannot have for an image of `size`."""
    if tile is not None and radius is None:
        raise ValueError("this network takes means over the whole image: it cannot work in tiles")
    if tile is not None and radius is not None and tile <= 2 * radius and tile < max(size):
        raise ValueError(f"tile must be more than {2 * radius} for this network, not {tile}")
