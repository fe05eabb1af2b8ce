"""EDRN: Encoder-Decoder Residual Network for Real Super-Resolution (Cheng et al., CVPR workshops 2019)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wdsr_jax.models.batch_norm import BatchNorm
from wdsr_jax.models.layers import Conv, check_float, shift_mean
from wdsr_jax.models.resampling import StridedConv, TransposedConv

_REDUCTION = 16  # of channel attention


class ChannelAttention(nn.Module):
    """Weighs the channels by their means over the whole image (RCAN, arXiv:1807.02758, section 3.3).

    (B, H, W, C) as it was.
    """

    norm: str
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        y = jnp.mean(x, axis=(1, 2), keepdims=True)  # (B, 1, 1, C)
        y = nn.relu(Conv(max(1, channels // _REDUCTION), 1, self.norm, dtype=self.dtype, name="squeeze")(y))
        y = Conv(channels, 1, self.norm, dtype=self.dtype, name="excite")(y)
        return x * nn.sigmoid(y)


class Block(nn.Module):
    """conv3, ReLU, conv3, channel attention, and the sum with the input; (B, H, W, C) as it was."""

    norm: str
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shared = dict(norm=self.norm, dtype=self.dtype)
        y = nn.relu(Conv(x.shape[-1], 3, name="first", **shared)(x))
        y = Conv(x.shape[-1], 3, name="last", **shared)(y)
        return x + ChannelAttention(name="attention", **shared)(y)


class ResidualGroup(nn.Module):
    """Blocks, a closing conv3, and the sum with the input; (B, H, W, C) as it was."""

    blocks: int
    norm: str
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shared = dict(norm=self.norm, dtype=self.dtype)
        start = x
        for i in range(self.blocks):
            x = Block(name=f"block_{i}", **shared)(x)
        return start + Conv(x.shape[-1], 3, name="close", **shared)(x)


class EDRN(nn.Module):
    """The network of the paper's figure 2, as its authors' code has it (yyknight/NTIRE2019_EDRN, `edrn.py`).

    LR and HR have one size: (B, H, W, 3), float RGB in [0, 1], becomes the same, float32, not clipped. H and
    W are any from 1 up. What is no multiple of 4 is padded to one at the bottom and the right by repeating
    its edge, and the result cropped; the authors' code takes multiples of 4 only.

    Head 3x3; two encoders (3x3 of stride 2, batch norm, ReLU), each to twice the channels; residual groups
    and a 3x3 convolution at each level, lowest first, and the sum with what the encoder (or head) put out
    there; in between decoders (transposed 3x3 of stride 2, batch norm, ReLU); tail 3x3.

    Its channel attention takes means over the whole image, so it has no finite receptive field and cannot
    work in tiles: `radius` is None.

    Attributes:
        scale: 1, the only one.
        filters: channels at the full resolution.
        blocks: of a residual group.
        groups: at a quarter of the resolution, a half and the whole.
        norm: `weight`, the paper's: weight norm of every convolution, and batch norm in encoders and
            decoders; or `none`: no weight norm, and factors and biases as of a batch norm that was folded.
        mean: RGB subtracted from the input and added to the output.
        dtype: of the convolutions and the residual stream, float32 or bfloat16.
        axis_name: of the devices over which batch norm takes its statistics in training.
    """

    scale: int = 1
    filters: int = 64
    blocks: int = 10
    groups: tuple[int, int, int] = (4, 2, 1)
    norm: str = "weight"
    mean: tuple[float, float, float] = (0.4313, 0.4162, 0.3861)
    dtype: Any = jnp.float32
    axis_name: str | None = None

    radius = None

    @nn.compact
    def __call__(self, lr: jax.Array) -> jax.Array:
        check_float(lr)
        shared = dict(norm=self.norm, dtype=self.dtype)

        def batch_norm(name: str) -> BatchNorm:
            return BatchNorm(folded=self.norm == "none", axis_name=self.axis_name, name=name)

        def level(x: jax.Array, i: int) -> jax.Array:
            for group in range(self.groups[i]):
                x = ResidualGroup(self.blocks, name=f"level_{i}_group_{group}", **shared)(x)
            return Conv(x.shape[-1], 3, name=f"level_{i}_close", **shared)(x)

        _, height, width, _ = lr.shape
        # Written so that JAX sees multiples of 4 where sizes are symbols, as in export.
        below, right = (4 * ((side + 3) // 4) - side for side in (height, width))
        x = jnp.pad(lr, ((0, 0), (0, below), (0, right), (0, 0)), mode="edge")
        x = shift_mean(x, self.mean, -1)  # (B, H', W', 3), multiples of 4
        x = Conv(self.filters, 3, name="head", **shared)(x)
        skips = []
        for i, filters in enumerate((2 * self.filters, 4 * self.filters)):
            skips.append(x)
            x = StridedConv(filters, 3, name=f"encoder_{i}", **shared)(x)
            x = nn.relu(batch_norm(f"encoder_{i}_norm")(x))  # half of H and W each time
        skips.append(x)
        x = skips[2] + level(x, 0)
        for i, filters in enumerate((2 * self.filters, self.filters)):
            x = TransposedConv(filters, 3, name=f"decoder_{i}", **shared)(x)
            x = nn.relu(batch_norm(f"decoder_{i}_norm")(x))  # twice H and W
            x = skips[1 - i] + level(x, i + 1)
        x = Conv(3, 3, name="tail", **shared)(x).astype(jnp.float32)
        return shift_mean(x, self.mean, 1)[:, :height, :width]
