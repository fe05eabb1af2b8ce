"""3x3 convolutions with half the multiplications, for inference on CPUs.

Winograd's minimal filtering F(4, 3) (Lavin and Gray, arXiv:1509.09308) along the columns of an image: from
6 rows and a column of 3 taps it makes 4 rows with 6 multiplications instead of 12. Along the rows the
convolution stays what it is, so that it is 6 matrix products for all. In both directions it would save more
multiplications and be slower: the transforms are additions, which wait for memory.
"""

import jax
import jax.numpy as jnp
import numpy as np

# y = A ((G w) * (B x)): the matrices of F(4, 3), with the points 0, 1, -1, 2, -2 and infinity.
_INPUT = np.array(  # B, (6, 6)
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
_KERNEL = np.array(  # G, (6, 3)
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    np.float32,
)
_OUTPUT = np.array(  # A, (4, 6)
    [
        [1, 1, 1, 1, 1, 0],
        [0, 1, -1, 2, -2, 0],
        [0, 1, 1, 4, 4, 0],
        [0, 1, -1, 8, -8, 1],
    ],
    np.float32,
)


def pays(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether `convolve` is faster than the plain convolution on CPUs, as measured (docs/performance.md)."""
    size, _, inputs, outputs = kernel.shape
    # With few channels the transforms take longer than the products that they save. What they write for more
    # pixels does not stay in the caches.
    return size == 3 and inputs * outputs >= 2048 and x.shape[1] * x.shape[2] <= 200_000


@jax.jit  # or each layer would be traced, some 20 operations, instead of each shape
def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves float32 x (B, H, W, I) with a kernel (3, 3, I, O), zero padded: (B, H, W, O).

    It is equal to the plain convolution but for rounding; a row's depends on its number modulo 4.
    """
    b, h, w, inputs = x.shape
    outputs = kernel.shape[-1]
    kernel = jnp.einsum("js,stio->jtio", _KERNEL, kernel)  # (6, 3, I, O)
    # The taps of a row are gathered from the input before the product, or its results are shifted and added:
    # the former where the input is much the smaller.
    gather = 2 * inputs <= outputs
    if gather:
        x = jnp.concatenate([_shifted(x, -1), x, _shifted(x, 1)], axis=-1)  # (B, H, W, 3 I)
        x = jax.lax.optimization_barrier(x)  # or it would be made again for each of the transform's rows
        kernel = kernel.reshape(6, 3 * inputs, outputs)
    else:
        kernel = kernel.transpose(0, 2, 1, 3).reshape(6, inputs, 3 * outputs)
    tiles = -(-h // 4)
    x = jnp.pad(x, ((0, 0), (1, 4 * tiles + 3 - h), (0, 0), (0, 0)))
    x = x.reshape(b, tiles + 1, 4, w, -1)  # (B, tiles + 1, 4, W, C)
    rows = [x[:, :-1, i] for i in range(4)] + [x[:, 1:, i] for i in range(2)]  # 6 of (B, tiles, W, C)
    x = jnp.stack([_combine(factors, rows) for factors in _INPUT])  # (6, B, tiles, W, C)
    y = jnp.einsum("jbhwc,jcd->jbhwd", x, kernel)
    if not gather:
        left, centre, right = jnp.split(y, 3, axis=-1)
        y = _shifted(left, -1) + centre + _shifted(right, 1)
    y = jnp.stack([_combine(factors, y) for factors in _OUTPUT], axis=2)  # (B, tiles, 4, W, O)
    return y.reshape(b, 4 * tiles, w, outputs)[:, :h]  # (B, H, W, O)


def _combine(factors: np.ndarray, arrays: list[jax.Array] | jax.Array) -> jax.Array:
    """The sum of arrays times factors, without those that are 0."""
    return sum(factor * array for factor, array in zip(factors, arrays, strict=True) if factor)


def _shifted(x: jax.Array, by: int) -> jax.Array:
    """Column w of (..., W, C) becomes what column `w + by` was, 0 beyond the edge; `by` is 1 or -1."""
    margins = [(0, 0)] * (x.ndim - 2)
    if by == 1:
        return jnp.pad(x[..., 1:, :], [*margins, (0, 1), (0, 0)])
    return jnp.pad(x[..., :-1, :], [*margins, (1, 0), (0, 0)])
