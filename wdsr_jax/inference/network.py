"""Networks as they are applied: norm folded, images of many sizes in one batch, all devices at work."""

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Format, Layout
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Float32, Int

from wdsr_jax.models import fold_weight_norm, replace_fields
from wdsr_jax.models.flow import FlowSampler, pixel_noise
from wdsr_jax.models.layers import Conv
from wdsr_jax.models.resampling import Bicubic
from wdsr_jax.system.devices import on_cpu

_POLL_SECONDS = 0.002


def fold_for_inference(module: nn.Module, params: Any) -> tuple[nn.Module, Any]:
    """The same network in float32 with its norm multiplied out, whatever it was trained with.

    Args:
        module: a network from `create_model`.
        params: its parameters.

    Returns:
        The network with `norm="none"`, and its parameters: outputs differ by rounding alone.
    """
    # Jitted: op by op it would compile some 24 times, and run as many times as there are layers.
    return replace_fields(module, norm="none", dtype=jnp.dtype("float32")), jax.jit(fold_weight_norm)(params)


def inference_function(module: nn.Module, params: Any) -> Callable[[jax.Array], jax.Array]:
    """The network as inference computes it, a function of images (B, H, W, C) alone.

    Args:
        module: a network from `create_model`.
        params: its parameters.
    """
    return functools.partial(apply_padded, *fold_for_inference(module, params))


@functools.cache
def compiler_options() -> dict[str, str]:
    """What to give `jax.jit` as `compiler_options` for a network that is applied, not trained.

    By default XLA leaves convolutions and products on CPUs to the library YNNPACK. That computes gradients
    faster, but networks more slowly: XLA's own convolutions of whole images use all cores. On other devices,
    and where this version of XLA does not know the option, the dictionary is empty.
    """
    if not on_cpu():
        return {}
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    try:
        jax.jit(jnp.negative, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options


def apply_padded(
    module: nn.Module,
    params: Any,
    lr: Float[Array, "b h w c"],
    sizes: Int[Array, "b 2"] | None = None,
) -> Float32[Array, "b {module.scale}*h {module.scale}*w 3"]:
    """Applies the network to images padded to one shape, each as if it stood alone at its own size.

    A network pads the input of every convolution with zeros at the image's edge. Where a smaller image is
    padded, its features beyond that edge are no longer zero after the first layer. So the input of each
    convolution is masked to the image again, and that of `Bicubic` repeats the image's last row and column.

    Args:
        module: a network whose convolutions are `layers.Conv` at the resolution of its input or a multiple;
            or one without a radius, for which each image must fill (H, W).
        params: its parameters.
        lr: float (B, H, W, C), see `network_input`; image b fills [:height, :width], the other pixels do
            not count.
        sizes: int (B, 2): height and width of each image; None where all fill (H, W), which saves the masks.

    Returns:
        Float32 (B, H * scale, W * scale, 3), unclipped; meaningful in [:height * scale, :width * scale].
    """
    # Full float32: by default GPUs and TPUs would round the factors of a product to 10 or 8 bits.
    with jax.default_matmul_precision("highest"):
        if module.radius is None or sizes is None:
            sr: Any = module.apply({"params": params}, lr)
            return sr
        h, w = lr.shape[1:3]
        with nn.intercept_methods(_mask_inputs((h, w), sizes)):
            sr = module.apply({"params": params}, lr)
        return sr


def _mask_inputs(shape: tuple[int, int], sizes: Int[Array, "b 2"]) -> Callable[..., Any]:
    """The interceptor for Flax that gives each layer its input as it is in images of `sizes`, see above."""
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


@functools.cache
def _shardings() -> tuple[NamedSharding, NamedSharding]:
    """On every device of this host, and split among them by the first axis."""
    mesh = Mesh(np.asarray(jax.local_devices()), ("batch",))
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("batch"))


def compile_network(
    module: nn.Module, params: Any, shape: tuple[int, int, int], *, filled: bool
) -> jax.stages.Compiled:
    """`apply_padded` of the network as a program for all devices of this host, compiled once a shape.

    Args:
        module: a network for inference, see `fold_for_inference`.
        params: its parameters, of which only the shapes count.
        shape: (B, H, W) of the batches; B is a multiple of the devices, among which it is split.
        filled: whether each image fills (H, W), so that the program takes None for `sizes`.

    Returns:
        The program: (params, lr, sizes) -> sr, with arrays where `_places` says.
    """
    leaves, tree = jax.tree.flatten(params)
    avals = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    return _compile(module, tree, avals, shape, filled)


