"""WDSR: Wide Activation for Efficient and Accurate Image Super-Resolution (arXiv:1808.08718)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wdsr_jax.models.layers import DIV2K_MEAN, Conv, pixel_shuffle, shift_mean


class BlockA(nn.Module):
    """WDSR-A (section 3.1): x + res_scale * conv3(relu(conv3(x))), wide before the activation.

    (B, H, W, C) -> (B, H, W, C), by way of `expansion * C` channels. For `g_init` see `WDSR`.
    """

    expansion: int
    res_scale: float
    norm: str
    g_init: tuple[str | float, str | float]
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        filters = x.shape[-1]
        first_g, last_g = self.g_init
        y = Conv(self.expansion * filters, 3, self.norm, first_g, self.dtype, name="expand")(x)
        y = nn.relu(y)  # (B, H, W, expansion * C)
        y = Conv(filters, 3, self.norm, last_g, self.dtype, name="project")(y)
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

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        filters = x.shape[-1]
        first_g, last_g = self.g_init
        middle_g = "norm" if first_g == "norm" else 1.0
        low_rank = int(self.low_rank_ratio * filters)
        y = Conv(self.expansion * filters, 1, self.norm, first_g, self.dtype, name="expand")(x)
        y = nn.relu(y)  # (B, H, W, expansion * C)
        y = Conv(low_rank, 1, self.norm, middle_g, self.dtype, name="reduce")(y)
        y = Conv(filters, 3, self.norm, last_g, self.dtype, name="project")(y)
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
        norm: `weight` or `none`, of every convolution.
        g_init: initial g of weight norm: `norm` (||v||: PyTorch's default), `ones`, or `official`, the
            authors' recipe that trains at a learning rate of 1e-3: 2 for the first convolution of a
            block, 1/sqrt(blocks) for its last, 1 elsewhere.
        mean: RGB subtracted from the input and added to the output.
        dtype: of the convolutions and the residual stream, float32 or bfloat16.
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

    @nn.compact
    def __call__(self, lr: jax.Array) -> jax.Array:
        if not jnp.issubdtype(lr.dtype, jnp.floating):  # the mean would become 0 in silence
            raise TypeError(f"lr must be float in [0, 1], not {lr.dtype}")
        g, g_first, g_last = {
            "norm": ("norm", "norm", "norm"),
            "ones": (1.0, 1.0, 1.0),
            "official": (1.0, 2.0, self.blocks**-0.5),
        }[self.g_init]
        shared = dict(norm=self.norm, dtype=self.dtype)
        wide = dict(expansion=self.expansion, res_scale=self.res_scale, g_init=(g_first, g_last), **shared)
        cell = 3 * self.scale**2  # channels that become one r x r cell of RGB

        x = shift_mean(lr, self.mean, -1)
        skip = Conv(cell, 5, g_init=g, name="skip", **shared)(x)  # (B, H, W, 3 r^2)
        x = Conv(self.filters, 3, g_init=g, name="head", **shared)(x)  # (B, H, W, filters)
        for i in range(self.blocks):
            if self.block == "a":
                x = BlockA(name=f"block_{i}", **wide)(x)
            else:
                x = BlockB(name=f"block_{i}", low_rank_ratio=self.low_rank_ratio, **wide)(x)
        x = Conv(cell, 3, g_init=g, name="tail", **shared)(x)  # (B, H, W, 3 r^2)
        x = x.astype(jnp.float32) + skip.astype(jnp.float32)
        return shift_mean(pixel_shuffle(x, self.scale), self.mean, 1)  # (B, H r, W r, 3)
