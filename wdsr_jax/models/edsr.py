"""EDSR: Enhanced Deep Residual Networks for Single Image Super-Resolution (arXiv:1707.02921)."""

import functools
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Shaped

from wdsr_jax.models.convolution import AnyArray, Convolution, convolve
from wdsr_jax.models.layers import (
    DIV2K_MEAN,
    Conv,
    GInit,
    InitialG,
    ModuleDef,
    Norm,
    check_lr,
    initial_g,
    pixel_shuffle,
    relu,
    shift_mean,
)
from wdsr_jax.models.resampling import TransposedConv, upsampler_reach, upscale_factors


class BlockE(nn.Module):
    """The residual block of figure 2c: x + res_scale * conv3(relu(conv3(x))), the shape stays.

    Attributes:
        conv: `Conv`, but for channels, kernel and initial g.
        res_scale: factor of the block's output.
        g_init: initial g of the first convolution and of the last.
    """

    conv: ModuleDef
    res_scale: float
    g_init: tuple[InitialG, InitialG]

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        filters = x.shape[-1]
        first_g, last_g = self.g_init
        y = relu(self.conv(filters, 3, g_init=first_g, name="first")(x))
        y = self.conv(filters, 3, g_init=last_g, name="last")(y)
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
            the one after them (as in SRResNet, arXiv:1609.04802, figure 4).
        g_init: initial g of weight norm, as in `WDSR`.
        upsampler: `pixel_shuffle`, as in the paper, or `deconvolution`: for each convolution and pixel
            shuffle by r one transposed convolution with a kernel of 2 r - 1 (3x3 for 2). Its kernels overlap
            unevenly, which shows as a checkerboard (Odena et al., distill.pub/2016/deconv-checkerboard).
        mean: RGB subtracted from the input and added to the output.
        dtype: of the convolutions and the residual stream, float32 or bfloat16.
        axis_name: axis of the devices over which batch norm takes its statistics in training.
        convolve: computes the convolutions, see `Conv`.
    """

    scale: int
    filters: int = 64
    blocks: int = 16
    res_scale: float = 1.0
    norm: Norm = "none"
    g_init: GInit = "official"
    upsampler: Literal["pixel_shuffle", "deconvolution"] = "pixel_shuffle"
    mean: tuple[float, float, float] = DIV2K_MEAN
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    convolve: Convolution = convolve

    @property
    def has_batch_norm(self) -> bool:
        """Whether training moves running statistics (see `batch_norm`)."""
        return self.norm == "batch"

    @property
    def radius(self) -> int:
        """By how many LR pixels the receptive field of an output pixel reaches beyond its own LR pixel."""
        # In a transposed convolution an output pixel sees its own input pixel and, unless it is the first of
        # those in it, the next one. With the tail's one pixel that is one, over any number of stages.
        deconvolution = self.upsampler == "deconvolution"
        return 1 + 2 * self.blocks + 1 + (1 if deconvolution else upsampler_reach(self.scale, tail=1))

    @nn.compact
    def __call__(self, lr: Shaped[AnyArray, "b h w 3"]) -> Float[Array, "b {self.scale}*h {self.scale}*w 3"]:
        check_lr(lr)
        g, g_first, g_last = initial_g(self.g_init, self.blocks)
        shared: dict[str, Any] = dict(
            g_init=g, dtype=self.dtype, axis_name=self.axis_name, convolve=self.convolve
        )
        inner = functools.partial(Conv, norm=self.norm, **shared)
        shared |= dict(norm="none" if self.norm == "batch" else self.norm)
        outer = functools.partial(Conv, **shared)

        x = shift_mean(lr, self.mean, -1)
        x = head = outer(self.filters, 3, name="head")(x)  # (B, H, W, filters)
        for i in range(self.blocks):
            x = BlockE(inner, self.res_scale, g_init=(g_first, g_last), name=f"block_{i}")(x)
        x = head + inner(self.filters, 3, name="body")(x)
        for i, factor in enumerate(upscale_factors(self.scale)):
            if self.upsampler == "deconvolution":
                x = TransposedConv(self.filters, 2 * factor - 1, name=f"up_{i}", factor=factor, **shared)(x)
            else:
                x = outer(factor**2 * self.filters, 3, name=f"up_{i}")(x)
                x = pixel_shuffle(x, factor)  # (B, H * factor, W * factor, filters)
        x = outer(3, 3, name="tail")(x)  # (B, H r, W r, 3)
        return shift_mean(x.astype(jnp.float32), self.mean, 1)
