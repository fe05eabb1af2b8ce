"""EDSR: Enhanced Deep Residual Networks for Single Image Super-Resolution (arXiv:1707.02921)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wdsr_jax.models.layers import DIV2K_MEAN, Conv, check_float, initial_g, pixel_shuffle, shift_mean
from wdsr_jax.models.resampling import TransposedConv, upsampler_reach, upscale_factors


class BlockE(nn.Module):
    """The residual block of figure 2c: x + res_scale * conv3(relu(conv3(x))), (B, H, W, C) as it was.

    For `norm`, `g_init` and `axis_name` see `EDSR`.
    """

    res_scale: float
    norm: str
    g_init: tuple[str | float, str | float]
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        filters = x.shape[-1]
        first_g, last_g = self.g_init
        shared = dict(dtype=self.dtype, axis_name=self.axis_name)
        y = nn.relu(Conv(filters, 3, self.norm, first_g, name="first", **shared)(x))
        y = Conv(filters, 3, self.norm, last_g, name="last", **shared)(y)
        return x + self.res_scale * y


class EDSR(nn.Module):
    """The network of figure 3 of the paper: head, residual blocks, a skip around them, upsampler, tail.

    The input (B, H, W, 3), float RGB in [0, 1], becomes (B, H * scale, W * scale, 3), float32, of the
    same range and not clipped. H and W are any from 1 up.

    The upsampler is a 3x3 convolution and a pixel shuffle by 2 for each factor of a scale of 2, 4, 8 and so
    on, one such pair by the whole scale otherwise. The baseline is as the defaults are; the paper's large
    network has 32 blocks, 256 filters and res_scale 0.1 (table 1).

    Attributes:
        scale: upscaling factor.
        filters: channels everywhere but in the upsampler.
        blocks: number of residual blocks.
        res_scale: factor of a block's output before it joins the stream.
        norm: `none`, as in the paper; `weight`, of every convolution; or `batch`, of those in the blocks and
            the one behind them (as SRResNet has it, arXiv:1609.04802, figure 4).
        g_init: initial g of weight norm, as in `WDSR`.
        upsampler: `pixel_shuffle`, as in the paper, or `deconvolution`: for each convolution and pixel
            shuffle by r one transposed convolution with a kernel of 2 r - 1 (3x3 for 2). Its kernels overlap
            unevenly, which shows as a checkerboard (Odena et al., distill.pub/2016/deconv-checkerboard).
        mean: RGB subtracted from the input and added to the output.
        dtype: of the convolutions and the residual stream, float32 or bfloat16.
        axis_name: of the devices over which batch norm takes its statistics in training.
    """

    scale: int
    filters: int = 64
    blocks: int = 16
    res_scale: float = 1.0
    norm: str = "none"
    g_init: str = "official"
    upsampler: str = "pixel_shuffle"
    mean: tuple[float, float, float] = DIV2K_MEAN
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @property
    def radius(self) -> int:
        """By how many LR pixels the receptive field of an output pixel reaches beyond its own LR pixel."""
        # In a transposed convolution an output pixel sees its own input pixel and, unless it is the first of
        # those in it, the next one. With the tail's one pixel that is one, over any number of stages.
        deconvolution = self.upsampler == "deconvolution"
        return 1 + 2 * self.blocks + 1 + (1 if deconvolution else upsampler_reach(self.scale, tail=1))

    @nn.compact
    def __call__(self, lr: jax.Array) -> jax.Array:
        check_float(lr)
        g, g_first, g_last = initial_g(self.g_init, self.blocks)
        shared = dict(dtype=self.dtype, axis_name=self.axis_name)
        inner = dict(norm=self.norm, **shared)
        outer = dict(norm="none" if self.norm == "batch" else self.norm, g_init=g, **shared)

        x = shift_mean(lr, self.mean, -1)
        x = head = Conv(self.filters, 3, name="head", **outer)(x)  # (B, H, W, filters)
        for i in range(self.blocks):
            block = BlockE(self.res_scale, g_init=(g_first, g_last), name=f"block_{i}", **inner)
            x = block(x)
        x = head + Conv(self.filters, 3, g_init=g, name="body", **inner)(x)
        for i, factor in enumerate(upscale_factors(self.scale)):
            if self.upsampler == "deconvolution":
                x = TransposedConv(self.filters, 2 * factor - 1, name=f"up_{i}", factor=factor, **outer)(x)
            else:
                x = Conv(factor**2 * self.filters, 3, name=f"up_{i}", **outer)(x)
                x = pixel_shuffle(x, factor)  # (B, H * factor, W * factor, filters)
        x = Conv(3, 3, name="tail", **outer)(x)  # (B, H r, W r, 3)
        return shift_mean(x.astype(jnp.float32), self.mean, 1)
