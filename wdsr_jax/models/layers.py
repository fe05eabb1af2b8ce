"""Weight-normalised convolution, pixel shuffle and the mean shift: what every network here is built of."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

# Mean RGB of the 800 training images of DIV2K, in [0, 1] (EDSR-PyTorch, `common.MeanShift`).
DIV2K_MEAN = (0.4488, 0.4371, 0.4040)

# PyTorch's default initialisation of a convolution, U(-1, 1) / sqrt(fan in), which the published WDSR
# results start from. Under weight norm only its direction counts, and its length against the step size.
kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def normalise(kernel: jax.Array, scale: jax.Array) -> jax.Array:
    """Weight norm, `w = g v / ||v||` (Salimans and Kingma, arXiv:1602.07868, eq. 2).

    Args:
        kernel: v, float32 (kh, kw, C_in, C_out).
        scale: g, float32 (C_out,).

    Returns:
        w, (kh, kw, C_in, C_out); the norm is taken over all axes but the output channel.
    """
    norm = jnp.sqrt(jnp.sum(jnp.square(kernel), axis=(0, 1, 2)))  # (C_out,)
    return kernel * (scale / norm)[None, None, None, :]


class Conv(nn.Module):
    """A stride-1 convolution with bias and zero padding, (B, H, W, C) -> (B, H, W, features).

    Attributes:
        features: number of output channels.
        kernel_size: side of the square kernel, odd.
        norm: `weight` (parameters `kernel` = v, `scale` = g, `bias`) or `none` (`kernel`, `bias`).
        g_init: initial g: a number, or `norm` for ||v||, where w starts as v (PyTorch's default).
        dtype: of the convolution. Parameters and weight norm are float32 whatever it is.
    """

    features: int
    kernel_size: int
    norm: str = "weight"
    g_init: str | float = "norm"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", kernel_init, shape, jnp.float32)
        if self.norm == "weight":

            def init_scale(_):
                if self.g_init == "norm":
                    return jnp.sqrt(jnp.sum(jnp.square(kernel), axis=(0, 1, 2)))
                return jnp.full((self.features,), self.g_init, jnp.float32)

            kernel = normalise(kernel, self.param("scale", init_scale))
        elif self.norm != "none":
            raise ValueError(f"norm must be 'weight' or 'none', not {self.norm!r}")
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        y = jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            window_strides=(1, 1),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y + bias.astype(self.dtype)[None, None, None, :]


def pixel_shuffle(x: jax.Array, scale: int) -> jax.Array:
    """Rearranges channels into space (Shi et al., arXiv:1609.05158, eq. 4), by reshape.

    Channels are in depth-to-space order, `(i * scale + j) * C + c` for row i and column j of a cell.
    (PyTorch's PixelShuffle has `c * scale**2 + i * scale + j`.)

    Args:
        x: (B, H, W, scale * scale * C).
        scale: the upscaling factor.

    Returns:
        (B, H * scale, W * scale, C).
    """
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, scale, scale, c // scale**2)  # (B, H, W, i, j, C)
    x = x.transpose(0, 1, 3, 2, 4, 5)  # (B, H, i, W, j, C)
    return x.reshape(b, h * scale, w * scale, c // scale**2)  # (B, H*scale, W*scale, C)


def shift_mean(x: jax.Array, mean: tuple[float, ...], sign: int) -> jax.Array:
    """Adds `sign * mean` to the channels of x, (B, H, W, 3)."""
    return x + sign * jnp.asarray(mean, x.dtype)[None, None, None, :]


def fold_weight_norm(params: Mapping[str, Any]) -> dict[str, Any]:
    """Multiplies weight norm out: the parameters of the same network with `norm="none"`.

    Outputs agree up to float32 rounding; inference saves the normalisation.

    Args:
        params: parameters of a network; convolutions without a `scale` are left as they are.

    Returns:
        A new tree in which each `kernel` is g v / ||v|| and there is no `scale`.
    """
    if "kernel" not in params:
        return {name: fold_weight_norm(child) for name, child in params.items()}
    folded = {name: value for name, value in params.items() if name != "scale"}
    if "scale" in params:
        folded["kernel"] = normalise(params["kernel"], params["scale"])
    return folded
