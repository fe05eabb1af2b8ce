"""Pixel losses: (SR, HR), float arrays of one shape in [0, 1], to a scalar mean."""

import jax
import jax.numpy as jnp


def l1(sr: jax.Array, hr: jax.Array) -> jax.Array:
    """Mean absolute error, the loss of EDSR and WDSR."""
    return jnp.mean(jnp.abs(sr - hr))


def l2(sr: jax.Array, hr: jax.Array) -> jax.Array:
    """Mean squared error."""
    return jnp.mean(jnp.square(sr - hr))


def charbonnier(sr: jax.Array, hr: jax.Array, epsilon: float = 1e-3) -> jax.Array:
    """Mean of sqrt(d^2 + epsilon^2), smooth L1 (LapSRN, arXiv:1704.03915, eq. 3 and section 3.3)."""
    return jnp.mean(jnp.sqrt(jnp.square(sr - hr) + epsilon**2))


LOSSES = {"l1": l1, "l2": l2, "charbonnier": charbonnier}
