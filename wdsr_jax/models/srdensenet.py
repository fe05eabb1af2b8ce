"""SRDenseNet: Image Super-Resolution Using Dense Skip Connections (Tong et al., ICCV 2017)."""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Shaped

from wdsr_jax.models.convolution import AnyArray, Convolution, convolve
from wdsr_jax.models.layers import Conv, ModuleDef, check_lr, relu
from wdsr_jax.models.resampling import TransposedConv, upscale_factors


class DenseBlock(nn.Module):
    """3x3 convolutions, each on the outputs of all before it (section 3.2, equation 2).

    (B, H, W, C) becomes (B, H, W, layers * growth), all outputs. The first convolution sees the input, the
    others see it by that one, as in the public implementations; the paper does not say.

    Attributes:
        conv: `Conv`, but for channels and kernel.
        layers: number of convolutions.
        growth: channels of each.
    """

    conv: ModuleDef
    layers: int
    growth: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w {self.layers}*{self.growth}"]:
        features = relu(self.conv(self.growth, 3, name="conv_0")(x))
        for c in range(1, self.layers):
            y = relu(self.conv(self.growth, 3, name=f"conv_{c}")(features))
            features = jnp.concatenate([features, y], axis=-1)  # (B, H, W, (c + 1) * growth)
        return features


class SRDenseNet(nn.Module):
    """The network of figure 3c, "SRDenseNet_All", in RGB: features of all levels reach the upsampler.

    The input (B, H, W, 3), float RGB in [0, 1], becomes (B, H * scale, W * scale, 3), float32, of the
    same range and not clipped. H and W are any from 1 up. No mean is subtracted. A ReLU follows each layer
    but the last; the paper has luma alone, and one channel where this has three.

    The first convolution has as many channels as a block puts out. Each block sees the outputs of all before
    it. A 1x1 convolution, the bottleneck, makes `filters` channels of the outputs of all levels, and a
    transposed 3x3 convolution enlarges them by each factor of a scale of 2, 4, 8 and so on; another scale r,
    which the paper does not have, is one such convolution with a kernel of 2 r - 1, as in `EDSR`.

    Attributes:
        scale: upscaling factor.
        filters: channels after the bottleneck and in the upsampler.
        blocks: number of blocks.
        layers: 3x3 convolutions in a block.
        growth: channels of each.
        dtype: of the convolutions, float32 or bfloat16.
        convolve: computes the convolutions, see `Conv`.
    """

    scale: int
    filters: int = 256
    blocks: int = 8
    layers: int = 8
    growth: int = 16
    dtype: DTypeLike = jnp.float32
    convolve: Convolution = convolve

    @property
    def radius(self) -> int:
        """By how many LR pixels the receptive field of an output pixel reaches beyond its own LR pixel."""
        # As for EDSR's: a transposed convolution and the last one see one LR pixel beyond.
        return 1 + self.blocks * self.layers + 1

    @nn.compact
    def __call__(self, lr: Shaped[AnyArray, "b h w 3"]) -> Float[Array, "b {self.scale}*h {self.scale}*w 3"]:
        check_lr(lr)
        conv = functools.partial(Conv, norm="none", dtype=self.dtype, convolve=self.convolve)
        x = relu(conv(self.layers * self.growth, 3, name="low_level")(lr))
        for b in range(self.blocks):
            y = DenseBlock(conv, self.layers, self.growth, name=f"block_{b}")(x)
            x = jnp.concatenate([x, y], axis=-1)  # (B, H, W, (b + 2) * layers * growth)
        x = relu(conv(self.filters, 1, name="bottleneck")(x))
        up = functools.partial(TransposedConv, self.filters, norm="none", dtype=self.dtype)
        for i, factor in enumerate(upscale_factors(self.scale)):
            up_i = up(2 * factor - 1, name=f"up_{i}", factor=factor)
            x = relu(up_i(x))  # (B, H * factor, W * factor, filters)
        return conv(3, 3, name="tail")(x).astype(jnp.float32)  # (B, H r, W r, 3)
