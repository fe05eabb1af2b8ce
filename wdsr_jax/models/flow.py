"""A space of SR images for one LR image: conditional flow matching around WDSR.

Super-resolution is one to many: a network trained on L1 or L2 gives one image between all answers. Here WDSR
gives that image, and a second network of wide-activation blocks, in LR resolution as well, carries Gaussian
noise to what the image lacks, HR - WDSR(LR). Each noise becomes another answer.

The flow is that of straight paths (Lipman et al., arXiv:2210.02747, section 4.1 with sigma_min = 0; Liu et
al., arXiv:2209.03003, equation 1): x_t = (1 - t) x_0 + t x_1 with x_0 Gaussian and x_1 from the data. The
network learns the velocity x_1 - x_0; a sample follows it from t = 0 to 1 (`euler`).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int, Shaped

from wdsr_jax.errors import UserError
from wdsr_jax.models.convolution import AnyArray, Convolution, convolve
from wdsr_jax.models.layers import (
    DIV2K_MEAN,
    Conv,
    GInit,
    InitialG,
    ModuleDef,
    check_lr,
    initial_g,
    pixel_shuffle,
    pixel_unshuffle,
)
from wdsr_jax.models.wdsr import WDSR, BlockB

_FREQUENCIES = 4  # of the time: waves of 1/2, 1, 2 and 4 periods from t = 0 to 1
# Of the blocks of the velocity, as in WDSR-B.
_EXPANSION, _LOW_RANK = 6, 0.8
# (x, t) -> v: the velocity (B, ...) at the points (B, ...) at the times (B,).
Velocity = Callable[[Array, Array], Array]


class VelocityField(nn.Module):
    """v(x, t | condition): WDSR-B's blocks, with the time as a bias of each block's channels.

    (B, H, W, C), (B,) and (B, H, W, K) -> (B, H, W, C).

    Where x_1 has a mean of 0 and a variance of 1, the best velocity that is linear in x is
    (2 t - 1) x / (t^2 + (1 - t)^2), and what it leaves has a variance of 1 / (t^2 + (1 - t)^2). The blocks
    give only that rest, at a variance of 1 (as Karras et al., arXiv:2206.00364, section 5, for diffusion).

    Attributes:
        conv: `Conv`, but for channels, kernel and initial g.
        filters: channels of the residual stream.
        blocks: number of residual blocks.
        g_init: initial g of the convolutions outside the blocks, of the first in each and of its last.
    """

    conv: ModuleDef
    filters: int
    blocks: int
    g_init: tuple[InitialG, InitialG, InitialG]

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], t: Float[Array, " b"], condition: Float[Array, "b h w k"]
    ) -> Float[Array, "b h w c"]:
        g, g_first, g_last = self.g_init
        waves = jnp.pi * t[:, None] * 2.0 ** jnp.arange(_FREQUENCIES, dtype=t.dtype)[None, :]  # (B, 4)
        waves = jnp.concatenate([jnp.sin(waves), jnp.cos(waves)], axis=1)
        bias = nn.Dense(self.blocks * self.filters, name="time")(waves)
        bias = bias.reshape(len(t), self.blocks, 1, 1, self.filters)

        y = self.conv(self.filters, 3, g_init=g, name="head")(jnp.concatenate([x, condition], axis=-1))
        for i in range(self.blocks):
            block = BlockB(self.conv, _EXPANSION, _LOW_RANK, 1.0, (g_first, g_last), name=f"block_{i}")
            y = block(y + bias[:, i].astype(y.dtype))
        y = self.conv(x.shape[-1], 3, g_init=0.0, name="tail")(y).astype(jnp.float32)

        t = t[:, None, None, None]
        variance = jnp.square(t) + jnp.square(1 - t)
        return (2 * t - 1) / variance * x + y / jnp.sqrt(variance)

    @property
    def radius(self) -> int:
        """By how many pixels a velocity depends on x beyond its own pixel."""
        return 1 + self.blocks + 1  # head, blocks, tail


class FlowWDSR(nn.Module):
    """WDSR-A and the velocity of what its SR lacks.

    The input (B, H, W, 3), float RGB in [0, 1], becomes WDSR's SR (B, H * scale, W * scale, 3), float32, of
    the same range and not clipped: by itself the module is that network. `velocity` is the other one, and
    `FlowSampler` draws samples.

    Attributes:
        scale: upscaling factor.
        filters, blocks, expansion: of WDSR-A.
        flow_filters: channels of the residual stream of the velocity.
        flow_blocks: its number of blocks.
        spread: standard deviation of HR - SR, by which it is divided.
        norm, g_init, mean, dtype, convolve: of both, as for `WDSR`.
    """

    scale: int
    filters: int = 32
    blocks: int = 16
    expansion: int = 4
    flow_filters: int = 48
    flow_blocks: int = 4
    spread: float = 0.04
    norm: Literal["weight", "none"] = "weight"
    g_init: GInit = "official"
    mean: tuple[float, float, float] = DIV2K_MEAN
    dtype: DTypeLike = jnp.float32
    convolve: Convolution = convolve

    def __post_init__(self) -> None:
        if not self.spread > 0:
            raise UserError(f"model.spread must be above 0, not {self.spread}")
        super().__post_init__()

    def setup(self) -> None:
        common: dict[str, Any] = dict(norm=self.norm, dtype=self.dtype, convolve=self.convolve)
        self.base = WDSR(
            self.scale,
            filters=self.filters,
            blocks=self.blocks,
            expansion=self.expansion,
            g_init=self.g_init,
            mean=self.mean,
            **common,
        )
        self.field = VelocityField(
            functools.partial(Conv, **common),
            self.flow_filters,
            self.flow_blocks,
            initial_g(self.g_init, self.flow_blocks),
        )

    @property
    def radius(self) -> int:
        """By how many LR pixels the receptive field of WDSR reaches beyond an output pixel's own LR pixel."""
        return 1 + 2 * self.blocks + 1

    def __call__(self, lr: Shaped[AnyArray, "b h w 3"]) -> Float[Array, "b {self.scale}*h {self.scale}*w 3"]:
        sr = self.base(lr)
        if self.is_initializing():
            cells = jnp.zeros((*lr.shape[:3], 3 * self.scale**2))
            self.velocity(cells, jnp.zeros(lr.shape[0]), lr, sr)
        return sr

    def velocity(
        self,
        x: Float[Array, "b h w c"],
        t: Float[Array, " b"],
        lr: Float[AnyArray, "b h w 3"],
        sr: Float[Array, "b {self.scale}*h {self.scale}*w 3"],
    ) -> Float[Array, "b h w c"]:
        """v(x_t, t, LR).

        Args:
            x: x_t, cells of 3 scale^2 channels in the order of `pixel_shuffle`.
            t: times in [0, 1].
            lr: LR.
            sr: WDSR's SR of it, which is worked out once for all times.
        """
        colours = lr - jnp.asarray(self.mean, lr.dtype)[None, None, None, :]
        # What SR has beyond LR, of the size of what it lacks.
        detail = pixel_unshuffle(sr, self.scale) - jnp.tile(lr, (1, 1, 1, self.scale**2))
        condition = jnp.concatenate([colours, detail / self.spread], axis=-1)
        return self.field(x, t, condition)


