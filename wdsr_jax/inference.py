"""Upscaling images with a trained network."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from wdsr_jax.images import to_float, to_uint8
from wdsr_jax.models import fold_weight_norm
from wdsr_jax.models.layers import Conv


def for_inference(module: nn.Module, params: Any) -> tuple[nn.Module, Any]:
    """The same network in float32 with weight norm multiplied out, whatever it was trained with."""
    # Jitted: op by op it would compile some 24 times, and run as many times as there are layers.
    return module.clone(norm="none", dtype=jnp.dtype("float32")), jax.jit(fold_weight_norm)(params)


def apply_padded(module: nn.Module, params: Any, lr: jax.Array, sizes: jax.Array) -> jax.Array:
    """Applies the network to images padded to one shape, each as if it stood alone at its own size.

    A network pads every convolution's input with zeros at the image's edge. Behind padding, features are
    no longer zero after the first layer, so the input of each convolution is masked to the image again.

    Args:
        module: a network whose convolutions are `layers.Conv` at the resolution of its input.
        params: its parameters.
        lr: float (B, H, W, 3) in [0, 1]; image b fills [:height, :width], the rest is of no account.
        sizes: int (B, 2): height and width of each image.

    Returns:
        Float32 (B, H * scale, W * scale, 3), unclipped; meaningful in [:height * scale, :width * scale].
    """
    _, h, w, _ = lr.shape
    rows = jnp.arange(h)[None, :] < sizes[:, :1]  # (B, H)
    columns = jnp.arange(w)[None, :] < sizes[:, 1:]  # (B, W)
    inside = (rows[:, :, None] & columns[:, None, :])[..., None]  # (B, H, W, 1)

    def mask_input(call, args, kwargs, context):
        if isinstance(context.module, Conv) and context.module.kernel_size > 1:
            args = (jnp.where(inside, args[0], 0), *args[1:])
        return call(*args, **kwargs)

    # Full float32: by default GPUs and TPUs would round the factors of a product to 10 or 8 bits.
    with nn.intercept_methods(mask_input), jax.default_matmul_precision("highest"):
        return module.apply({"params": params}, lr)


@functools.partial(jax.jit, static_argnames="module")
def _apply(module: nn.Module, params: Any, lr: jax.Array) -> jax.Array:
    with jax.default_matmul_precision("highest"):
        return module.apply({"params": params}, lr)


def upscale(module: nn.Module, params: Any, image: np.ndarray) -> np.ndarray:
    """Enlarges one image by the network's scale.

    Args:
        module: a network from `create_model` or `load_pretrained`.
        params: its parameters.
        image: RGB (H, W, 3), uint8 in [0, 255] or float in [0, 1], any size from 1x1.

    Returns:
        (H * scale, W * scale, 3); uint8 for uint8, otherwise float32, unclipped.

    Raises:
        ValueError: another shape, or integers that are not uint8.
    """
    if image.ndim != 3 or image.shape[-1] != 3 or not (image.dtype == np.uint8 or image.dtype.kind == "f"):
        raise ValueError(f"image must be (H, W, 3), uint8 or float, not {image.shape}, {image.dtype}")
    lr = to_float(image) if image.dtype == np.uint8 else np.asarray(image, np.float32)
    sr = np.asarray(_apply(*for_inference(module, params), lr[None])[0])
    return to_uint8(sr) if image.dtype == np.uint8 else sr
