"""SRResNet, the generator of SRGAN: Photo-Realistic Single Image Super-Resolution (arXiv:1609.04802)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wdsr_jax.models.layers import Conv, PReLU, check_float, pixel_shuffle
from wdsr_jax.models.resampling import upsampler_reach, upscale_factors


class Block(nn.Module):
    """conv3, batch norm, PReLU, conv3, batch norm, and the sum with the input; (B, H, W, C) as it was."""

    norm: str
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        filters = x.shape[-1]
        shared = dict(norm=self.norm, dtype=self.dtype, axis_name=self.axis_name)
        y = PReLU(name="prelu")(Conv(filters, 3, name="first", **shared)(x))
        return x + Conv(filters, 3, name="last", **shared)(y)


class SRResNet(nn.Module):
    """The generator of figure 4 of the paper, which is called SRResNet where it is trained on MSE alone.

    The input (B, H, W, 3), float RGB in [0, 1], becomes (B, H * scale, W * scale, 3), float32, of the
    same range and not clipped. H and W are any from 1 up. No mean is subtracted.

    Head 9x9 and PReLU; blocks; conv and batch norm, and a skip around all of these; for each factor of 2
    conv, pixel shuffle and PReLU; tail 9x9. (A scale that is no power of 2 is one stage, as in EDSR: the
    paper has x4 alone.)

    The paper does not say of how many channels a slope of PReLU is; here each PReLU has one slope, initially
    0.25, as public PyTorch implementations do.

    Attributes:
        scale: upscaling factor.
        filters: channels everywhere but in the upsampler.
        blocks: number of residual blocks.
        norm: `batch`, as in the paper, of the convolutions in the blocks and the one behind them; or `weight`
            or `none`, of every convolution.
        dtype: of the convolutions and the residual stream, float32 or bfloat16.
        axis_name: of the devices over which batch norm takes its statistics in training.
    """

    scale: int
    filters: int = 64
    blocks: int = 16
    norm: str = "batch"
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @property
    def radius(self) -> int:
        """By how many LR pixels the receptive field of an output pixel reaches beyond its own LR pixel."""
        return 4 + 2 * self.blocks + 1 + upsampler_reach(self.scale, tail=4)

    @nn.compact
    def __call__(self, lr: jax.Array) -> jax.Array:
        check_float(lr)
        inner = dict(norm=self.norm, dtype=self.dtype, axis_name=self.axis_name)
        outer = inner | dict(norm="none" if self.norm == "batch" else self.norm)

        x = Conv(self.filters, 9, name="head", **outer)(lr)
        x = head = PReLU(name="head_prelu")(x)  # (B, H, W, filters)
        for i in range(self.blocks):
            x = Block(name=f"block_{i}", **inner)(x)
        x = head + Conv(self.filters, 3, name="body", **inner)(x)
        for i, factor in enumerate(upscale_factors(self.scale)):
            x = Conv(factor**2 * self.filters, 3, name=f"up_{i}", **outer)(x)
            x = pixel_shuffle(x, factor)  # (B, H * factor, W * factor, filters)
            x = PReLU(name=f"up_{i}_prelu")(x)
        x = Conv(3, 9, name="tail", **outer)(x)  # (B, H r, W r, 3)
        return x.astype(jnp.float32)
