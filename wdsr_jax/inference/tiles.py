"""Upscaling images with a trained network: exact tiles, any size, memory that does not grow with the image.

A network without pooling is local: an output pixel depends on the LR pixels at most `module.radius` away.
So an image is cut into overlapping windows, and of each one's result the part is kept that lies `radius`
pixels from every side where the image goes on. At the image's own edge nothing is cut off, since there the
network pads with zeros, as it would for the whole image. The result is that of the whole image.

Networks that are not local (EDRN's channel attention takes means over the whole image) have no `radius`. They
get each image whole and at its own size: one compilation a size, and memory that grows with the image.
"""

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from wdsr_jax.errors import UserError
from wdsr_jax.image.pixels import dihedral, from_float, to_float, undo_dihedral
from wdsr_jax.models import fold_weight_norm, replace_fields
from wdsr_jax.models.layers import Conv
from wdsr_jax.models.resampling import Bicubic
from wdsr_jax.system.memory import device_memory

# Sides that tiles may have: a shape is a compilation, so they are few. Above the last one little is gained:
# a margin of 34 pixels (16 blocks) costs 13% there.
TILE_SIDES = (32, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
# The share of a device's free memory that features may take.
_MEMORY_SHARE = 0.4
# LR pixels that a device works on at a time. On a CPU a tile of as many takes seconds, and larger ones would
# leave a progress bar standing; accelerators are busy with as many.
_MAX_PIXELS = 1 << 19
_POLL_SECONDS = 0.002


def for_inference(module: nn.Module, params: Any) -> tuple[nn.Module, Any]:
    """The same network in float32 with its norm multiplied out, whatever it was trained with."""
    # Jitted: op by op it would compile some 24 times, and run as many times as there are layers.
    return replace_fields(module, norm="none", dtype=jnp.dtype("float32")), jax.jit(fold_weight_norm)(params)


@functools.cache
def compiler_options() -> dict[str, str]:
    """What to give `jax.jit` as `compiler_options` for a network that is applied, not trained.

    On CPUs XLA leaves convolutions and products to a library, YNNPACK, by default. That has the faster
    gradients, but the slower networks: XLA's own convolutions of whole images use all cores. Elsewhere, and
    where XLA does not know the option (it is not in every version), there are none.
    """
    if jax.default_backend() != "cpu":
        return {}
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    try:
        jax.jit(jnp.negative, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options


def apply_padded(module: nn.Module, params: Any, lr: jax.Array, sizes: jax.Array | None = None) -> jax.Array:
    """Applies the network to images padded to one shape, each as if it stood alone at its own size.

    A network pads every convolution's input with zeros at the image's edge. Behind padding, features are
    no longer zero after the first layer, so the input of each convolution is masked to the image again. What
    `Bicubic` enlarges goes on beyond the image's edge as it is there.

    Args:
        module: a network whose convolutions are `layers.Conv` at the resolution of its input or a multiple;
            or one without a radius, for which each image must fill (H, W).
        params: its parameters.
        lr: float (B, H, W, 3) in [0, 1]; image b fills [:height, :width], the rest is of no account.
        sizes: int (B, 2): height and width of each image; None where all fill (H, W), which saves the masks.

    Returns:
        Float32 (B, H * scale, W * scale, 3), unclipped; meaningful in [:height * scale, :width * scale].
    """
    # Full float32: by default GPUs and TPUs would round the factors of a product to 10 or 8 bits.
    with jax.default_matmul_precision("highest"):
        if module.radius is None or sizes is None:
            return module.apply({"params": params}, lr)
        with nn.intercept_methods(_mask_inputs(lr.shape[1:3], sizes)):
            return module.apply({"params": params}, lr)


def _mask_inputs(shape: tuple[int, int], sizes: jax.Array) -> Callable[..., Any]:
    """Flax's interceptor that keeps the input of each layer as it is in images of `sizes`, see above."""
    h, w = shape
    rows = jnp.arange(h)[None, :] < sizes[:, :1]  # (B, H)
    columns = jnp.arange(w)[None, :] < sizes[:, 1:]  # (B, W)

    def mask_input(call, args, kwargs, context):
        layer = context.module if context.method_name == "__call__" else None
        if isinstance(layer, Conv) and layer.kernel_size > 1:
            ratio = args[0].shape[1] // h  # above 1 behind a pixel shuffle
            inside = jnp.repeat(rows, ratio, 1)[:, :, None] & jnp.repeat(columns, ratio, 1)[:, None, :]
            args = (jnp.where(inside[..., None], args[0], 0), *args[1:])  # (B, H, W, 1) against channels
        elif isinstance(layer, Bicubic):
            y, x = (jnp.minimum(jnp.arange(n)[None, :], sizes[:, i, None] - 1) for i, n in enumerate((h, w)))
            rows_continued = jnp.take_along_axis(args[0], y[:, :, None, None], axis=1)
            args = (jnp.take_along_axis(rows_continued, x[:, None, :, None], axis=2),)
        return call(*args, **kwargs)

    return mask_input


@functools.cache  # one compilation a shape, however often inference comes back
def parallel_apply(
    module: nn.Module,
) -> Callable[[Any, np.ndarray, np.ndarray | None], jax.Array]:
    """`apply_padded` of the network on all devices of this host: (params, lr, sizes) -> sr.

    The batch, a multiple of the devices, is split among them; the parameters are on each.
    """
    mesh = Mesh(np.asarray(jax.local_devices()), ("batch",))
    everywhere, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("batch"))
    apply = jax.jit(
        functools.partial(apply_padded, module),
        in_shardings=(everywhere, split, split),
        out_shardings=split,
        compiler_options=compiler_options(),
    )
    # Put there before: of several processes JAX takes a NumPy array for a share of one global array.
    return lambda params, lr, sizes: apply(
        jax.device_put(params, everywhere), jax.device_put(lr, split), jax.device_put(sizes, split)
    )


def upscale(
    module: nn.Module,
    params: Any,
    image: np.ndarray | jax.Array,
    *,
    tile: int | None = None,
    ensemble: bool = False,
    on_pixels: Callable[[int], Any] | None = None,
) -> np.ndarray:
    """Enlarges one image by the network's scale, in tiles that give what the whole image would.

    Tiled and whole agree to float32 rounding, at every size and every tile.

    Args:
        module: a network from `create_model` or `load_pretrained`.
        params: its parameters.
        image: RGB (H, W, 3), any size from 1x1: uint8, uint16, or float in [0, 1].
        tile: side of the tiles in LR pixels, more than twice `module.radius`; None: from the memory at hand,
            or none for a network without a radius.
        ensemble: whether to average over the 8 symmetries of the square ("self-ensemble", EDSR,
            arXiv:1707.02921, section 3.4): 8 times the work.
        on_pixels: is called with the number of LR pixels done since the last call, for a progress bar.

    Returns:
        (H * scale, W * scale, 3): uint8 for uint8, uint16 for uint16, rounded and clipped; else float32,
        unclipped.

    Raises:
        ValueError: another shape or type of image, a tile that is too small, or any for a network without a
            radius.
        UserError: an image too large for the memory at hand, for such a network.
    """
    image = np.asarray(image)
    if image.dtype not in (np.uint8, np.uint16) and not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(f"image must be uint8, uint16 or float, not {image.dtype}")
    if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise ValueError(f"image must be (H, W, 3) and not empty, not {image.shape}")
    height, width, _ = image.shape
    scale, radius = module.scale, module.radius
    module, params = for_inference(module, params)
    symmetries = range(8 if ensemble else 1)
    if radius is None:
        _check_whole(module, params, (height, width), tile)
        rows, columns = [(range(height),) * 2], [(range(width),) * 2]
    else:
        shape, batch = _tile_shape(module, params, (height, width), radius, tile, square=ensemble)
        rows, columns = _windows(height, shape[0], radius), _windows(width, shape[1], radius)
    windows = list(itertools.product(rows, columns))
    pieces = (
        dihedral(to_float(image[y.start : y.stop, x.start : x.stop]), symmetry)
        for (y, _), (x, _) in windows
        for symmetry in symmetries
    )
    if radius is None:  # the symmetries of an image have its shape or the transposed one
        batch = jax.local_device_count()
        batches = (Batch([piece], piece.shape[:2], filled=True) for piece in pieces)
    else:
        filled = (len(rows[0][0]), len(columns[0][0])) == shape  # all windows are alike
        chunks = iter(lambda: list(itertools.islice(pieces, batch)), [])
        batches = (Batch(chunk, shape, filled) for chunk in chunks)
    outputs = apply_batches(module, params, batches, batch)
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


class Batch(NamedTuple):
    """LR images that are computed at once.

    Attributes:
        lr: float (h, w, 3) each, in [0, 1].
        shape: (H, W) that they are padded to.
        filled: whether each has that shape, so that no masks are needed; the same for all batches of a shape,
            or it is compiled twice.
    """

    lr: Sequence[np.ndarray]
    shape: tuple[int, int]
    filled: bool


def apply_batches(
    module: nn.Module, params: Any, batches: Iterable[Batch], size: int
) -> Iterator[np.ndarray]:
    """Applies the network to batches, one ahead: the device works while the one before is used.

    Not so a network without a radius: of whole images the features of one are memory enough.

    Args:
        module: a network for inference, see `for_inference`.
        params: its parameters.
        batches: of at most `size` images, and at least one.
        size: what they are filled up to: a multiple of the devices.

    Yields:
        Of each image in turn SR, float32 (h * scale, w * scale, 3).
    """
    apply, scale = parallel_apply(module), module.scale

    def start(batch: Batch) -> jax.Array:
        lr = np.zeros((size, *batch.shape, 3), np.float32)
        sizes = np.ones((size, 2), np.int32)
        for i, image in enumerate(batch.lr):
            sizes[i] = h, w = image.shape[:2]
            lr[i, :h, :w] = image
        return apply(params, lr, None if batch.filled else sizes)  # returns at once

    def finish(sr: jax.Array, batch: Batch) -> Iterator[np.ndarray]:
        while not sr.is_ready():  # waiting inside JAX would hold Ctrl-C back
            time.sleep(_POLL_SECONDS)
        for image_sr, lr in zip(np.asarray(sr), batch.lr, strict=False):
            yield image_sr[: lr.shape[0] * scale, : lr.shape[1] * scale]

    ahead = None
    for batch in batches:
        if module.radius is None:
            yield from finish(start(batch), batch)
            continue
        started = start(batch), batch
        if ahead:
            yield from finish(*ahead)
        ahead = started
    if ahead:
        yield from finish(*ahead)


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


def _tile_shape(
    module: nn.Module,
    params: Any,
    size: tuple[int, int],
    radius: int,
    tile: int | None,
    square: bool,
) -> tuple[tuple[int, int], int]:
    """Height and width of the tiles for an image of `size`, and how many go in a batch over all devices.

    Of the shapes that fit the memory, that with which the fewest pixels are computed in all.
    """
    if tile is not None and tile <= 2 * radius and tile < max(size):
        raise ValueError(f"tile must be more than {2 * radius} for this network, not {tile}")
    devices = jax.local_device_count()
    room = max(1, min(_MAX_PIXELS, int(_MEMORY_SHARE * device_memory() / bytes_per_pixel(module, params))))

    def sides(length: int) -> list[int]:
        if tile is not None and length > tile:
            return [tile]
        fitting = [side for side in TILE_SIDES if side > 2 * radius or side >= length]
        return [side for side in fitting if tile is None or length <= side] or [tile or TILE_SIDES[-1]]

    def cost(shape: tuple[int, int]) -> tuple[bool, int, int]:
        tiles = [len(_windows(length, side, radius)) for length, side in zip(size, shape, strict=True)]
        area = shape[0] * shape[1]
        # Where nothing fits, the smallest; where the work is equal, fewer and larger tiles.
        return area > room, area if area > room else tiles[0] * tiles[1] * area, -area

    if square:  # a side that suits the longer axis suits the other
        shapes = [(side, side) for side in sides(max(size))]
    else:
        shapes = list(itertools.product(sides(size[0]), sides(size[1])))
    shape = min(shapes, key=cost)
    if jax.default_backend() == "cpu":
        return shape, devices  # a larger batch gains nothing there
    count = len(_windows(size[0], shape[0], radius)) * len(_windows(size[1], shape[1], radius))
    area = shape[0] * shape[1]
    fit = max(1, room // area)
    return shape, devices * min(fit, -(-count // devices))


def _check_whole(module: nn.Module, params: Any, size: tuple[int, int], tile: int | None) -> None:
    """Refuses what a network that needs the whole image cannot do."""
    if tile is not None:
        raise ValueError("this network takes means over the whole image: it cannot work in tiles")
    needed, free = bytes_per_pixel(module, params) * math.prod(size), device_memory()
    if needed > free:
        raise UserError(
            f"an image of {size[1]} x {size[0]} pixels needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB "
            "are free; the network takes means over the whole image and cannot work in tiles: make it smaller"
        )


@functools.cache
def _feature_bytes(module: nn.Module, shapes: tuple) -> float:
    side = 64 if module.radius is None else 4 * (module.radius + 1)
    leaves = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes[1]]
    params = jax.tree.unflatten(shapes[0], leaves)
    lr, sizes = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32), jax.ShapeDtypeStruct((1, 2), jnp.int32)
    apply = functools.partial(apply_padded, module)
    return _peak_bytes(jax.make_jaxpr(apply)(params, lr, sizes).jaxpr) / side**2


def bytes_per_pixel(module: nn.Module, params: Any) -> float:
    """Memory that a network's features take at their peak, for each LR pixel: an estimate, a little high.

    It is read off the network's program by which values are alive after each operation.
    """
    leaves, tree = jax.tree.flatten(params)
    return _feature_bytes(module, (tree, tuple(leaf.shape for leaf in leaves)))


def _peak_bytes(jaxpr: Any) -> int:
    """The most bytes that values computed by `jaxpr` take at one time, its arguments not counted."""

    def size(var: Any) -> int:
        return var.aval.size * var.aval.dtype.itemsize

    last_use = {v: i for i, eqn in enumerate(jaxpr.eqns) for v in eqn.invars if not hasattr(v, "val")}
    last_use |= dict.fromkeys(jaxpr.outvars, len(jaxpr.eqns))
    alive: dict[Any, int] = {}
    peak = 0
    for i, eqn in enumerate(jaxpr.eqns):
        inner = eqn.params.get("jaxpr")  # of a jitted function, whose results its own count has
        if inner is not None:
            peak = max(peak, sum(alive.values()) + _peak_bytes(inner.jaxpr))
        alive |= {v: size(v) for v in eqn.outvars}
        peak = max(peak, sum(alive.values()))
        for v in list(alive):
            if last_use.get(v, -1) <= i:
                del alive[v]
    return peak
