"""WDSR: Wide Activation for Efficient and Accurate Image Super-Resolution (arXiv:1808.08718)."""

import functools
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Shaped

from wdsr_jax.errors import UserError
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


class BlockA(nn.Module):
    """WDSR-A (section 3.1): x + res_scale * conv3(relu(conv3(x))), wide before the activation.

    (B, H, W, C) -> (B, H, W, C), by way of `expansion * C` channels.

    Attributes:
        conv: `Conv`, but for channels, kernel and initial g.
        expansion: channels before the ReLU, as a multiple of C.
        res_scale: factor of the block's output.
        g_init: initial g of the first convolution and of the last.
    """

    conv: ModuleDef
    expansion: int
    res_scale: float
    g_init: tuple[InitialG, InitialG]

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        filters = x.shape[-1]
        first_g, last_g = self.g_init
        y = self.conv(self.expansion * filters, 3, g_init=first_g, name="expand")(x)
        y = relu(y)  # (B, H, W, expansion * C)
        y = self.conv(filters, 3, g_init=last_g, name="project")(y)
        return x + self.res_scale * y


class BlockB(nn.Module):
    """WDSR-B (section 3.2): x + res_scale * conv3(conv1(relu(conv1(x)))), a low-rank wide convolution.

    (B, H, W, C) -> (B, H, W, C), by way of `expansion * C`, then `int(low_rank_ratio * C)` channels.
    Its attributes are those of `BlockA`, and `low_rank_ratio`. The middle convolution has an initial g of 1
    where the others have numbers.
    """

    conv: ModuleDef
    expansion: int
    low_rank_ratio: float
    res_scale: float
    g_init: tuple[InitialG, InitialG]

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        filters = x.shape[-1]
        first_g, last_g = self.g_init
        middle_g = "norm" if first_g == "norm" else 1.0
        low_rank = int(self.low_rank_ratio * filters)
        y = self.conv(self.expansion * filters, 1, g_init=first_g, name="expand")(x)
        y = relu(y)  # (B, H, W, expansion * C)
        y = self.conv(low_rank, 1, g_init=middle_g, name="reduce")(y)
        y = self.conv(filters, 3, g_init=last_g, name="project")(y)
        return x + self.res_scale * y


class WDSR(nn.Module):
    """The network of figure 2 of the paper: head, residual blocks and tail, and one 5x5 skip from the input.

    The input (B, H, W, 3), float RGB in [0, 1], becomes (B, H * scale, W * scale, 3), float32, of the
    same range and not clipped. H and W are any from 1 up.

    Attributes:
        scale: upscaling factor.
        block: `a` or `b`, the kind of residual block.
        filters: channels of the residual stream.
        blocks: number of residual blocks.
        expansion: channels before a block's ReLU, as a multiple of `filters`.
        low_rank_ratio: channels after the low-rank convolution of block `b`, likewise.
        res_scale: factor of a block's output before it joins the stream.
        norm: `weight` or `none`, of every convolution; or `batch`, of those in the blocks, as in SRResNet
            (arXiv:1609.04802, figure 4): outside them it would remove the colours of the image.
        g_init: initial g of weight norm: `norm` (||v||: PyTorch's default), `ones`, or `official`, the
            authors' recipe that trains at a learning rate of 1e-3: 2 for the first convolution of a
            block, 1/sqrt(blocks) for its last, 1 elsewhere.
        mean: RGB subtracted from the input and added to the output.
        dtype: of the convolutions and the residual stream, float32 or bfloat16.
        axis_name: axis of the devices over which batch norm takes its statistics in training.
        convolve: computes the convolutions, see `Conv`.
    """

    scale: int
    block: Literal["a", "b"] = "a"
    filters: int = 32
    blocks: int = 16
    expansion: int = 4
    low_rank_ratio: float = 0.8
    res_scale: float = 1.0
    norm: Norm = "weight"
    g_init: GInit = "official"
    mean: tuple[float, float, float] = DIV2K_MEAN
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    convolve: Convolution = convolve

    def __post_init__(self) -> None:
        if self.block == "b" and int(self.low_rank_ratio * self.filters) < 1:
            raise UserError(
                f"model.low_rank_ratio={self.low_rank_ratio} of filters={self.filters} leaves no channel"
            )
        super().__post_init__()

    @property
    def has_batch_norm(self) -> bool:
        """Whether training moves running statistics (see `batch_norm`)."""
        return self.norm == "batch"

    @property
    def radius(self) -> int:
        """By how many LR pixels the receptive field of an output pixel reaches beyond its own LR pixel."""
        return 1 + (2 if self.block == "a" else 1) * self.blocks + 1  # head, blocks, tail

    @nn.compact
    def __call__(self, lr: Shaped[AnyArray, "b h w 3"]) -> Float[Array, "b {self.scale}*h {self.scale}*w 3"]:
        check_lr(lr)
        g, g_first, g_last = initial_g(self.g_init, self.blocks)
        conv = functools.partial(Conv, dtype=self.dtype, axis_name=self.axis_name, convolve=self.convolve)
        outer = functools.partial(conv, norm="none" if self.norm == "batch" else self.norm, g_init=g)
        inner = functools.partial(conv, norm=self.norm)
        block = BlockA if self.block == "a" else functools.partial(BlockB, low_rank_ratio=self.low_rank_ratio)
        g_inner = g_first, g_last
        cell = 3 * self.scale**2  # channels that become one r x r cell of RGB

        x = shift_mean(lr, self.mean, -1)
        skip = outer(cell, 5, name="skip")(x)  # (B, H, W, 3 r^2)
        x = outer(self.filters, 3, name="head")(x)  # (B, H, W, filters)
        for i in range(self.blocks):
            x = block(inner, self.expansion, res_scale=self.res_scale, g_init=g_inner, name=f"block_{i}")(x)
        x = outer(cell, 3, name="tail")(x)  # (B, H, W, 3 r^2)
        x = x.astype(jnp.float32) + skip.astype(jnp.float32)
        return shift_mean(pixel_shuffle(x, self.scale), self.mean, 1)  # (B, H r, W r, 3)
