"""The training convolution against the plain one and against sums written out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wdsr_jax.models import create_model
from wdsr_jax.models.convolution import convolve, convolve_in_training, kernel_gradient, training_convolutions
from wdsr_jax.training import step as steps

SHAPES = [(1, 5, 7, 8, 3, 3), (2, 4, 4, 3, 8, 3), (3, 6, 5, 9, 2, 1), (1, 3, 2, 4, 2, 5), (2, 1, 1, 2, 1, 3)]


def draw(b, h, w, inputs, outputs, size):
    rng = np.random.default_rng(0)
    shapes = (b, h, w, inputs), (size, size, inputs, outputs), (b, h, w, outputs)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


@pytest.mark.parametrize("shape", SHAPES)
def test_kernel_gradient_equals_the_sum_over_pixels(shape):
    x, kernel, dy = draw(*shape)
    (_, h, w), size = shape[:3], shape[-1]
    margin = size // 2
    padded = np.pad(np.asarray(x, float), ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    expected = np.zeros(kernel.shape)
    for i in range(size):
        for j in range(size):
            expected[i, j] = np.einsum("bhwc,bhwo->co", padded[:, i : i + h, j : j + w], dy)
    np.testing.assert_allclose(kernel_gradient(x, dy, size), expected, atol=1e-4)


def test_pointwise_convolution_equals_the_sum_over_channels():
    x, kernel, _ = draw(3, 6, 5, 9, 2, 1)
    expected = np.einsum("bhwi,io->bhwo", np.asarray(x, float), np.asarray(kernel[0, 0], float))
    np.testing.assert_allclose(convolve(x, kernel), expected, atol=1e-5)
    assert convolve(x, kernel).shape == (3, 6, 5, 2)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_value_and_gradients_equal_the_plain_ones(shape, dtype):
    x, kernel, dy = (leaf.astype(dtype) for leaf in draw(*shape))
    y, pull = jax.vjp(convolve, x, kernel)
    trained, pull_trained = jax.vjp(convolve_in_training, x, kernel)
    np.testing.assert_array_equal(np.asarray(trained, float), np.asarray(y, float))
    atol = 1e-4 if dtype == "float32" else 0.2
    for gradient, plain in zip(jax.jit(pull_trained)(dy), jax.jit(pull)(dy), strict=True):
        assert gradient.dtype == plain.dtype
        np.testing.assert_allclose(np.asarray(gradient, float), np.asarray(plain, float), atol=atol)


@pytest.mark.parametrize(
    "name", ["wdsr_a", "wdsr_b", "edsr", "srresnet", "rdn", "srcnn_955", "deconvolution"]
)
def test_networks_have_the_same_gradients_in_training(name):
    fields = dict(scale=2, filters=4, blocks=2, layers=2, growth=3)
    fields |= dict(name="edsr", upsampler=name) if name == "deconvolution" else dict(name=name)
    module = create_model(fields)
    params = steps.init_params(module, 0)
    lr = np.random.default_rng(0).uniform(size=(2, 6, 5, 3)).astype(np.float32)

    def loss(params, context):
        with context():
            return jnp.mean(jnp.square(module.apply({"params": params}, lr)))

    plain = jax.grad(functools.partial(loss, context=lambda: jax.named_scope("plain")))(params)
    trained = jax.grad(functools.partial(loss, context=training_convolutions))(params)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), trained, plain)


def test_a_network_outside_training_has_forward_derivatives():
    module = create_model(dict(name="wdsr_a", scale=2, filters=4, blocks=1))
    params = steps.init_params(module, 0)
    lr = jnp.full((1, 4, 4, 3), 0.5)
    _, tangent = jax.jvp(lambda lr: module.apply({"params": params}, lr), (lr,), (jnp.ones_like(lr),))
    assert tangent.shape == (1, 8, 8, 3)
