"""Upscaling images of any size with a trained network, in memory that does not grow with the image.

A network that is local works in exact tiles (`windows`). Those that are not (EDRN's channel attention takes
means over the whole image) have no `radius`. They get each image whole and at its own size: one compilation a
size, and memory that grows with the image.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from wdsr_jax.errors import UserError
from wdsr_jax.inference.network import (
    Batch,
    Noise,
    apply_batches,
    compile_network,
    fold_for_inference,
    memory_needed,
    network_input,
)
from wdsr_jax.inference.onnx_engine import find_session, upscale_by_session
from wdsr_jax.inference.windows import (
    MAX_PIXELS,
    MEMORY_SHARE,
    check_image,
    check_tile,
    cut,
    pixels_computed,
    upscale_in_windows,
)
from wdsr_jax.system.devices import device_memory, on_cpu

# Sides that tiles may have: a shape is a compilation, so they are few. Above the last one little is gained:
# a margin of 34 pixels (16 blocks) costs 13% there.
TILE_SIDES = (32, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
# What a LR pixel costs a CPU, by the area of its tile: the features of large tiles leave the caches. Measured
# with WDSR-A 16x32 on two cores; tiles smaller than the first cost as much.
_AREAS, _COSTS = (150_000, 260_000, 400_000), (1.0, 1.08, 1.14)
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
    image = check_image(image)
    height, width, _ = image.shape
    check_tile(module.radius, (height, width), tile)
    if session := find_session(module, params, engine):
        return upscale_by_session(session, image, tile=tile, ensemble=ensemble, on_pixels=on_pixels)
    module, params = fold_for_inference(module, params)
    tiling = _choose_tiling(module, params, (height, width), tile, ensemble, tilings or ())

    def apply(windows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        batches = _whole_batches(windows) if module.radius is None else _tile_batches(windows, tiling)
        return apply_batches(module, params, batches, tiling.batch)

    return upscale_in_windows(
        apply,
        image,
        tiling.shape,
        scale=module.scale,
        radius=module.radius or 0,
        ensemble=ensemble,
        on_pixels=on_pixels,
        network_input=lambda lr, corner: network_input(module, lr, noise, corner),
    )


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
        for room in (MAX_PIXELS, MAX_PIXELS // 8, MAX_PIXELS // 64)
    }
    work = {tiling: _cost(tiling.shape, sizes, radius) for tiling in sorted(candidates)}
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


def _best_of(
    tilings: Sequence[Tiling], module: nn.Module, params: Any, size: tuple[int, int]
) -> Tiling | None:
    """The tiling with the least work for an image of `size`; None where none suits it or the memory."""
    work = {
        tiling: _cost(tiling.shape, [size], module.radius).item()
        for tiling in tilings
        if not tiling.filled or (tiling.shape[0] <= size[0] and tiling.shape[1] <= size[1])
    }
    best = min(work, key=lambda tiling: work[tiling], default=None)
    if best is None or work[best] == np.inf:
        return None
    program = compile_network(module, params, (best.batch, *best.shape), filled=best.filled)
    return best if memory_needed(program) <= MEMORY_SHARE * device_memory() else None


def _cost(shape: tuple[int, int], sizes: Sequence[tuple[int, int]], radius: int) -> np.ndarray:
    """What images of `sizes` cost in tiles of `shape`, in LR pixels of small tiles; see `pixels_computed`."""
    a_pixel = np.interp(math.prod(shape), _AREAS, _COSTS) if on_cpu() else 1.0
    return a_pixel * pixels_computed(shape, np.asarray(sizes), radius)


def _tile_batches(pieces: Iterable[np.ndarray], tiling: Tiling) -> Iterator[Batch]:
    pieces = iter(pieces)
    while chunk := list(itertools.islice(pieces, tiling.batch)):
        yield Batch(chunk, tiling.shape, tiling.filled)


def _whole_batches(pieces: Iterable[np.ndarray]) -> Iterator[Batch]:
    """Each by itself: the symmetries of an image have its shape or the transposed one."""
    for piece in pieces:
        yield Batch([piece], piece.shape[:2], filled=True)


def _tiles_that_fit(
    module: nn.Module, params: Any, size: tuple[int, int], tile: int | None, square: bool
) -> Tiling:
    """The tiles for an image of `size`, whose program is compiled then and takes its share of the memory.

    The program is the one that the tiles are computed by. Only where it takes more than its share, another
    is compiled for tiles that are smaller in proportion.
    """
    devices, free = jax.local_device_count(), MEMORY_SHARE * device_memory()
    room, tried = MAX_PIXELS, None
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

    Of the shapes with at most `room` pixels, that with the least cost in all.
    """

    def sides(length: int) -> list[int]:
        if tile is not None and length > tile:
            return [tile]
        fitting = [side for side in TILE_SIDES if side > 2 * radius or side >= length]
        return [side for side in fitting if tile is None or length <= side] or [tile or TILE_SIDES[-1]]

    def cost(shape: tuple[int, int]) -> tuple[bool, float, int]:
        area = shape[0] * shape[1]
        # Where nothing fits, the smallest; where the cost is equal, fewer and larger tiles.
        work = _cost(shape, [size], radius).item()
        return area > room, float(area) if area > room else work, -area

    if square:  # a side that suits the longer axis suits the other
        shapes = [(side, side) for side in sides(max(size))]
    else:
        shapes = list(itertools.product(sides(size[0]), sides(size[1])))
    shape = min(shapes, key=cost)
    devices = jax.local_device_count()
    if on_cpu():
        return shape, devices  # a larger batch gains nothing there
    count = len(cut(size[0], shape[0], radius)) * len(cut(size[1], shape[1], radius))
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
