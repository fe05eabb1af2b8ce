"""Pixel losses: (SR, HR), float arrays of one shape in [0, 1], to a scalar mean."""

from collections.abc import Callable

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


def shift_tolerant(
    loss: Callable[[jax.Array, jax.Array], jax.Array], window: int
) -> Callable[[jax.Array, jax.Array, jax.Array], jax.Array]:
    """`loss` at the best shift of each image: for pairs whose LR and HR do not lie on each other.

    Of all shifts of HR by whole pixels with |dy| <= window and |dx| <= window each image gets the best one,
    on the middle of SR (`window` pixels cut off each side); the result is the mean of their losses there.
    Gradients flow through the best shift alone. As each image has its own, parts of a batch average to the
    whole batch.

    The best shift is that of the smallest loss of SR plus that of a guide, LR enlarged by bicubic, which lies
    where LR does. Were it SR's alone, a network that moves all its output would pay nothing: one trained so,
    from scratch, came to rest with its output a pixel too high.

    Args:
        loss: a mean over pixels, such as those of `LOSSES`.
        window: HR pixels, less than half of HR's side; at 0 it is `loss`.

    Returns:
        (SR, HR, guide), each (B, H, W, 3), to a scalar.

    Source: the score of the PROBA-V challenge and the losses that its entries made of it (Molini et al.,
    "DeepSUM", arXiv:1907.06490); the guide is this project's.
    """
    count = 2 * window + 1

    def tolerant(sr: jax.Array, hr: jax.Array, guide: jax.Array) -> jax.Array:
        height, width = (side - 2 * window for side in hr.shape[1:3])
        rows, columns = slice(window, window + height), slice(window, window + width)
        middle, guide = sr[:, rows, columns], guide[:, rows, columns]  # (B, h, w, 3)

        def of_row(dy):
            """What the shifts with one dy cost: (2 * window + 1, B)."""
            rows = jax.lax.dynamic_slice_in_dim(hr, dy, height, axis=1)
            places = [rows[:, :, dx : dx + width] for dx in range(count)]
            return jnp.stack([jax.vmap(loss)(middle, x) + jax.vmap(loss)(guide, x) for x in places])

        # Row by row, or all shifts of the batch would be in memory at once.
        costs = jax.lax.map(of_row, jnp.arange(count))  # (dy, dx, B)
        best = jnp.argmin(costs.reshape(count * count, -1), axis=0)  # (dy, dx, B) -> (dy * dx, B) -> (B,)
        dy, dx = jnp.divmod(best, count)

        def cut(image, y, x):
            return jax.lax.dynamic_slice(image, (y, x, 0), (height, width, image.shape[-1]))

        return loss(middle, jax.vmap(cut)(hr, dy, dx))

    return tolerant
