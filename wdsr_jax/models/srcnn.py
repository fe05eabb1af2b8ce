"""SRCNN: Image Super-Resolution Using Deep Convolutional Networks (arXiv:1501.00092)."""

import functools
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Shaped

from wdsr_jax.errors import UserError
from wdsr_jax.models.convolution import AnyArray, Convolution, convolve
from wdsr_jax.models.layers import Conv, check_lr, relu
from wdsr_jax.models.resampling import Bicubic

# Weights of R, G and B, and offset, of a luma in [0, 1]; and what a change of it changes in R, G and B.
_LUMA = {
    "luma_full": ((0.299, 0.587, 0.114), 0.0, 1.0),  # JPEG (JFIF 1.02), Pillow's YCbCr
    "luma_studio": ((65.481 / 255, 128.553 / 255, 24.966 / 255), 16 / 255, 255 / 219),  # MATLAB's rgb2ycbcr
}


class SRCNN(nn.Module):
    """Three convolutions on the bicubic enlargement of the image (section 3.1, equations 1 to 3).

    The input (B, H, W, 3), float RGB in [0, 1], becomes (B, H * scale, W * scale, 3), float32, of the
    same range and not clipped. H and W are any from 1 up.

    It works on R, G and B together (section 4.4, c = 3) or on luma alone, as for the paper's other figures;
    then chroma is that of the enlargement. It pads each convolution with zeros, where the paper trains
    without padding. Kernels are initially Gaussian
    with a standard deviation of 0.001 and biases 0 (section 3.3).

    Attributes:
        scale: upscaling factor.
        middle: side of the second kernel, f2: 1 (9-1-5) or 5 (9-5-5).
        channels: `rgb`, or which luma: `luma_full`, of JPEG, where white is 255, or `luma_studio`, of
            ITU-R BT.601, where it is 235.
        filters: n1, channels of the first convolution; the second has half of them, as in table 1.
        dtype: of the convolutions, float32 or bfloat16.
        convolve: computes the convolutions, see `Conv`.
    """

    scale: int
    middle: int = 1
    channels: Literal["rgb", "luma_full", "luma_studio"] = "rgb"
    filters: int = 64
    dtype: DTypeLike = jnp.float32
    convolve: Convolution = convolve

    def __post_init__(self) -> None:
        if self.filters < 2:
            name = f"srcnn_9{self.middle}5"
            raise UserError(f"model.filters must be at least 2 for {name}, not {self.filters}")
        super().__post_init__()

    @property
    def radius(self) -> int:
        """By how many LR pixels the receptive field of an output pixel reaches beyond its own LR pixel."""
        reach = 4 + self.middle // 2 + 2  # of the convolutions, in pixels of the output
        # The outermost pixel, counted from the first in its LR pixel. Left of the centre of an LR pixel the
        # bicubic sees two more LR pixels to the left, elsewhere one; to the right it is the mirror image.
        phase = -reach % self.scale
        return -(-reach // self.scale) + (2 if 2 * phase + 1 < self.scale else 1)

    @nn.compact
    def __call__(self, lr: Shaped[AnyArray, "b h w 3"]) -> Float[Array, "b {self.scale}*h {self.scale}*w 3"]:
        check_lr(lr)
        conv = functools.partial(Conv, norm="none", kernel_init=nn.initializers.normal(1e-3))
        conv = functools.partial(conv, dtype=self.dtype, convolve=self.convolve)

        def network(x: Array, channels: int) -> Array:
            x = relu(conv(self.filters, 9, name="extract")(x))
            x = relu(conv(self.filters // 2, self.middle, name="map")(x))
            return conv(channels, 5, name="reconstruct")(x).astype(jnp.float32)

        enlarged = Bicubic(self.scale, name="bicubic")(lr)  # (B, H r, W r, 3)
        if self.channels == "rgb":
            return network(enlarged, 3)
        weights, offset, gain = _LUMA[self.channels]
        weights = jnp.asarray(weights, enlarged.dtype)[None, None, None, :]
        luma = jnp.sum(enlarged * weights, axis=-1, keepdims=True) + offset  # (B, H r, W r, 1)
        return enlarged + gain * (network(luma, 1) - luma)
