"""The convolution that layers compute, and one whose kernel gradient is faster on CPUs."""

from collections.abc import Callable

import jax
import numpy as np
from jax import Array
from jaxtyping import Float

AnyArray = Array | np.ndarray  # what networks are applied to, and what their parameters are
# (x, kernel) -> y, see `convolve`.
Convolution = Callable[[Array, Array], Array]


def convolve(x: Float[Array, "b h w i"], kernel: Float[Array, "k k i o"]) -> Float[Array, "b h w o"]:
    """Convolves x with a kernel, stride 1, zero padded."""
    if kernel.shape[0] == 1 and jax.default_backend() == "cpu":
        # The same as a matrix product. XLA's CPU backend makes the convolution a loop on one core.
        return jax.lax.dot_general(x, kernel[0, 0], (((3,), (0,)), ((), ())))
    return jax.lax.conv_general_dilated(
        x, kernel, window_strides=(1, 1), padding="SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def kernel_gradient(
    x: Float[Array, "b h w i"], dy: Float[Array, "b h w o"], size: int
) -> Float[Array, "k k i o"]:
    """The gradient of the kernel of `convolve`, written as a convolution with x as its kernel.

    The gradient is the correlation of x with dy. JAX writes it with dy as the kernel, and XLA's convolution
    for CPUs is fastest where the kernel has many channels: with fewer channels in dy than in x it takes half
    the time to correlate dy with x, and to mirror the result.

    Args:
        x: input of the convolution.
        dy: gradient of its output.
        size: side k of the kernel.

    Returns:
        The gradient of the kernel.
    """
    margin = size // 2
    gradient = jax.lax.conv_general_dilated(  # (k, k, O, I); summed over B
        dy,
        x,
        window_strides=(1, 1),
        padding=((margin, margin), (margin, margin)),
        dimension_numbers=("CHWN", "IHWO", "HWNC"),
    )
    return gradient[::-1, ::-1].swapaxes(2, 3)


@jax.custom_vjp
def convolve_in_training(
    x: Float[Array, "b h w i"], kernel: Float[Array, "k k i o"]
) -> Float[Array, "b h w o"]:
    """`convolve`, whose gradient is computed by `kernel_gradient` on CPUs where that is faster.

    It has no forward-mode derivatives, so networks have it only in training steps (their field `convolve`).
    """
    return convolve(x, kernel)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return convolve(x, kernel), (x, kernel)


def _backward(residuals: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    size, _, inputs, outputs = kernel.shape

    def plain(x: Array, dy: Array) -> Array:
        return jax.linear_transpose(lambda kernel: convolve(x, kernel), kernel)(dy)[0]

    def swapped(x: Array, dy: Array) -> Array:
        return kernel_gradient(x, dy, size)

    (dx,) = jax.linear_transpose(lambda x: convolve(x, kernel), x)(dy)
    # In a mesh of explicit axes JAX finds the sharding of its own gradient alone.
    is_sharded = any(jax.typeof(x).sharding.spec)
    fastest = swapped if inputs > outputs and size > 1 and not is_sharded else plain
    return dx, jax.lax.platform_dependent(x, dy, cpu=fastest, default=plain)


convolve_in_training.defvjp(_forward, _backward)
