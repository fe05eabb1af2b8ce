"""MATLAB's bicubic resizing as a differentiable JAX function.

Apart from `resize`, so that what makes LR images, and answers mistakes in settings, does not import JAX.
"""

from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from wdsr_jax.image.resize import (
    PAD_MODES,
    check_border,
    fraction_of,
    out_length_of,
    padding_of,
    phases_of,
    resize_matrix,
)

_MAX_UNROLLED = 16  # phases written out as slices; a scale with more takes a matrix product


@partial(jax.jit, static_argnames=("scale", "border"))
def imresize_jax(
    image: jax.Array, scale: int | float | Fraction, *, border: str = "replicate"
) -> Float[Array, "... H W C"]:
    """`imresize` for float images as a JAX function: linear, differentiable, jitted.

    Args:
        image: float (..., H, W, C), any range.
        scale: as for `imresize`; static.
        border: as for `imresize`; static.

    Returns:
        (..., ceil(scale * H), ceil(scale * W), C), dtype of `image`, neither rounded nor clipped. Computed
        in the image's precision, float32 at least.

    Raises:
        ValueError: an image that is not float or has fewer than 3 axes, an unknown border, a bad scale.
    """
    image = jnp.asarray(image)
    if image.ndim < 3 or 0 in image.shape[-3:]:
        raise ValueError(f"image must be (..., H, W, C) and not empty, got shape {image.shape}")
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(f"image must be float, got {image.dtype}")
    scale = fraction_of(scale)
    check_border(border)
    result = image.astype(jnp.float64 if image.dtype == jnp.float64 else jnp.float32)
    for axis in (image.ndim - 3, image.ndim - 2):
        result = _resize_axis(result, axis, scale, border)
    return result.astype(image.dtype)


def _resize_axis(x: jax.Array, axis: int, scale: Fraction, border: str) -> jax.Array:
    length = x.shape[axis]
    out_length = out_length_of(length, scale)
    phases = phases_of(scale, out_length)
    period, step = len(phases), scale.denominator
    periods = -(-out_length // period)
    before, after = padding_of(phases, scale, periods, length)
    if period > _MAX_UNROLLED:
        matrix = resize_matrix(length, scale, border=border).toarray()
        moved = jnp.tensordot(jnp.asarray(matrix, x.dtype), x, (1, axis), precision=jax.lax.Precision.HIGHEST)
        return jnp.moveaxis(moved, 0, axis)
    widths = [(before, after) if a == axis else (0, 0) for a in range(x.ndim - 3, x.ndim)]
    pad = partial(jnp.pad, pad_width=widths, mode=PAD_MODES[border])
    for _ in range(x.ndim - 3):  # `jnp.pad` would slice the axes before, too, which may be sharded
        pad = jax.vmap(pad)
    padded = pad(x)
    rows = []
    for start, weights in phases:
        total = 0.0
        for offset, weight in enumerate(weights, start=start + before):
            stop = offset + (periods - 1) * step + 1
            total = total + weight * jax.lax.slice_in_dim(padded, offset, stop, step, axis)
        rows.append(total)
    shape = (*x.shape[:axis], periods * period, *x.shape[axis + 1 :])
    interleaved = jnp.stack(rows, axis + 1).reshape(shape)  # (.., periods, period, ..) -> (.., n, ..)
    return jax.lax.slice_in_dim(interleaved, 0, out_length, axis=axis)
