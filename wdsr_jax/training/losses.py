"""Pixel losses: (SR, HR), float arrays of one shape in [0, 1], to a scalar mean."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

Scalar = Float[Array, ""]
Images = Float[Array | np.ndarray, "b h w 3"]
AnyShape = Float[Array | np.ndarray, "*shape"]
Loss = Callable[[Any, Any], Array]  # (SR, HR) to a mean


def l1(sr: AnyShape, hr: AnyShape) -> Scalar:
    """Mean absolute error, the loss of EDSR and WDSR."""
    return jnp.mean(jnp.abs(sr - hr))


def l2(sr: AnyShape, hr: AnyShape) -> Scalar:
    """Mean squared error."""
    return jnp.mean(jnp.square(sr - hr))


def charbonnier(sr: AnyShape, hr: AnyShape, epsilon: float = 1e-3) -> Scalar:
    """Mean of sqrt(d^2 + epsilon^2), smooth L1 (LapSRN, arXiv:1704.03915, eq. 3 and section 3.3)."""
    return jnp.mean(jnp.sqrt(jnp.square(sr - hr) + epsilon**2))


LOSSES = {"l1": l1, "l2": l2, "charbonnier": charbonnier}


def shift_tolerant(loss: Loss, window: int) -> Callable[[Images, Images, Images], Array]:
    """`loss` at the best shift of each image: for pairs whose LR and HR do not lie on each other.

    Of all shifts of HR by whole pixels with |dy| <= window and |dx| <= window each image gets the best one,
    on the middle of SR (`window` pixels cut off each side); the result is the mean of their losses there.
    Gradients flow through the best shift alone. As each image has its own, parts of a batch average to the
    whole batch.

    The best shift is that of the smallest squared error of SR plus that of a guide, LR enlarged by bicubic,
    which lies where LR does. Were it SR's alone, a network that moves all its output would pay nothing: one
    trained so, from scratch, came to rest with its output a pixel too high.

    Args:
        loss: a mean over pixels, such as those of `LOSSES`.
        window: HR pixels, less than half of HR's side; at 0 it is `loss`.

    Returns:
        (SR, HR, guide), each (B, H, W, 3), to a scalar.

    Source: the score of the PROBA-V challenge and the losses that its entries made of it (Molini et al.,
    "DeepSUM", arXiv:1907.06490); the guide is this project's.
    """

    def tolerant(sr: Images, hr: Images, guide: Images) -> Scalar:
        height, width = (side - 2 * window for side in hr.shape[1:3])
        rows, columns = slice(window, window + height), slice(window, window + width)
        middle = sr[:, rows, columns]  # (B, h, w, 3)
        ys, xs = _best_places(middle + guide[:, rows, columns], hr)

        def cut(image, y, x):
            return jax.lax.dynamic_slice(image, (y, x, 0), (height, width, image.shape[-1]))

        return loss(middle, jax.vmap(cut)(hr, ys, xs))

    return tolerant


def _best_places(
    total: Float[Array | np.ndarray, "b h w 3"], hr: Float[Array | np.ndarray, "b H W 3"]
) -> tuple[Int[Array, " b"], Int[Array, " b"]]:
    """Where a part of HR is nearest to two images at once, by squared error and a correlation by FFT.

    Args:
        total: the sum of the two, (B, h, w, 3).
        hr: (B, H, W, 3).

    Returns:
        Row and column, (B,) each, of the part's corner.
    """
    (height, width), shape = total.shape[1:3], hr.shape[1:3]
    # |a - p|^2 + |g - p|^2 is, but for what is the same at all places, 2 (|p|^2 - (a + g) p). Around the mean
    # that is a difference of smaller numbers.
    mean = jnp.mean(hr, (1, 2, 3), keepdims=True)
    total, hr = total - 2 * mean, hr - mean
    spectrum = jnp.conj(jnp.fft.rfft2(total, shape, axes=(1, 2))) * jnp.fft.rfft2(hr, axes=(1, 2))
    product = jnp.fft.irfft2(spectrum.sum(-1), shape, axes=(1, 2))  # (B, H, W)
    product = product[:, : shape[0] - height + 1, : shape[1] - width + 1]  # where nothing wraps around
    sums = jnp.square(hr).sum(-1).cumsum(1).cumsum(2)
    sums = jnp.pad(sums, ((0, 0), (1, 0), (1, 0)))  # [:, i, j] of the first i rows and j columns
    below = sums[:, height:, width:] - sums[:, height:, :-width]
    energy = below - sums[:, :-height, width:] + sums[:, :-height, :-width]
    cost = energy - product
    best = jnp.argmin(cost.reshape(len(cost), -1), axis=1)  # (B, rows, columns) -> (B, rows * columns)
    return jnp.divmod(best, cost.shape[2])
