"""Upscaling images with a trained network: exact tiles, any size, memory that does not grow with the image.

A network without pooling is local: an output pixel depends on the LR pixels at most `module.radius` away.
So an image is cut into overlapping windows. Of each window's result the part is kept that lies `radius`
pixels from every side where the image goes on. At the image's own edge nothing is cut off, since there the
network pads with zeros, as it would for the whole image. The result is that of the whole image.

Networks that are not local (EDRN's channel attention takes means over the whole image) have no `radius`. They
get each image whole and at its own size: one compilation a size, and memory that grows with the image.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from wdsr_jax.errors import UserError
from wdsr_jax.image.pixels import dihedral, from_float, to_float, undo_dihedral
from wdsr_jax.inference.network import (
    Batch,
    Noise,
    apply_batches,
    compile_network,
    fold_for_inference,
    memory_needed,
    network_input,
)
from wdsr_jax.inference.onnx_engine import apply_session, find_session
from wdsr_jax.system.memory import device_memory

# Sides that tiles may have: a shape is a compilation, so they are few. Above the last one little is gained:
# a margin of 34 pixels (16 blocks) costs 13% there.
TILE_SIDES = (32, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
# The share of a device's free memory that one program may take; two are under way at a time.
_MEMORY_SHARE = 0.4
# LR pixels that a device works on at a time. On a CPU a tile of as many takes seconds, and with larger ones a
# progress bar would stand still; accelerators are busy with as many.
_MAX_PIXELS = 1 << 19
# What ONNX Runtime takes for a LR pixel, at most: WDSR a third of it.
_BYTES_A_PIXEL = 1 << 13

# LR pixels that a CPU computes in the time of a compilation, roughly: some 3 seconds for WDSR-A.
_COMPILATION = 1 << 17


class Tiling(NamedTuple):
    """How images are cut: one program, compiled once.

    Attributes:
        shape: (H, W) of the tiles.
        batch: how many are computed at once, over all devices.
        filled: whether every window of an image has that shape.
    """

    shape: tuple[int, int]
    batch: int
    filled: bool


def upscale(
    module: nn.Module,
    params: Any,
    image: np.ndarray | jax.Array,
    *,
    tile: int | None = None,
    ensemble: bool = False,
    noise: Noise | None = None,
    on_pixels: Callable[[int], Any] | None = None,
    tilings: Sequence[Tiling] | None = None,
    engine: str | None = "xla",
) -> UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W 3"] | Float32[np.ndarray, "H W 3"]:
    """Upscales one image by the network's scale, in tiles that give what the whole image would.

    Tiled and whole agree to float32 rounding, at every size and every tile.

    Args:
        module: a network from `create_model` or `load_pretrained`.
        params: its parameters.
        image: RGB (H, W, 3), any size from 1x1: uint8, uint16, or float in [0, 1].
        tile: side of the tiles in LR pixels, more than twice `module.radius`; None: from the memory at hand,
            or none for a network without a radius.
        ensemble: whether to average over the 8 symmetries of the square ("self-ensemble", EDSR,
            arXiv:1707.02921, section 3.4): 8 times the work.
        noise: of a `FlowSampler`, see `network_input`: the same for a pixel whatever the tiles are.
        on_pixels: is called with the number of LR pixels done since the last call, for a progress bar.
        tilings: of `plan_tilings`, for one image of many; None: what suits this one best.
        engine: `xla`; `onnx` for ONNX Runtime, the same to 1e-5 and on CPUs faster; None: that on CPUs where
            the extra `onnx` is installed and it can compute the network. It traces the network once for each
            `params`.

    Returns:
        (H * scale, W * scale, 3): uint8 for uint8, uint16 for uint16, rounded and clipped; else float32,
        unclipped.

    Raises:
        ValueError: another shape or type of image, floats far outside [0, 1], a tile that is too small, or
            any for a network without a radius.
        UserError: an image too large for the memory at hand, for such a network; or `onnx` cannot be had.
    """
    image = _checked(image)
    height, width, _ = image.shape
    scale, size = module.scale, (height, width)
    _check_tile(module, size, tile)
    session, tiling = find_session(module, params, engine), None
    if session:
        shape = _even_tiles(size, module.radius, tile)
    else:
        module, params = fold_for_inference(module, params)
        tiling = _choose_tiling(module, params, size, tile, ensemble, tilings or ())
        shape = tiling.shape
    rows, columns = (
        _windows(length, side, module.radius or 0) for length, side in zip(size, shape, strict=True)
    )
    windows = list(itertools.product(rows, columns))
    symmetries = range(8 if ensemble else 1)
    pieces = (
        dihedral(
            network_input(
                module, to_float(image[y.start : y.stop, x.start : x.stop]), noise, (y.start, x.start)
            ),
            symmetry,
        )
        for (y, _), (x, _) in windows
        for symmetry in symmetries
    )
    if tiling:
        batches = _whole_batches(pieces) if module.radius is None else _tile_batches(pieces, tiling)
        outputs = apply_batches(module, params, batches, tiling.batch)
    else:
        outputs = apply_session(session, pieces)
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


def plan_tilings(
    module: nn.Module,
    sizes: Sequence[tuple[int, int]],
    *,
    tile: int | None = None,
    ensemble: bool = False,
    most: int = 3,
) -> list[Tiling] | None:
    """The few tilings for many images, for `upscale`: each is a compilation.

    They are added one by one, as long as one saves more work than its compilation is.

    Args:
        module: a network.
        sizes: (H, W) of each image.
        tile: see `upscale`.
        ensemble: see `upscale`.
        most: how many there may be.

    Returns:
        At most `most`; None for a network without a radius, which needs one for each size.
    """
    radius = module.radius
    if radius is None:
        return None
    candidates = {
        Tiling(*_choose_tiles(size, radius, room, tile, ensemble), filled=False)
        for size in set(sizes)
        for room in (_MAX_PIXELS, _MAX_PIXELS // 8, _MAX_PIXELS // 64)
    }
    work = {tiling: _work(tiling.shape, np.asarray(sizes), radius) for tiling in sorted(candidates)}
    chosen: list[Tiling] = []
    least = np.full(len(sizes), np.inf)
    while len(chosen) < most:
        best = min(work, key=lambda tiling: np.minimum(least, work[tiling]).sum())
        after = np.minimum(least, work[best])
        if chosen and least.sum() - after.sum() <= _COMPILATION:
            break
        chosen, least = [*chosen, best], after
    # Where all images are larger than a tile, no masks are needed.
    return [
        tiling._replace(filled=all(tiling.shape[0] <= h and tiling.shape[1] <= w for h, w in sizes))
        for tiling in chosen
    ]


def _check_tile(module: nn.Module, size: tuple[int, int], tile: int | None) -> None:
    """ValueError for tiles of a side that the network cannot have for an image of `size`."""
    if tile is not None and module.radius is None:
        raise ValueError("this network takes means over the whole image: it cannot work in tiles")
    if tile is not None and tile <= 2 * module.radius and tile < max(size):
        raise ValueError(f"tile must be more than {2 * module.radius} for this network, not {tile}")


def _choose_tiling(
    module: nn.Module,
    params: Any,
    size: tuple[int, int],
    tile: int | None,
    square: bool,
    tilings: Sequence[Tiling],
) -> Tiling:
    """The tiles of XLA for an image of `size`, whose program is compiled then; see `upscale`."""
    if module.radius is None:
        return _whole_image(module, params, size)
    planned = _best_of(tilings, module, params, size)
    return planned or _tiles_that_fit(module, params, size, tile, square)


def _even_tiles(size: tuple[int, int], radius: int, tile: int | None) -> tuple[int, int]:
    """Height and width of the tiles of ONNX Runtime, which takes any: as few pixels as possible twice."""
    if tile is not None:
        return tile, tile
    room = min(_MAX_PIXELS, int(_MEMORY_SHARE * device_memory() / _BYTES_A_PIXEL))
    least = 4 * radius + 1  # half of it is kept

    def sides(length: int) -> set[int]:
        """Of 1, 2 and more windows that share the axis evenly."""
        even = (math.ceil((length - 2 * radius) / n) + 2 * radius for n in range(1, length // least + 2))
        return {max(side, min(least, length)) for side in even}

    shapes = sorted(itertools.product(sides(size[0]), sides(size[1])), key=math.prod)
    fitting = [shape for shape in shapes if math.prod(shape) <= room] or shapes[:1]
    return min(fitting, key=lambda shape: _work(shape, np.asarray([size]), radius).item())


def _best_of(
    tilings: Sequence[Tiling], module: nn.Module, params: Any, size: tuple[int, int]
) -> Tiling | None:
    """The tiling with the least work for an image of `size`; None where none suits it or the memory."""
    work = {
        tiling: _work(tiling.shape, np.asarray([size]), module.radius).item()
        for tiling in tilings
        if not tiling.filled or (tiling.shape[0] <= size[0] and tiling.shape[1] <= size[1])
    }
    best = min(work, key=lambda tiling: work[tiling], default=None)
    if best is None or work[best] == np.inf:
        return None
    program = compile_network(module, params, (best.batch, *best.shape), filled=best.filled)
    return best if memory_needed(program) <= _MEMORY_SHARE * device_memory() else None


def _work(shape: tuple[int, int], sizes: np.ndarray, radius: int) -> np.ndarray:
    """LR pixels that are computed for images in tiles of `shape` (H, W), see `_windows`.

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


