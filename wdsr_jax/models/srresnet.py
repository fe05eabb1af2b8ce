"""SRResNet, the generator of SRGAN: Photo-Realistic Single Image Super-Resolution (arXiv:1609.04802)."""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Shaped

from wdsr_jax.models.convolution import AnyArray, Convolution, convolve
from wdsr_jax.models.layers import Conv, ModuleDef, Norm, PReLU, check_lr, pixel_shuffle
from wdsr_jax.models.resampling import upsampler_reach, upscale_factors


class Block(nn.Module):
    """conv3, batch norm, PReLU, conv3, batch norm, and the sum with the input; the shape stays.

    Attributes:
        conv: `Conv` with batch norm, but for channels and kernel.
    """

    conv: ModuleDef

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        filters = x.shape[-1]
        y = PReLU(name="prelu")(self.conv(filters, 3, name="first")(x))
        return x + self.conv(filters, 3, name="last")(y)


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
        norm: `batch`, as in the paper, of the convolutions in the blocks and the one after them; or `weight`
            or `none`, of every convolution.
        dtype: of the convolutions and the residual stream, float32 or bfloat16.
        axis_name: axis of the devices over which batch norm takes its statistics in training.
        convolve: computes the convolutions, see `Conv`.
    """

    scale: int
    filters: int = 64
    blocks: int = 16
    norm: Norm = "batch"
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
        return 4 + 2 * self.blocks + 1 + upsampler_reach(self.scale, tail=4)

    @nn.compact
    def __call__(self, lr: Shaped[AnyArray, "b h w 3"]) -> Float[Array, "b {self.scale}*h {self.scale}*w 3"]:
        check_lr(lr)
        shared: dict[str, Any] = dict(dtype=self.dtype, axis_name=self.axis_name, convolve=self.convolve)
        inner = functools.partial(Conv, norm=self.norm, **shared)
        outer = functools.partial(inner, norm="none" if self.norm == "batch" else self.norm)

        x = outer(self.filters, 9, name="head")(lr)
        x = head = PReLU(name="head_prelu")(x)  # (B, H, W, filters)
        for i in range(self.blocks):
            x = Block(inner, name=f"block_{i}")(x)
        x = head + inner(self.filters, 3, name="body")(x)
        for i, factor in enumerate(upscale_factors(self.scale)):
            x = outer(factor**2 * self.filters, 3, name=f"up_{i}")(x)
            x = pixel_shuffle(x, factor)  # (B, H * factor, W * factor, filters)
            x = PReLU(name=f"up_{i}_prelu")(x)
        x = outer(3, 9, name="tail")(x)  # (B, H r, W r, 3)
        return x.astype(jnp.float32)
