"""MSRResNet: SRResNet without batch norm and with a bilinear skip, as BasicSR and ESRGAN's authors have it.

Source: XPixelGroup/BasicSR, `basicsr/archs/srresnet_arch.py`, `MSRResNet`.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Shaped

from wdsr_jax.models.convolution import AnyArray, Convolution, convolve
from wdsr_jax.models.edsr import BlockE
from wdsr_jax.models.layers import Conv, check_lr, pixel_shuffle
from wdsr_jax.models.resampling import Bilinear, upsampler_reach, upscale_factors

_SLOPE = 0.1  # of the leaky ReLUs


class MSRResNet(nn.Module):
    """Head, residual blocks, upsampler, two convolutions, and the bilinear enlargement of the image added.

    The input (B, H, W, 3), float RGB in [0, 1], becomes (B, H * scale, W * scale, 3), float32, of the
    same range and not clipped. H and W are any from 1 up. No mean is subtracted.

    Outside the blocks every convolution but the last is followed by a leaky ReLU, behind the pixel shuffle in
    the upsampler, which is that of `EDSR`. The original has x2, x3 and x4.

    Attributes:
        scale: upscaling factor.
        filters: channels everywhere but in the upsampler.
        blocks: number of residual blocks, those of `EDSR`.
        res_scale: factor of a block's output before it joins the stream; 1 in the original.
        dtype: of the convolutions and the residual stream, float32 or bfloat16.
        convolve: computes the convolutions, see `Conv`.
    """

    scale: int
    filters: int = 64
    blocks: int = 16
    res_scale: float = 1.0
    dtype: DTypeLike = jnp.float32
    convolve: Convolution = convolve

    @property
    def radius(self) -> int:
        """By how many LR pixels the receptive field of an output pixel reaches beyond its own LR pixel."""
        return 1 + 2 * self.blocks + upsampler_reach(self.scale, tail=2)  # more than the one of the skip

    @nn.compact
    def __call__(self, lr: Shaped[AnyArray, "b h w 3"]) -> Float[Array, "b {self.scale}*h {self.scale}*w 3"]:
        check_lr(lr)
        conv = functools.partial(Conv, norm="none", dtype=self.dtype, convolve=self.convolve)
        x = nn.leaky_relu(conv(self.filters, 3, name="head")(lr), _SLOPE)  # (B, H, W, filters)
        for i in range(self.blocks):
            x = BlockE(conv, self.res_scale, g_init=(1.0, 1.0), name=f"block_{i}")(x)
        for i, factor in enumerate(upscale_factors(self.scale)):
            x = conv(factor**2 * self.filters, 3, name=f"up_{i}")(x)
            x = nn.leaky_relu(pixel_shuffle(x, factor), _SLOPE)  # (B, H * factor, W * factor, filters)
        x = nn.leaky_relu(conv(self.filters, 3, name="detail")(x), _SLOPE)
        x = conv(3, 3, name="tail")(x).astype(jnp.float32)  # (B, H r, W r, 3)
        return x + Bilinear(self.scale, name="bilinear")(lr).astype(jnp.float32)
