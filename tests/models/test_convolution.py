"""The training convolution against the plain one and against sums written out."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.numpy_wdsr import random_params
from wdsr_jax.models import create_model, replace_fields
from wdsr_jax.models.convolution import convolve, convolve_in_training, kernel_gradient
from wdsr_jax.models.discriminator import Discriminator
from wdsr_jax.models.layers import Conv

pytestmark = pytest.mark.usefixtures("compile_cache")

SHAPES = [(1, 5, 7, 8, 3, 3), (2, 4, 4, 3, 8, 3), (3, 6, 5, 9, 2, 1), (1, 3, 2, 4, 2, 5), (2, 1, 1, 2, 1, 3)]


def draw(b, h, w, inputs, outputs, size):
    rng = np.random.default_rng(0)
    shapes = (b, h, w, inputs), (size, size, inputs, outputs), (b, h, w, outputs)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


@functools.partial(jax.jit, static_argnums=3)
def value_and_gradients(x, kernel, dy, convolve):
    y, vjp_fn = jax.vjp(convolve, x, kernel)
    return y, *vjp_fn(dy)


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
    gradient = jax.jit(kernel_gradient, static_argnums=2)(x, dy, size)
    np.testing.assert_allclose(gradient, expected, atol=1e-4)


def test_pointwise_convolution_equals_the_sum_over_channels():
    x, kernel, _ = draw(3, 6, 5, 9, 2, 1)
    expected = np.einsum("bhwi,io->bhwo", np.asarray(x, float), np.asarray(kernel[0, 0], float))
    np.testing.assert_allclose(convolve(x, kernel), expected, atol=1e-5)
    assert convolve(x, kernel).shape == (3, 6, 5, 2)


@pytest.mark.parametrize(
    "shape, dtype",
    # In bfloat16 one whose kernel gradient is swapped, and one of each reason for which it is not.
    [*((shape, "float32") for shape in SHAPES), *((shape, "bfloat16") for shape in SHAPES[:3])],
)
def test_value_and_gradients_equal_the_plain_ones(shape, dtype):
    x, kernel, dy = (leaf.astype(dtype) for leaf in draw(*shape))
    y, *gradients = value_and_gradients(x, kernel, dy, convolve)
    trained, *trained_gradients = value_and_gradients(x, kernel, dy, convolve_in_training)
    np.testing.assert_array_equal(np.asarray(trained, float), np.asarray(y, float))
    atol = 1e-4 if dtype == "float32" else 0.2
    for gradient, plain in zip(trained_gradients, gradients, strict=True):
        assert gradient.dtype == plain.dtype
        np.testing.assert_allclose(np.asarray(gradient, float), np.asarray(plain, float), atol=atol)


def test_a_network_has_the_same_gradients_in_training():
    """Of one network: the test above has the layers, the one below which of them all networks have."""
    module = create_model(dict(name="wdsr_a", scale=2, filters=4, blocks=1))
    params = random_params(module)
    lr = np.random.default_rng(0).uniform(size=(2, 6, 5, 3)).astype(np.float32)

    @functools.partial(jax.jit, static_argnums=0)
    def gradient(module, params):
        return jax.grad(lambda params: jnp.mean(jnp.square(module.apply({"params": params}, lr))))(params)

    plain = gradient(module, params)
    trained = gradient(replace_fields(module, convolve=convolve_in_training), params)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5, rtol=1e-5), trained, plain)


@pytest.mark.parametrize(
    "fields",
    [
        *(
            dict(name=name)
            for name in ("wdsr_a", "wdsr_b", "edsr", "srresnet", "srdensenet", "rdn", "srcnn_955")
        ),
        dict(name="edsr", upsampler="deconvolution"),
        dict(name="edrn", scale=1),
        None,
    ],
    ids=lambda fields: "-".join(map(str, fields.values())) if fields else "discriminator",
)
def test_networks_pass_their_convolution_on_to_every_layer(fields):
    tiny = dict(scale=2, filters=4, blocks=1, layers=2, growth=3)
    module = create_model(tiny | fields) if fields else Discriminator(filters=4)
    convolved, layers = [], []

    def recorded(x, kernel):
        convolved.append(kernel.shape)
        return convolve(x, kernel)

    def record(call, args, kwargs, context):
        if type(context.module) is Conv and context.method_name == "__call__":
            layers.append((*(context.module.kernel_size,) * 2, args[0].shape[-1], context.module.features))
        return call(*args, **kwargs)

    module = replace_fields(module, convolve=recorded)
    with nn.intercept_methods(record):
        jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    assert convolved == layers
    assert len(layers) > 2


def test_a_network_outside_training_has_forward_derivatives():
    module = create_model(dict(name="wdsr_a", scale=2, filters=4, blocks=1))
    params = random_params(module)
    lr = jnp.full((1, 4, 4, 3), 0.5)
    network = functools.partial(module.apply, {"params": params})
    _, tangent = jax.eval_shape(lambda lr: jax.jvp(network, (lr,), (jnp.ones_like(lr),)), lr)
    assert tangent.shape == (1, 8, 8, 3)