def _checked(image: np.ndarray | jax.Array) -> np.ndarray:
    """The image as an array of NumPy; ValueError where it is none that can be upscaled."""
    image = np.asarray(image)
    if image.dtype not in (np.uint8, np.uint16) and not jnp.issubdtype(image.dtype, np.floating):
        raise ValueError(f"image must be uint8, uint16 or float, not {image.dtype}")
    if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise ValueError(f"image must be (H, W, 3) and not empty, not {image.shape}")
    if image.dtype.kind != "u":
        low, high = float(image.min()), float(image.max())
        if low < -1 or high > 2:  # a little outside is what a network's own output is
            raise ValueError(
                f"an image of float must be in [0, 1], not in [{low:.4g}, {high:.4g}]; divide it by its "
                "white, such as 255, or give it as uint8 or uint16"
            )
    return image


def _tile_batches(pieces: Iterable[np.ndarray], tiling: Tiling) -> Iterator[Batch]:
    pieces = iter(pieces)
    while chunk := list(itertools.islice(pieces, tiling.batch)):
        yield Batch(chunk, tiling.shape, tiling.filled)


def _whole_batches(pieces: Iterable[np.ndarray]) -> Iterator[Batch]:
    """Each by itself: the symmetries of an image have its shape or the transposed one."""
    for piece in pieces:
        yield Batch([piece], piece.shape[:2], filled=True)


