"""Small networks of every kind to test with, and what all tests of them need."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from tests import numpy_wdsr
from tests.numpy_wdsr import random_params
from wdsr_jax.models import create_model

SMALL = dict(filters=6, blocks=2, expansion=3, res_scale=0.7, norm="weight", g_init="norm")
TINY = dict(filters=4, blocks=1, layers=2, growth=3)
LOCAL = [
    "srcnn_915",
    "srcnn_955",
    "srresnet",
    "msrresnet",
    "srdensenet",
    "rdn",
    "deconvolution",
]  # those of `tiny` that work in tiles


def model(name="wdsr_a", scale=2, **fields):
    """A WDSR or EDSR."""
    return create_model(dict(SMALL, name=name, scale=scale) | fields)


def noise(*shape, seed=1):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)  # op by op it would compile each operation
def apply(module, params, lr):
    return module.apply({"params": params}, lr)


def tiny(name, scale=2, **fields):
    """One of the other networks, or EDSR with deconvolution by that name."""
    if name == "deconvolution":
        fields = dict(name="edsr", norm="none", upsampler="deconvolution") | fields
    module = create_model(TINY | dict(name=name, scale=scale) | fields)
    # One group: what it is compiled of is less, and each level has its closing convolution anyhow.
    return module.clone(groups=(1, 0, 0)) if name == "edrn" else module


def check_forward_pass(module, lr):
    """The output has the right shape and type, and is that of the NumPy implementation."""
    b, h, w, _ = lr.shape
    sr = apply(module, random_params(module), lr)
    assert sr.shape == (b, h * module.scale, w * module.scale, 3)
    assert sr.dtype == jnp.float32
    np.testing.assert_allclose(sr, numpy_wdsr.forward(module, random_params(module), lr), atol=1e-5)


def check_gradients(module):
    """One gradient in each leaf of the parameters is the finite difference of the NumPy implementation."""
    params, lr, hr = random_params(module), noise(1, 4, 5, 3), noise(1, 8, 10, 3, seed=2)
    loss = lambda p: jnp.mean(jnp.square(apply(module, p, lr) - hr))  # noqa: E731
    grads = flatten_dict(jax.jit(jax.grad(loss))(params))
    flat = {name: np.asarray(leaf, np.float64) for name, leaf in flatten_dict(params).items()}
    rng = np.random.default_rng(3)
    for name, leaf in flat.items():
        index = tuple(rng.integers(0, leaf.shape))
        losses = []
        for step in (1e-6, -1e-6):
            moved = leaf.copy()
            moved[index] += step
            losses.append(
                np.mean((numpy_wdsr.forward(module, unflatten_dict(flat | {name: moved}), lr) - hr) ** 2)
            )
        slope = (losses[0] - losses[1]) / 2e-6
        assert grads[name][index] == pytest.approx(slope, rel=1e-4, abs=1e-6), name


def conv(size, inputs, outputs):
    """How many scalars a convolution has."""
    return size * size * inputs * outputs + outputs


def weight_normed(size, inputs, outputs):
    """And with weight norm, whose g is one more a channel."""
    return conv(size, inputs, outputs) + outputs
