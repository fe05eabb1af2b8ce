"""Batch norm (Ioffe and Szegedy, arXiv:1502.03167), whose running statistics lie among the parameters.

It normalises by the statistics of the batch where the caller asks for new running statistics,
`apply(..., mutable=["batch_stats"])`, and by the running statistics otherwise. These lie beside the trained
parameters, so that `{"params": params}` is all that a network is; they get no gradient. The new ones come
back in the collection `batch_stats`, by the same names; nothing but the caller puts them in their place
(`steps.train_step` does).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

# As PyTorch and Flax have it: the running statistics move by a tenth a step.
_EPSILON, _MOMENTUM = 1e-5, 0.9
STATISTICS = ("mean", "var")  # leaves of the parameters that are measured, not trained


class BatchNorm(nn.Module):
    """Batch norm behind a layer that has a bias or a norm of its own, (B, H, W, C) as it was.

    Attributes:
        folded: whether the parameters are those of `layers.fold_weight_norm`, `scale` and `bias`; otherwise
            `scale` = gamma, `bias` = beta, `mean` and `var`.
        axis_name: of the devices over which the statistics of the batch are taken.
    """

    folded: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1:]
        bias = self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        if self.folded:
            factor = self.param("scale", nn.initializers.ones, channels, jnp.float32)
        else:
            factor, bias = batch_norm(self, x, bias)
        factor, bias = factor.astype(x.dtype), bias.astype(x.dtype)
        return x * factor[None, None, None, :] + bias[None, None, None, :]


def batch_norm(module: nn.Module, y: jax.Array, beta: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Batch norm as an affine map, algorithms 1 and 2 of the paper; creates all its parameters but beta.

    Args:
        module: whose parameters `scale` (gamma), `mean` and `var` are; it has an `axis_name`.
        y: what is to be normalised, (B, H, W, C).
        beta: float32 (C,).

    Returns:
        Factor and bias, float32 (C,), so that `y * factor + bias` is normalised.
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
    gamma: jax.Array, beta: jax.Array, mean: jax.Array, var: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Batch norm as `factor * y + bias`: factor and bias, all (C,)."""
    factor = gamma / jnp.sqrt(var + _EPSILON)
    return factor, beta - mean * factor
