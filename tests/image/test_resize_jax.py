"""imresize as a JAX function: the same numbers, the adjoint as gradient, any leading axes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.image.matlab import BORDERS, SCALES, oracle
from wdsr_jax.image.resize import imresize
from wdsr_jax.image.resize_jax import imresize_jax


def jitted(scale, border="replicate"):
    """`imresize_jax` compiled as a whole: op by op it would compile dozens of programs."""
    return jax.jit(partial(imresize_jax, scale=scale, border=border))


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("scale", SCALES, ids=str)
@pytest.mark.parametrize("shape", [(1, 7, 3), (12, 24, 3)], ids=str)
def test_equals_the_algorithm_written_out(shape, scale, border):
    image = np.random.default_rng(0).uniform(-1, 2, shape)
    out = jitted(scale, border)(image.astype(np.float32))
    np.testing.assert_allclose(out, oracle(image, scale, border), atol=3e-6)


@pytest.mark.parametrize(("size", "scale", "expected"), [(510, 1 / 3, 170), (511, 1 / 3, 171), (3, 1 / 8, 1)])
def test_output_size_is_the_ceiling_of_the_fraction_meant(size, scale, expected):
    out = jax.eval_shape(partial(imresize_jax, scale=scale), jnp.zeros((1, size, 1)))
    assert out.shape == (1, expected, 1)


@pytest.mark.parametrize("scale", [1 / 3, 2, pytest.param(0.37, marks=pytest.mark.ci)])
def test_jax_gradient_is_the_adjoint(scale):
    """<A x, y> = <x, A' y>, with A' y taken by autodiff, and a finite difference, also in vmap."""
    rng = np.random.default_rng(6)
    resize = jitted(scale)
    x, direction = rng.normal(size=(2, 2, 11, 13, 3)).astype(np.float32)
    out = resize(x)
    y = rng.normal(size=out.shape).astype(np.float32)
    back = jax.jit(jax.grad(lambda x: jnp.vdot(resize(x), y)))(x)  # A' y
    np.testing.assert_allclose(np.vdot(out, y), np.vdot(x, back), rtol=1e-4, atol=1e-3)
    difference = np.vdot(resize(x + direction) - resize(x - direction), y) / 2
    np.testing.assert_allclose(difference, np.vdot(back, direction), rtol=1e-3, atol=2e-3)
    np.testing.assert_allclose(jax.vmap(resize)(x), out, atol=1e-6)


def test_jax_takes_any_leading_axes_and_keeps_the_dtype():
    x = jnp.asarray(np.random.default_rng(7).uniform(size=(2, 3, 8, 12, 1)), jnp.float32)
    out = jitted(0.25)(x)
    assert out.shape == (2, 3, 2, 3, 1)
    np.testing.assert_allclose(out[1, 2], imresize(np.asarray(x[1, 2]), 0.25), atol=1e-6)
    half = jitted(0.25)(x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), out, atol=0.02)


@pytest.mark.parametrize(
    ("image", "kwargs"),
    [
        (np.zeros((4, 4)), {"scale": 2, "border": "reflect"}),
        (np.zeros((4, 4)), {"scale": 0}),
        (np.zeros((4, 4)), {"scale": float("nan")}),
        (np.zeros((4, 4), np.int32), {"scale": 2}),
        (np.zeros(4), {"scale": 2}),
        (np.zeros((0, 4)), {"scale": 2}),
    ],
)
def test_bad_arguments(image, kwargs):
    with pytest.raises(ValueError):
        imresize_jax(image[..., None], **kwargs)