@functools.cache
def _compile(
    module: nn.Module,
    tree: Any,
    leaves: tuple[jax.ShapeDtypeStruct, ...],
    shape: tuple[int, int, int],
    filled: bool,
) -> jax.stages.Compiled:
    everywhere, split = _shardings()
    # Kernels in the layout that the convolutions read: a GPU would transpose each of them in each call.
    placed = everywhere if on_cpu() else Format(Layout.AUTO, everywhere)
    apply = jax.jit(
        functools.partial(apply_padded, module),
        in_shardings=(placed, split, split),
        out_shardings=split,
        compiler_options=compiler_options(),
    )
    lr = jax.ShapeDtypeStruct((*shape, getattr(module, "input_channels", 3)), jnp.float32)
    sizes = None if filled else jax.ShapeDtypeStruct((shape[0], 2), jnp.int32)
    return apply.lower(jax.tree.unflatten(tree, leaves), lr, sizes).compile()


def _places(program: jax.stages.Compiled) -> Any:
    """Where a program takes its arguments, for `jax.device_put`; on accelerators also in which layout."""
    places, _ = program.input_shardings if on_cpu() else program.input_formats
    return places


def memory_needed(program: jax.stages.Compiled) -> int:
    """Bytes that a program takes on each device while it runs, without its arguments, as XLA has planned it.

    0 where the backend does not tell.
    """
    analysis = program.memory_analysis()
    return 0 if analysis is None else analysis.temp_size_in_bytes + analysis.output_size_in_bytes


def parallel_apply(
    module: nn.Module,
    params: Any,
    lr: Float32[np.ndarray, "b h w c"],
    sizes: Int[np.ndarray, "b 2"] | None,
) -> Float32[Array, "b {module.scale}*h {module.scale}*w 3"]:
    """`apply_padded` on all devices of this host: the batch, a multiple of them, is split among them.

    Args:
        module: a network for inference, see `fold_for_inference`.
        params: its parameters.
        lr: as for `apply_padded`.
        sizes: as for `apply_padded`.

    Returns:
        As `apply_padded`, at once: the devices may still be computing.
    """
    program = compile_network(module, params, lr.shape[:3], filled=sizes is None)
    sizes = None if sizes is None else sizes.astype(np.int32)
    # Put there before: JAX takes a NumPy array for one process's share of a global array.
    return program(*jax.device_put((params, lr, sizes), _places(program)))


class Noise(NamedTuple):
    """What a sample is drawn by.

    Attributes:
        key: of `jax.random.key`.
        temperature: standard deviation of the noise: at 1 as in training, at 0 all samples are one.
    """

    key: jax.Array
    temperature: float


def network_input(
    module: nn.Module,
    lr: Float32[np.ndarray, "h w 3"],
    noise: Noise | None = None,
    corner: tuple[int, int] = (0, 0),
) -> Float32[np.ndarray, "h w c"]:
    """LR as a network takes it: by itself, or with noise for a `FlowSampler`.

    Args:
        module: the network.
        lr: an image or a window of it, in [0, 1].
        noise: None: a fixed key at a temperature of 1.
        corner: row and column of the window in the image.
    """
    if not isinstance(module, FlowSampler):
        return lr
    key, temperature = noise or Noise(jax.random.key(0), 1.0)
    drawn = pixel_noise(key, np.asarray(corner), (*lr.shape[:2], module.input_channels - 3))
    return np.concatenate([lr, temperature * np.asarray(drawn)], axis=2)


class Batch(NamedTuple):
    """LR images that are computed at once.

    Attributes:
        lr: float (h, w, C) each, see `network_input`.
        shape: (H, W) that they are padded to.
        filled: whether each has that shape, so that no masks are needed; the same for all batches of a shape,
            or it is compiled twice.
    """

    lr: Sequence[np.ndarray]
    shape: tuple[int, int]
    filled: bool


def apply_batches(
    module: nn.Module, params: Any, batches: Iterable[Batch], size: int
) -> Iterator[Float32[np.ndarray, "h w 3"]]:
    """Applies the network to batches, one ahead: the device works while the result before is used.

    A network without a radius works on one batch at a time, since the features of whole images fill the
    memory.

    Args:
        module: a network for inference, see `fold_for_inference`.
        params: its parameters.
        batches: of at most `size` images, and at least one.
        size: what they are filled up to: a multiple of the devices.

    Yields:
        Of each image in turn SR, float32 (h * scale, w * scale, 3).
    """
    scale = module.scale
    placed: dict[tuple[tuple[int, int], bool], Any] = {}  # parameters as the program of a shape reads them

    def start(batch: Batch) -> jax.Array:
        lr = np.zeros((size, *batch.shape, batch.lr[0].shape[2]), np.float32)
        sizes = np.ones((size, 2), np.int32)
        for i, image in enumerate(batch.lr):
            sizes[i] = h, w = image.shape[:2]
            lr[i, :h, :w] = image
        key = batch.shape, batch.filled
        if key not in placed:
            program = compile_network(module, params, lr.shape[:3], filled=batch.filled)
            placed[key] = jax.device_put(params, _places(program)[0])
        return parallel_apply(module, placed[key], lr, None if batch.filled else sizes)

    def finish(sr: Any, batch: Batch) -> Iterator[np.ndarray]:
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
