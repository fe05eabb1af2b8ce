"""The normalised convolution, pixel shuffle and the other parts that networks share."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Shaped

from wdsr_jax.models.batch_norm import STATISTICS, batch_norm, batch_norm_affine
from wdsr_jax.models.convolution import AnyArray, Convolution, convolve

# Mean RGB of the 800 training images of DIV2K, in [0, 1] (EDSR-PyTorch, `common.MeanShift`).
DIV2K_MEAN = (0.4488, 0.4371, 0.4040)

# PyTorch's default initialisation of a convolution, U(-1, 1) / sqrt(fan in), which the published WDSR
# results start from. Under weight norm only its direction counts, and its length against the step size.
kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

ModuleDef = Any  # a module class, or a partial of one, such as the `conv` of a block
Norm = Literal["weight", "batch", "none"]
NORMS: tuple[str, ...] = get_args(Norm)
GInit = Literal["official", "norm", "ones"]  # of a network, see `initial_g`
InitialG = float | Literal["norm"]  # of a convolution, see `Conv`


def normalise(
    kernel: Float[AnyArray, "*n kh kw i o"], scale: Float[AnyArray, "*n o"]
) -> Float[Array, "*n kh kw i o"]:
    """Weight norm, `w = g v / ||v||` (Salimans and Kingma, arXiv:1602.07868, eq. 2).

    Args:
        kernel: v, float32; of one convolution, or of several stacked along axes before.
        scale: g, float32.

    Returns:
        w; the norm of each convolution is taken over all axes but the output channel. A filter of zeros stays
        one, and its gradient is that of w = g v.
    """
    squares = jnp.sum(jnp.square(kernel), axis=(-4, -3, -2))  # (..., C_out)
    norm = jnp.sqrt(jnp.where(squares > 0, squares, 1))
    return jnp.multiply(kernel, (scale / norm)[..., None, None, None, :])


@jax.custom_jvp
def relu(x: Float[AnyArray, "*shape"]) -> Float[Array, "*shape"]:
    """max(x, 0), any shape.

    As `jax.nn.relu`, but its gradient is taken from its result, which the next layer keeps anyway. So
    training need not keep the input, and a GPU computes ReLU within the convolution before it.
    """
    return jnp.maximum(x, 0)


@relu.defjvp
def _relu_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    y = relu(*primals)
    return y, jnp.where(y != 0, *tangents, 0)  # y > 0 is x > 0 to XLA, which would keep x


class Conv(nn.Module):
    """A stride-1 convolution with bias and zero padding, (B, H, W, C) -> (B, H, W, features).

    The convolutions in `resampling` change the resolution; `batch_norm` says how statistics are kept.

    Attributes:
        features: number of output channels.
        kernel_size: side of the square kernel, odd.
        norm: `weight` (parameters `kernel` = v, `scale` = g, `bias`), `batch` (`kernel`, `scale` = gamma,
            `bias` = beta, `mean`, `var`) or `none` (`kernel`, `bias`).
        g_init: initial g: a number, or `norm` for ||v||, where w starts as v (PyTorch's default). The
            initial gamma is 1.
        dtype: of the convolution. Parameters and norms are float32 whatever it is.
        axis_name: axis of the devices over which the statistics of the batch are taken.
        kernel_init: initialises the kernel.
        convolve: computes the convolution; a training step sets another than inference has.
    """

    features: int
    kernel_size: int
    norm: Norm = "weight"
    g_init: InitialG = "norm"
    dtype: DTypeLike = jnp.float32
    axis_name: str | None = None
    kernel_init: Callable[..., Array] = kernel_init
    convolve: Convolution = convolve

    @nn.compact
    def __call__(self, x: Float[AnyArray, "b h w c"]) -> Float[Array, "b h2 w2 {self.features}"]:
        kernel = self.param("kernel", self.kernel_init, self.kernel_shape(x.shape[-1]), jnp.float32)
        if self.norm == "weight":

            def init_scale(_: Array) -> Array:
                if self.g_init == "norm":
                    return jnp.sqrt(jnp.sum(jnp.square(kernel), axis=(0, 1, 2)))
                return jnp.full(kernel.shape[-1:], self.g_init, jnp.float32)

            kernel = normalise(kernel, self.param("scale", init_scale))
        elif self.norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(NORMS)}, not {self.norm!r}")
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        y = self.filter(jnp.asarray(x, self.dtype), jnp.asarray(kernel, self.dtype))
        if self.norm == "batch":
            factor, bias = batch_norm(self, y, bias)
            y = y * factor.astype(self.dtype)[None, None, None, :]
        return y + bias.astype(self.dtype)[None, None, None, :]

    def kernel_shape(self, inputs: int) -> tuple[int, ...]:
        """Shape of the kernel for a number of input channels."""
        return (self.kernel_size, self.kernel_size, inputs, self.features)

    def filter(
        self, x: Float[Array, "b h w c"], kernel: Float[Array, "k k i o"]
    ) -> Float[Array, "b h2 w2 f"]:
        """Applies a kernel of `kernel_shape`, without bias."""
        return self.convolve(x, kernel)


def pixel_shuffle(x: Float[AnyArray, "b h w c"], scale: int) -> Float[Array, "b h2 w2 c2"]:
    """Rearranges channels into space (Shi et al., arXiv:1609.05158, eq. 4), by reshape.

    Channels are in depth-to-space order, `(i * scale + j) * C + c` for row i and column j of a cell.
    (PyTorch's PixelShuffle has `c * scale**2 + i * scale + j`.)

    Args:
        x: (B, H, W, scale * scale * C).
        scale: the upscaling factor.

    Returns:
        (B, H * scale, W * scale, C).
    """
    b, h, w, c = x.shape
    y = jnp.reshape(x, (b, h, w, scale, scale, c // scale**2))  # (B, H, W, i, j, C)
    y = y.transpose(0, 1, 3, 2, 4, 5)  # (B, H, i, W, j, C)
    # In two steps: where both pairs of axes merge at once, JAX does not find the sharding in a mesh.
    y = y.reshape(b, h * scale, w, scale, c // scale**2)  # (B, H*scale, W, j, C)
    return y.reshape(b, h * scale, w * scale, c // scale**2)  # (B, H*scale, W*scale, C)


def pixel_unshuffle(x: Float[AnyArray, "b h w c"], scale: int) -> Float[Array, "b h2 w2 c2"]:
    """The inverse of `pixel_shuffle`: (B, H * scale, W * scale, C) -> (B, H, W, scale * scale * C)."""
    b, h, w, c = x.shape
    y = jnp.reshape(x, (b, h // scale, scale, w // scale, scale, c))  # (B, H, i, W, j, C)
    return y.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // scale, w // scale, scale**2 * c)


class PReLU(nn.Module):
    """max(0, x) + a min(0, x) with one slope a for all channels, learnt (arXiv:1502.01852, equation 1)."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        slope = self.param("slope", nn.initializers.constant(0.25), (1,), jnp.float32).astype(x.dtype)
        return jnp.maximum(x, 0) + slope[None, None, None, :] * jnp.minimum(x, 0)


def shift_mean(x: Float[AnyArray, "b h w 3"], mean: tuple[float, ...], sign: int) -> Float[Array, "b h w 3"]:
    """Adds `sign * mean` to the channels of x."""
    return jnp.add(x, sign * jnp.asarray(mean, x.dtype)[None, None, None, :])


def initial_g(g_init: GInit, blocks: int) -> tuple[InitialG, InitialG, InitialG]:
    """Initial g outside the residual blocks, of the first convolution in each and of its last; see `WDSR`."""
    initial: dict[str, tuple[InitialG, InitialG, InitialG]] = {
        "norm": ("norm", "norm", "norm"),
        "ones": (1.0, 1.0, 1.0),
        "official": (1.0, 2.0, blocks**-0.5),
    }
    return initial[g_init]


def check_lr(lr: Shaped[AnyArray, "..."]) -> None:
    """Refuses an input that no network takes.

    Args:
        lr: should be float (B, H, W, 3).

    Raises:
        TypeError: it is not float; the mean as an integer would silently be 0.
        ValueError: it has another shape.
    """
    if lr.ndim != 4 or lr.shape[-1] != 3:
        hint = "; a single image needs an axis before: lr[None]" if lr.ndim == 3 else ""
        raise ValueError(f"lr must be (B, H, W, 3), not {lr.shape}{hint}")
    if not jnp.issubdtype(lr.dtype, jnp.floating):
        raise TypeError(f"lr must be float in [0, 1], not {lr.dtype}")


def fold_weight_norm(params: Mapping[str, Any]) -> dict[str, Any]:
    """Multiplies weight norm, and batch norm, out: the parameters of the same network with `norm="none"`.

    Outputs agree up to float32 rounding; inference saves the normalisation.

    Args:
        params: parameters of a network; layers without a norm stay as they are.

    Returns:
        A new tree in which each convolution has only a `kernel`, such as g v / ||v||, and a `bias`, and each
        `BatchNorm` a factor, `scale`, and a `bias`.
    """
    if "kernel" not in params and "mean" in params:
        factor, bias = batch_norm_affine(*(params[name] for name in ("scale", "bias", *STATISTICS)))
        return {"scale": factor, "bias": bias}
    if "kernel" not in params:
        return {
            name: fold_weight_norm(child) if isinstance(child, Mapping) else child
            for name, child in params.items()
        }
    kernel, bias = params["kernel"], params["bias"]
    if "mean" in params:
        factor, bias = batch_norm_affine(params["scale"], bias, params["mean"], params["var"])
        kernel = kernel * factor[None, None, None, :]
    elif "scale" in params:
        kernel = normalise(kernel, params["scale"])
    return {"kernel": kernel, "bias": bias}


def count_params(params: Mapping[str, Any]) -> int:
    """How many scalars training learns: all but the running statistics of batch norm."""
    leaves = jax.tree.leaves_with_path(params)
    return sum(leaf.size for path, leaf in leaves if path[-1].key not in STATISTICS)
