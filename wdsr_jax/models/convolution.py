"""The convolution of every layer; and, for CPUs, faster ones for inference and for training."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wdsr_jax.models import winograd


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves x (B, H, W, I) with a kernel (k, k, I, O), zero padded: (B, H, W, O)."""
    if kernel.shape[0] == 1 and jax.default_backend() == "cpu":
        # The same as a matrix product. Of the convolution XLA's CPU backend makes a loop on one core.
        return jax.lax.dot_general(x, kernel[0, 0], (((3,), (0,)), ((), ())))
    return jax.lax.conv_general_dilated(
        x, kernel, window_strides=(1, 1), padding="SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def kernel_gradient(x: jax.Array, dy: jax.Array, size: int) -> jax.Array:
    """The gradient of a `convolve`'s kernel, written as a convolution with x as its kernel.

    The gradient is the correlation of x with dy. As JAX writes it, dy is the kernel, and XLA's convolution
    for CPUs is at its best where that has many channels: with fewer in dy than in x it takes half the time
    to correlate dy with x, and to mirror the result.

    Args:
        x: (B, H, W, I).
        dy: gradient of the output, (B, H, W, O).
        size: k.

    Returns:
        (k, k, I, O).
    """
    margin = size // 2
    gradient = jax.lax.conv_general_dilated(  # (k, k, O, I); B is what is summed over
        dy,
        x,
        window_strides=(1, 1),
        padding=((margin, margin), (margin, margin)),
        dimension_numbers=("CHWN", "IHWO", "HWNC"),
    )
    return gradient[::-1, ::-1].swapaxes(2, 3)


@jax.custom_vjp
def convolve_in_training(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`convolve`, whose gradient is computed by `kernel_gradient` on CPUs, where that is faster.

    It has no forward-mode derivatives, so that it is for training steps alone.
    """
    return convolve(x, kernel)


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(x, kernel), (x, kernel)


def _backward(residuals: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    size, _, inputs, outputs = kernel.shape

    def plain(x: jax.Array, dy: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda kernel: convolve(x, kernel), kernel)(dy)[0]

    def swapped(x: jax.Array, dy: jax.Array) -> jax.Array:
        return kernel_gradient(x, dy, size)

    (dx,) = jax.linear_transpose(lambda x: convolve(x, kernel), x)(dy)
    fastest = swapped if inputs > outputs and size > 1 else plain
    return dx, jax.lax.platform_dependent(x, dy, cpu=fastest, default=plain)


convolve_in_training.defvjp(_forward, _backward)


def training_convolutions() -> AbstractContextManager:
    """A context in which the networks that are applied use `convolve_in_training`."""
    return _convolutions(convolve_in_training)


def inference_convolutions() -> AbstractContextManager:
    """A context in which the networks that are applied use Winograd's convolution where that is faster.

    On CPUs, and in float32: it is for images, not for training, and differs by rounding.
    """

    def fastest(x: jax.Array, kernel: jax.Array) -> jax.Array:
        fits = jax.default_backend() == "cpu" and x.dtype == kernel.dtype == jnp.float32
        return (winograd.convolve if fits and winograd.pays(x, kernel) else convolve)(x, kernel)

    return _convolutions(fastest)


def _convolutions(convolution: Callable[[jax.Array, jax.Array], jax.Array]) -> AbstractContextManager:
    def intercept(call: Callable[..., Any], args: tuple, kwargs: dict, context: Any) -> Any:
        return convolution(*args) if context.method_name == "convolve" else call(*args, **kwargs)

    return nn.intercept_methods(intercept)