class FlowSampler(FlowWDSR):
    """`FlowWDSR`, of the same parameters, as the map from an LR image and noise to an SR image.

    The input (B, H, W, 3 + 3 scale^2) is LR and x_0, such as `pixel_noise` times a temperature. It becomes
    (B, H * scale, W * scale, 3), float32, not clipped: SR + spread x_1.

    Attributes:
        steps: of Euler's method from x_0 to x_1.
    """

    steps: int = 4

    @property
    def radius(self) -> int:
        """By how many LR pixels the receptive field reaches beyond an output pixel's own LR pixel."""
        return super().radius + self.steps * (self.flow_blocks + 2)

    @property
    def input_channels(self) -> int:
        """Channels of the input: LR and noise."""
        return 3 + 3 * self.scale**2

    def __call__(self, x: Float[AnyArray, "b h w c"]) -> Float[Array, "b {self.scale}*h {self.scale}*w 3"]:
        if self.is_initializing():  # from an LR image, as any network
            return super().__call__(x)
        lr, noise = x[..., :3], jnp.asarray(x[..., 3:])
        check_lr(lr)
        sr = self.base(lr)
        cells = euler(lambda x, t: self.velocity(x, t, lr, sr), noise, self.steps)
        return sr + self.spread * pixel_shuffle(cells, self.scale)


def sampler_of(module: FlowWDSR) -> FlowSampler:
    """The map from LR and noise to SR, of the same parameters."""
    fields: dict[str, Any] = {
        field.name: getattr(module, field.name) for field in dataclasses.fields(FlowWDSR)
    }
    fields.update(parent=None, name=None)
    return FlowSampler(**fields)


def euler(velocity: Velocity, x: Float[Array, "b ..."], steps: int) -> Float[Array, "b ..."]:
    """x_1 of x_0 along a velocity, by Euler's method.

    Args:
        velocity: (x, t) -> v.
        x: x_0.
        steps: number of equal steps from t = 0 to 1.
    """
    for step in range(steps):
        x = x + velocity(x, jnp.full(x.shape[:1], step / steps, x.dtype)) / steps
    return x


def path(
    x0: Float[AnyArray, "b ..."], x1: Float[AnyArray, "b ..."], t: Float[AnyArray, " b"]
) -> tuple[Float[AnyArray, "b ..."], Float[AnyArray, "b ..."]]:
    """x_t = (1 - t) x_0 + t x_1, and the velocity there, x_1 - x_0.

    Args:
        x0: noise.
        x1: data.
        t: a time for each.
    """
    t = t.reshape(-1, *[1] * (x0.ndim - 1))
    return (1 - t) * x0 + t * x1, x1 - x0


@functools.partial(jax.jit, static_argnames="shape")
def pixel_noise(
    key: Shaped[Array, ""], corner: Int[AnyArray, " 2"], shape: tuple[int, int, int]
) -> Float[Array, "h w c"]:
    """Gaussian noise in which the C numbers of a pixel depend on the key, its row and its column alone.

    So a window has the noise that the whole image has there.

    Args:
        key: of `jax.random.key`.
        corner: row and column of the window's first pixel.
        shape: (H, W, C).
    """
    height, width, channels = shape

    def at_pixel(row: Array, column: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(jax.random.fold_in(key, row), column), (channels,))

    rows, columns = corner[0] + jnp.arange(height), corner[1] + jnp.arange(width)
    return jax.vmap(lambda row: jax.vmap(lambda column: at_pixel(row, column))(columns))(rows)
