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
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """`loss` at the best shift of each image: for pairs whose LR and HR do not lie on each other.

    Per image, the smallest loss over all shifts of HR by whole pixels with |dy| <= window and |dx| <= window,
    on the middle of SR (`window` pixels cut off each side); their mean over the images. Gradients flow
    through the best shift alone. As each image has its own, parts of a batch average to the whole batch.

    What it gives away: a network that moves all its output by a few pixels pays nothing. Nothing drives it to
    do so either, but measure with `evaluate --shift` what is trained by it.

    Args:
        loss: a mean over pixels, such as those of `LOSSES`.
        window: HR pixels, less than half of HR's side; 0 gives `loss` itself.

    Returns:
        (SR, HR), each (B, H, W, 3), to a scalar.

    Source: the score of the PROBA-V challenge (Martens et al., "Super-resolution of PROBA-V images using
    convolutional neural networks", Astrodynamics 3, 2019) and the losses that its entries made of it.
    """
    if not window:
        return loss
    count = 2 * window + 1

    def tolerant(sr: jax.Array, hr: jax.Array) -> jax.Array:
        middle = sr[:, window:-window, window:-window]  # (B, h, w, 3)
        height, width = middle.shape[1:3]

        def of_row(dy):
            """The losses (2 * window + 1, B) of all shifts with one dy."""
            rows = jax.lax.dynamic_slice_in_dim(hr, dy, height, axis=1)
            return jnp.stack([jax.vmap(loss)(middle, rows[:, :, dx : dx + width]) for dx in range(count)])

        # Row by row, or all shifts of the batch would be in memory at once.
        losses = jax.lax.map(of_row, jnp.arange(count))  # (dy, dx, B)
        best = jnp.argmin(losses.reshape(count * count, -1), axis=0)  # (dy, dx, B) -> (dy * dx, B) -> (B,)
        dy, dx = jax.lax.stop_gradient(jnp.divmod(best, count))

        def cut(image, y, x):
            return jax.lax.dynamic_slice(image, (y, x, 0), (height, width, image.shape[-1]))

        return loss(middle, jax.vmap(cut)(hr, dy, dx))

    return tolerant
