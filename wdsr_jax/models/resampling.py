"""Layers that change the resolution, and how far upsamplers see."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from wdsr_jax.image.resize_jax import imresize_jax
from wdsr_jax.models.convolution import AnyArray
from wdsr_jax.models.layers import Conv


class StridedConv(Conv):
    """A convolution of stride 2 with k // 2 zeros around, else as `Conv`; it has no use for `convolve`.

    (B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), features)
    """

    def filter(
        self, x: Float[Array, "b h w c"], kernel: Float[Array, "k k c f"]
    ) -> Float[Array, "b h2 w2 f"]:
        """Applies a kernel of `kernel_shape`, without bias."""
        margin = self.kernel_size // 2
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 2), ((margin, margin),) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )


class TransposedConv(Conv):
    """A transposed convolution ("deconvolution"): (B, H, W, C) -> (B, H * factor, W * factor, features).

    Input pixel i reaches output pixels from `factor * i - k // 2` to `factor * i + k // 2`, as in PyTorch's
    ConvTranspose2d(C, features, k, stride=factor, padding=k // 2, output_padding=factor - 1).

    The kernel is that of the convolution which it is the transpose of, (k, k, features, C), and so are its
    initialisation and weight norm: g, (C,), is of each INPUT channel, as in PyTorch. It has no use for
    `convolve`.

    Attributes:
        factor: of the resolution.
        norm: `weight` or `none`; batch norm is a `BatchNorm` after it.
    """

    factor: int = 2

    def kernel_shape(self, inputs: int) -> tuple[int, ...]:
        """Shape of the kernel for a number of input channels."""
        return (self.kernel_size, self.kernel_size, self.features, inputs)

    def filter(
        self, x: Float[Array, "b h w c"], kernel: Float[Array, "k k f c"]
    ) -> Float[Array, "b h2 w2 f"]:
        """Applies a kernel of `kernel_shape`, without bias."""
        before = self.kernel_size - 1 - self.kernel_size // 2
        return jax.lax.conv_general_dilated(
            x,
            kernel[::-1, ::-1].swapaxes(2, 3),  # (k, k, C, features)
            window_strides=(1, 1),
            padding=((before, before + self.factor - 1),) * 2,
            lhs_dilation=(self.factor, self.factor),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )


class Bicubic(nn.Module):
    """MATLAB's bicubic enlargement, unrounded: (B, H, W, C) -> (B, H * scale, W * scale, C).

    Beyond its edge an image goes on as it is there; see `imresize`. It is a module so that inference, which
    pads images, can find it and set where the edge is.
    """

    scale: int

    @nn.compact
    def __call__(self, x: Float[AnyArray, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        return imresize_jax(jnp.asarray(x), self.scale)


class Bilinear(Bicubic):
    """Bilinear enlargement, (B, H, W, C) -> (B, H * scale, W * scale, C), as Bicubic a module for the edge.

    Pixels are squares, whose centres keep their places, and beyond its edge an image goes on as it is there:
    PyTorch's `interpolate(mode="bilinear", align_corners=False)`.
    """

    @nn.compact
    def __call__(self, x: Float[AnyArray, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        for axis in (1, 2):
            widths = [(1, 1) if a == axis else (0, 0) for a in range(1, 4)]
            # `jnp.pad` of the whole batch would slice its first axis, too, which may be sharded.
            pad = functools.partial(jnp.pad, pad_width=widths, mode="edge")
            length, padded = x.shape[axis], jax.vmap(pad)(x)
            phases = []
            for i in range(self.scale):
                place = (i + 0.5) / self.scale + 0.5  # in `padded`, of the first output pixel of the phase
                first = int(place)
                left, right = (
                    jax.lax.slice_in_dim(padded, start, start + length, axis=axis)
                    for start in (first, first + 1)
                )
                phases.append(left + (place - first) * (right - left))
            shape = [n * self.scale if a == axis else n for a, n in enumerate(x.shape)]
            x = jnp.stack(phases, axis + 1).reshape(shape)  # (.., n, phase, ..) -> (.., n * scale, ..)
        return jnp.asarray(x)


def upscale_factors(scale: int) -> tuple[int, ...]:
    """Factors of an upsampler's stages: 2 each time for 2, 4, 8 and so on, else one stage of the scale."""
    doublings = scale.bit_length() - 1
    return (2,) * doublings if scale == 2**doublings else (scale,)


def upsampler_reach(scale: int, tail: int) -> int:
    """By how many LR pixels an upsampler and the layers after it see beyond an output pixel's own LR pixel.

    Args:
        scale: of the upsampler, which has a 3x3 convolution in each stage of `upscale_factors`.
        tail: by how many pixels of the output the layers after it see.
    """
    for factor in reversed(upscale_factors(scale)):
        tail = -(-tail // factor) + 1  # in pixels before the shuffle, and the convolution there
    return tail