def _windows(length: int, side: int, radius: int) -> list[tuple[range, range]]:
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


def _tiles_that_fit(
    module: nn.Module, params: Any, size: tuple[int, int], tile: int | None, square: bool
) -> Tiling:
    """The tiles for an image of `size`, whose program is compiled then and takes its share of the memory.

    The program is the one that the tiles are computed by. Only where it takes more than its share, another
    is compiled for tiles that are smaller in proportion.
    """
    devices, free = jax.local_device_count(), _MEMORY_SHARE * device_memory()
    room, tried = _MAX_PIXELS, None
    while True:
        shape, batch = _choose_tiles(size, module.radius, room, tile, square)
        tiling = Tiling(shape, batch, filled=shape[0] <= size[0] and shape[1] <= size[1])
        program = compile_network(module, params, (batch, *shape), filled=tiling.filled)
        needed = memory_needed(program)
        if needed <= free or tiling == tried:  # or no smaller tile is left
            return tiling
        room, tried = int(math.prod(shape) * (batch // devices) * free / needed), tiling


def _choose_tiles(
    size: tuple[int, int], radius: int, room: int, tile: int | None = None, square: bool = False
) -> tuple[tuple[int, int], int]:
    """Height and width of the tiles for an image of `size`, and how many go in a batch over all devices.

    Of the shapes with at most `room` pixels, that with which the fewest pixels are computed in all.
    """

    def sides(length: int) -> list[int]:
        if tile is not None and length > tile:
            return [tile]
        fitting = [side for side in TILE_SIDES if side > 2 * radius or side >= length]
        return [side for side in fitting if tile is None or length <= side] or [tile or TILE_SIDES[-1]]

    def cost(shape: tuple[int, int]) -> tuple[bool, float, int]:
        area = shape[0] * shape[1]
        # Where nothing fits, the smallest; where the work is equal, fewer and larger tiles.
        work = _work(shape, np.asarray([size]), radius).item()
        return area > room, float(area) if area > room else work, -area

    if square:  # a side that suits the longer axis suits the other
        shapes = [(side, side) for side in sides(max(size))]
    else:
        shapes = list(itertools.product(sides(size[0]), sides(size[1])))
    shape = min(shapes, key=cost)
    devices = jax.local_device_count()
    if jax.default_backend() == "cpu":
        return shape, devices  # a larger batch gains nothing there
    count = len(_windows(size[0], shape[0], radius)) * len(_windows(size[1], shape[1], radius))
    area = shape[0] * shape[1]
    fit = max(1, room // area)
    return shape, devices * min(fit, -(-count // devices))


def _whole_image(module: nn.Module, params: Any, size: tuple[int, int]) -> Tiling:
    """One tile, the image itself, for a network that needs the whole image; its program is compiled then."""
    devices, free = jax.local_device_count(), device_memory()
    needed = memory_needed(compile_network(module, params, (devices, *size), filled=True))
    if needed > free:
        raise UserError(
            f"an image of {size[1]} x {size[0]} pixels needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB "
            "are free; the network takes means over the whole image and cannot work in tiles: make it smaller"
        )
    return Tiling(size, devices, filled=True)
