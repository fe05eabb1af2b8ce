"""EDRN: Encoder-Decoder Residual Network for Real Super-Resolution (Cheng et al., CVPR workshops 2019)."""

import functools
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Shaped

from wdsr_jax.errors import UserError
from wdsr_jax.models.batch_norm import BatchNorm
from wdsr_jax.models.convolution import AnyArray, Convolution, convolve
from wdsr_jax.models.layers import Conv, ModuleDef, check_lr, relu, shift_mean
from wdsr_jax.models.resampling import StridedConv, TransposedConv

_REDUCTION = 16  # of channel attention


class ChannelAttention(nn.Module):
    """Weighs the channels by their means over the whole image (RCAN, arXiv:1807.02758, section 3.3).

    (B, H, W, C); the shape stays.

    Attributes:
        conv: `Conv`, but for channels and kernel.
    """

    conv: ModuleDef

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        channels = x.shape[-1]
        y = jnp.mean(x, axis=(1, 2), keepdims=True)  # (B, 1, 1, C)
        y = relu(self.conv(max(1, channels // _REDUCTION), 1, name="squeeze")(y))
        y = self.conv(channels, 1, name="excite")(y)
        return x * nn.sigmoid(y)


class Block(nn.Module):
    """conv3, ReLU, conv3, channel attention, and the sum with the input; the shape stays.

    Attributes:
        conv: `Conv`, but for channels and kernel.
    """

    conv: ModuleDef

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        filters = x.shape[-1]
        y = relu(self.conv(filters, 3, name="first")(x))
        y = self.conv(filters, 3, name="last")(y)
        return x + ChannelAttention(self.conv, name="attention")(y)


class ResidualGroup(nn.Module):
    """Blocks, a closing conv3, and the sum with the input; the shape stays.

    Attributes:
        conv: `Conv`, but for channels and kernel.
        blocks: number of blocks.
    """

    conv: ModuleDef
    blocks: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        start = x
        for i in range(self.blocks):
            x = Block(self.conv, name=f"block_{i}")(x)
        return start + self.conv(x.shape[-1], 3, name="close")(x)


class EDRN(nn.Module):
    """The network of the paper's figure 2, as its authors' code has it (yyknight/NTIRE2019_EDRN, `edrn.py`).

    LR and HR have one size: (B, H, W, 3), float RGB in [0, 1], becomes the same, float32, not clipped. H and
    W are any from 1 up. Other sizes than multiples of 4 are padded to one at the bottom and the right by
    repeating the edge, and the result is cropped; the authors' code takes multiples of 4 only.

    Head 3x3; two encoders (3x3 of stride 2, batch norm, ReLU), each to twice the channels; residual groups
    and a 3x3 convolution at each level, lowest first, and the sum with what the encoder (or head) put out
    there; between them decoders (transposed 3x3 of stride 2, batch norm, ReLU); tail 3x3.

    Its channel attention takes means over the whole image, so it has no finite receptive field and cannot
    work in tiles: `radius` is None.

    Attributes:
        scale: 1, the only one.
        filters: channels at the full resolution.
        blocks: of a residual group.
        groups: at a quarter of the resolution, a half and the whole.
        norm: `weight`, the paper's: weight norm of every convolution, and batch norm in encoders and
            decoders; or `none`: no weight norm, and the factors and biases of a folded batch norm.
        mean: RGB subtracted from the input and added to the output.
        dtype: of the convolutions and the residual stream, float32 or bfloat16.
        axis_name: axis of the devices over which batch norm takes its statistics in training.
        convolve: computes the convolutions, see `Conv`.
    """

    scale: int = 1
    filters: int = 64
    blocks: int = 10
    groups: tuple[int, int, int] = (4, 2, 1)
    norm: Literal["weight", "none"] = "weight"
    mean: tuple[float, float, float] = (0.4313, 0.4162, 0.3861)
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    convolve: Convolution = convolve

    radius = None

    def __post_init__(self) -> None:
        if self.scale != 1:
            raise UserError(
                f"model.scale must be 1 for edrn, whose LR and HR have one size, not {self.scale}"
            )
        super().__post_init__()

    @property
    def has_batch_norm(self) -> bool:
        """Whether training moves running statistics (see `batch_norm`)."""
        return self.norm == "weight"

    @nn.compact
    def __call__(self, lr: Shaped[AnyArray, "b h w 3"]) -> Float[Array, "b h w 3"]:
        check_lr(lr)
        shared: dict[str, Any] = dict(norm=self.norm, dtype=self.dtype, convolve=self.convolve)
        conv = functools.partial(Conv, **shared)

        def batch_norm(name: str) -> BatchNorm:
            return BatchNorm(folded=self.norm == "none", axis_name=self.axis_name, name=name)

        def level(x: Array, i: int) -> Array:
            for group in range(self.groups[i]):
                x = ResidualGroup(conv, self.blocks, name=f"level_{i}_group_{group}")(x)
            return conv(x.shape[-1], 3, name=f"level_{i}_close")(x)

        _, height, width, _ = lr.shape
        # Written so that JAX sees multiples of 4 where sizes are symbols, as in export.
        below, right = (4 * ((side + 3) // 4) - side for side in (height, width))
        # `jnp.pad` of the whole batch would slice its first axis, too, which may be sharded.
        x = jax.vmap(lambda image: jnp.pad(image, ((0, below), (0, right), (0, 0)), mode="edge"))(lr)
        x = shift_mean(x, self.mean, -1)  # (B, H', W', 3), multiples of 4
        x = conv(self.filters, 3, name="head")(x)
        skips = []
        for i, filters in enumerate((2 * self.filters, 4 * self.filters)):
            skips.append(x)
            x = StridedConv(filters, 3, name=f"encoder_{i}", **shared)(x)
            x = relu(batch_norm(f"encoder_{i}_norm")(x))  # half of H and W each time
        skips.append(x)
        x = skips[2] + level(x, 0)
        for i, filters in enumerate((2 * self.filters, self.filters)):
            x = TransposedConv(filters, 3, name=f"decoder_{i}", **shared)(x)
            x = relu(batch_norm(f"decoder_{i}_norm")(x))  # twice H and W
            x = skips[1 - i] + level(x, i + 1)
        x = conv(3, 3, name="tail")(x).astype(jnp.float32)
        return shift_mean(x, self.mean, 1)[:, :height, :width]
