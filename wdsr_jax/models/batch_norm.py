"""Batch norm (Ioffe and Szegedy, arXiv:1502.03167), whose running statistics lie among the parameters.

It normalises by the statistics of the batch where the caller asks for new running statistics,
`apply(..., mutable=["batch_stats"])`, and by the running statistics otherwise. The running statistics are
stored beside the trained parameters, so that `{"params": params}` holds all of a network; they get no
gradient. New ones are returned in the collection `batch_stats` under the same names, and the caller puts them
into the parameters (`training.step.train_step` does).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from wdsr_jax.models.convolution import AnyArray

# The values of PyTorch and Flax: the running statistics move by a tenth a step.
_EPSILON, _MOMENTUM = 1e-5, 0.9
STATISTICS = ("mean", "var")  # leaves of the parameters that are measured, not trained


class BatchNorm(nn.Module):
    """Batch norm after a layer that has a bias or a norm of its own; the shape stays.

    Attributes:
        folded: whether the parameters are those of `layers.fold_weight_norm`, `scale` and `bias`; otherwise
            `scale` = gamma, `bias` = beta, `mean` and `var`.
        axis_name: axis of the devices over which the statistics of the batch are taken.
    """

    folded: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        channels = x.shape[-1:]
        bias = self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        if self.folded:
            factor = self.param("scale", nn.initializers.ones, channels, jnp.float32)
        else:
            factor, bias = batch_norm(self, x, bias)
        factor, bias = factor.astype(x.dtype), bias.astype(x.dtype)
        return x * factor[None, None, None, :] + bias[None, None, None, :]


def batch_norm(
    module: nn.Module, y: Float[Array, "b h w c"], beta: Float[AnyArray, " c"]
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Batch norm as an affine map, algorithms 1 and 2 of the paper; creates all its parameters but beta.

    Args:
        module: whose parameters `scale` (gamma), `mean` and `var` are; it has an `axis_name`.
        y: what is to be normalised.
        beta: float32.

    Returns:
        Factor and bias, float32, so that `y * factor + bias` is normalised.
    """
    channels = y.shape[-1:]
    gamma = module.param("scale", nn.initializers.ones, channels, jnp.float32)
    mean = module.param("mean", nn.initializers.zeros, channels, jnp.float32)
    var = module.param("var", nn.initializers.ones, channels, jnp.float32)
    if module.is_mutable_collection("batch_stats") and not module.is_initializing():
        y = y.astype(jnp.float32)
        moments = jnp.mean(y, axis=(0, 1, 2)), jnp.mean(jnp.square(y), axis=(0, 1, 2))
        if module.axis_name:
            moments = jax.lax.pmean(moments, module.axis_name)
        running = mean, var
        mean, var = moments[0], jnp.maximum(0, moments[1] - jnp.square(moments[0]))
        for name, old, new in zip(STATISTICS, running, (mean, var), strict=True):
            moved = _MOMENTUM * old + (1 - _MOMENTUM) * new
            module.put_variable("batch_stats", name, jax.lax.stop_gradient(moved))
    else:
        mean, var = jax.lax.stop_gradient((mean, var))
    return batch_norm_affine(gamma, beta, mean, var)


def batch_norm_affine(
    gamma: Float[AnyArray, " c"],
    beta: Float[AnyArray, " c"],
    mean: Float[AnyArray, " c"],
    var: Float[AnyArray, " c"],
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Batch norm as `factor * y + bias`: factor and bias."""
    factor = jnp.divide(gamma, jnp.sqrt(var + _EPSILON))
    return factor, jnp.subtract(beta, mean * factor)
