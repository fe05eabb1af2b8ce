"""WDSR: Wide Activation for Efficient and Accurate Image Super-Resolution (arXiv:1808.08718)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wdsr_jax.models.layers import DIV2K_MEAN, Conv, check_float, initial_g, pixel_shuffle, shift_mean


class BlockA(nn.Module):
    """WDSR-A (section 3.1): x + res_scale * conv3(relu(conv3(x))), wide before the activation.

    (B, H, W, C) -> (B, H, W, C), by way of `expansion * C` channels. For `g_init` see `WDSR`.
    """

    expansion: int
    res_scale: float
    norm: str
    g_init: tuple[str | float, str | float]
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        filters = x.shape[-1]
        first_g, last_g = self.g_init
        shared = dict(dtype=self.dtype, axis_name=self.axis_name)
        y = Conv(self.expansion * filters, 3, self.norm, first_g, name="expand", **shared)(x)
        y = nn.relu(y)  # (B, H, W, expansion * C)
        y = Conv(filters, 3, self.norm, last_g, name="project", **shared)(y)
        return x + self.res_scale * y


class BlockB(nn.Module):
    """WDSR-B (section 3.2): x + res_scale * conv3(conv1(relu(conv1(x)))), a low-rank wide convolution.

    (B, H, W, C) -> (B, H, W, C), by way of `expansion * C`, then `int(low_rank_ratio * C)` channels.
    For `g_init` see `WDSR`; the middle convolution has g = 1 where the others have numbers.
    """

    expansion: int
    low_rank_ratio: float
    res_scale: float
    norm: str
    g_init: tuple[str | float, str | float]
    dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        filters = x.shape[-1]
        first_g, last_g = self.g_init
        shared = dict(dtype=self.dtype, axis_name=self.axis_name)
        middle_g = "norm" if first_g == "norm" else 1.0
        low_rank = int(self.low_rank_ratio * filters)
        y = Conv(self.expansion * filters, 1, self.norm, first_g, name="expand", **shared)(x)
        y = nn.relu(y)  # (B, H, W, expansion * C)
        y = Conv(low_rank, 1, self.norm, middle_g, name="reduce", **shared)(y)
        y = Conv(filters, 3, self.norm, last_g, name="project", **shared)(y)
        return x + self.res_scale * y


class WDSR(nn.Module):
    """The network of figure 2 of the paper: head, residual blocks and tail, with one 5x5 skip beside.

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
        norm: `weight` or `none`, of every convolution; or `batch`, of those in the blocks, as SRResNet has it
            (arXiv:1609.04802, figure 4): outside them it would take the colours of its batch for the image's.
        g_init: initial g of weight norm: `norm` (||v||: PyTorch's default), `ones`, or `official`, the
            authors' recipe that trains at a learning rate of 1e-3: 2 for the first convolution of a
            block, 1/sqrt(blocks) for its last, 1 elsewhere.
        mean: RGB subtracted from the input and added to the output.
        dtype: of the convolutions and the residual stream, float32 or bfloat16.
        axis_name: of the devices over which batch norm takes its statistics in training.
    """

    scale: int
    block: str = "a"
    filters: int = 32
    blocks: int = 16
    expansion: int = 4
    low_rank_ratio: float = 0.8
    res_scale: float = 1.0
    norm: str = "weight"
    g_init: str = "official"
    mean: tuple[float, float, float] = DIV2K_MEAN
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @property
    def radius(self) -> int:
        """By how many LR pixels the receptive field of an output pixel reaches beyond its own LR pixel."""
        return 1 + (2 if self.block == "a" else 1) * self.blocks + 1  # head, blocks, tail

    @nn.compact
    def __call__(self, lr: jax.Array) -> jax.Array:
        check_float(lr)
        g, g_first, g_last = initial_g(self.g_init, self.blocks)
        shared = dict(dtype=self.dtype, axis_name=self.axis_name)
        wide = dict(expansion=self.expansion, res_scale=self.res_scale, g_init=(g_first, g_last))
        wide |= dict(norm=self.norm, **shared)
        outer = dict(norm="none" if self.norm == "batch" else self.norm, g_init=g, **shared)
        cell = 3 * self.scale**2  # channels that become one r x r cell of RGB

        x = shift_mean(lr, self.mean, -1)
        skip = Conv(cell, 5, name="skip", **outer)(x)  # (B, H, W, 3 r^2)
        x = Conv(self.filters, 3, name="head", **outer)(x)  # (B, H, W, filters)
        for i in range(self.blocks):
            if self.block == "a":
                x = BlockA(name=f"block_{i}", **wide)(x)
            else:
                x = BlockB(name=f"block_{i}", low_rank_ratio=self.low_rank_ratio, **wide)(x)
        x = Conv(cell, 3, name="tail", **outer)(x)  # (B, H, W, 3 r^2)
        x = x.astype(jnp.float32) + skip.astype(jnp.float32)
        return shift_mean(pixel_shuffle(x, self.scale), self.mean, 1)  # (B, H r, W r, 3)
