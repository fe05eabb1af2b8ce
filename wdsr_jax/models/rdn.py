"""RDN: Residual Dense Network for Image Super-Resolution (arXiv:1802.08797)."""

import functools
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Shaped

from wdsr_jax.models.convolution import AnyArray, Convolution, convolve
from wdsr_jax.models.layers import Conv, ModuleDef, check_lr, pixel_shuffle, relu
from wdsr_jax.models.resampling import upsampler_reach, upscale_factors


class ResidualDenseBlock(nn.Module):
    """The block of figure 3 (equations 5 to 8), (B, H, W, G0); the shape stays.

    Each of `layers` 3x3 convolutions sees the block's input and all the outputs before its own, and adds
    `growth` channels; a 1x1 convolution fuses them all, and its output is added to the input.

    Attributes:
        conv: `Conv`, but for channels and kernel.
        layers: number of 3x3 convolutions.
        growth: channels of each.
    """

    conv: ModuleDef
    layers: int
    growth: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w g0"]) -> Float[Array, "b h w g0"]:
        features = x
        for c in range(self.layers):
            y = relu(self.conv(self.growth, 3, name=f"conv_{c}")(features))
            features = jnp.concatenate([features, y], axis=-1)  # (B, H, W, G0 + (c + 1) * growth)
        return x + self.conv(x.shape[-1], 1, name="fuse")(features)


class RDN(nn.Module):
    """The network of figure 2 of the paper: shallow features, dense blocks, their global fusion, upsampler.

    The input (B, H, W, 3), float RGB in [0, 1], becomes (B, H * scale, W * scale, 3), float32, of the
    same range and not clipped. H and W are any from 1 up. No mean is subtracted.

    The upsampler is a 3x3 convolution and a pixel shuffle by 2 for each factor of a scale of 2, 4, 8 and so
    on, one such pair by the whole scale otherwise; the last convolution has 3 channels. All of it but what is
    inside the blocks has G0 channels (section 3.4). That of idealo/image-super-resolution is ESPCN's
    (arXiv:1609.05158, figure 1): 5x5 to 64, ReLU, 3x3 to 32, ReLU, 3x3 to `3 * scale**2` channels, and these
    as cells of pixels, before the last convolution.

    Attributes:
        scale: upscaling factor.
        filters: G0.
        blocks: D.
        layers: C, 3x3 convolutions in a block.
        growth: G, channels of each.
        upnet: the upsampler: `stages`, the first; `espcn`, the second; or `espcn_nearest`, where each of the
            `3 * scale**2` channels is enlarged by repeating pixels, and the last convolution sees all.
        dtype: of the convolutions, float32 or bfloat16.
        convolve: computes the convolutions, see `Conv`.
    """

    scale: int
    filters: int = 64
    blocks: int = 16
    layers: int = 8
    growth: int = 64
    upnet: Literal["stages", "espcn", "espcn_nearest"] = "stages"
    dtype: DTypeLike = jnp.float32
    convolve: Convolution = convolve

    @property
    def radius(self) -> int:
        """By how many LR pixels the receptive field of an output pixel reaches beyond its own LR pixel."""
        reach = upsampler_reach(self.scale, tail=1) if self.upnet == "stages" else 2 + 1 + 1 + 1
        return 2 + self.blocks * self.layers + 1 + reach

    @nn.compact
    def __call__(self, lr: Shaped[AnyArray, "b h w 3"]) -> Float[Array, "b {self.scale}*h {self.scale}*w 3"]:
        check_lr(lr)
        conv = functools.partial(Conv, norm="none", dtype=self.dtype, convolve=self.convolve)
        first = conv(self.filters, 3, name="shallow_0")(lr)  # (B, H, W, G0)
        x = conv(self.filters, 3, name="shallow_1")(first)
        outputs = []
        for d in range(self.blocks):
            x = ResidualDenseBlock(conv, self.layers, self.growth, name=f"block_{d}")(x)
            outputs.append(x)
        x = jnp.concatenate(outputs, axis=-1)  # (B, H, W, D * G0)
        x = conv(self.filters, 1, name="fuse_0")(x)
        x = first + conv(self.filters, 3, name="fuse_1")(x)
        if self.upnet != "stages":
            x = relu(conv(64, 5, name="up_0")(x))
            x = relu(conv(32, 3, name="up_1")(x))
            x = conv(3 * self.scale**2, 3, name="up_2")(x)
            if self.upnet == "espcn":
                x = pixel_shuffle(x, self.scale)  # (B, H r, W r, 3)
            else:
                x = jnp.repeat(jnp.repeat(x, self.scale, axis=1), self.scale, axis=2)  # (B, H r, W r, 3 r^2)
            return conv(3, 3, name="tail")(x).astype(jnp.float32)
        for i, factor in enumerate(upscale_factors(self.scale)):
            x = conv(factor**2 * self.filters, 3, name=f"up_{i}")(x)
            x = pixel_shuffle(x, factor)  # (B, H * factor, W * factor, G0)
        return conv(3, 3, name="tail")(x).astype(jnp.float32)  # (B, H r, W r, 3)
