"""RDN: Residual Dense Network for Image Super-Resolution (arXiv:1802.08797)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wdsr_jax.models.layers import Conv, check_float, pixel_shuffle
from wdsr_jax.models.resampling import upsampler_reach, upscale_factors


class ResidualDenseBlock(nn.Module):
    """The block of figure 3 (equations 5 to 8), (B, H, W, G0) as it was.

    Each of `layers` 3x3 convolutions sees the block's input and all the outputs before its own, and adds
    `growth` channels; a 1x1 convolution fuses them all, and its output is added to the input.
    """

    layers: int
    growth: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shared = dict(norm="none", dtype=self.dtype)
        features = x
        for c in range(self.layers):
            y = nn.relu(Conv(self.growth, 3, name=f"conv_{c}", **shared)(features))
            features = jnp.concatenate([features, y], axis=-1)  # (B, H, W, G0 + (c + 1) * growth)
        return x + Conv(x.shape[-1], 1, name="fuse", **shared)(features)


class RDN(nn.Module):
    """The network of figure 2 of the paper: shallow features, dense blocks, their global fusion, upsampler.

    The input (B, H, W, 3), float RGB in [0, 1], becomes (B, H * scale, W * scale, 3), float32, of the
    same range and not clipped. H and W are any from 1 up. No mean is subtracted.

    The upsampler is ESPCN's: a 3x3 convolution and a pixel shuffle by 2 for each factor of a scale of 2, 4, 8
    and so on, one such pair by the whole scale otherwise; the last convolution has 3 channels. All of it but
    what is inside the blocks has G0 channels (section 3.4).

    Attributes:
        scale: upscaling factor.
        filters: G0.
        blocks: D.
        layers: C, 3x3 convolutions in a block.
        growth: G, channels of each.
        dtype: of the convolutions, float32 or bfloat16.
    """

    scale: int
    filters: int = 64
    blocks: int = 16
    layers: int = 8
    growth: int = 64
    dtype: Any = jnp.float32

    @property
    def radius(self) -> int:
        """By how many LR pixels the receptive field of an output pixel reaches beyond its own LR pixel."""
        return 2 + self.blocks * self.layers + 1 + upsampler_reach(self.scale, tail=1)

    @nn.compact
    def __call__(self, lr: jax.Array) -> jax.Array:
        check_float(lr)
        shared = dict(norm="none", dtype=self.dtype)
        first = Conv(self.filters, 3, name="shallow_0", **shared)(lr)  # (B, H, W, G0)
        x = Conv(self.filters, 3, name="shallow_1", **shared)(first)
        outputs = []
        for d in range(self.blocks):
            x = ResidualDenseBlock(self.layers, self.growth, self.dtype, name=f"block_{d}")(x)
            outputs.append(x)
        x = jnp.concatenate(outputs, axis=-1)  # (B, H, W, D * G0)
        x = Conv(self.filters, 1, name="fuse_0", **shared)(x)
        x = first + Conv(self.filters, 3, name="fuse_1", **shared)(x)
        for i, factor in enumerate(upscale_factors(self.scale)):
            x = Conv(factor**2 * self.filters, 3, name=f"up_{i}", **shared)(x)
            x = pixel_shuffle(x, factor)  # (B, H * factor, W * factor, G0)
        return Conv(3, 3, name="tail", **shared)(x).astype(jnp.float32)  # (B, H r, W r, 3)
