"""WDSR against the NumPy implementation in float64: outputs, gradients, names, counts, initial values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.models.networks import apply, check_forward_pass, check_gradients, model, noise
from tests.numpy_wdsr import random_params
from wdsr_jax.models import count_params, create_model
from wdsr_jax.models.layers import normalise


@pytest.mark.parametrize("name", ["wdsr_a", "wdsr_b"])
@pytest.mark.parametrize("scale, size", [(2, (1, 1)), (2, (1, 7)), (3, (5, 3)), (4, (6, 9))])
def test_forward_pass_equals_numpy(name, scale, size):
    check_forward_pass(model(name, scale), noise(2, *size, 3))


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("name", ["wdsr_a", "wdsr_b"])
def test_forward_pass_with_other_norms_equals_numpy(name, norm):
    module = model(name, norm=norm)
    params = random_params(module)
    normalised = {layer.split(".")[0] for layer in flatten_dict(params, sep=".") if layer.endswith("mean")}
    assert normalised == ({"block_0", "block_1"} if norm == "batch" else set())
    check_forward_pass(module, noise(2, 4, 5, 3))


@pytest.mark.parametrize("name", ["wdsr_a", "wdsr_b"])
def test_gradients_equal_finite_differences_of_numpy(name):
    check_gradients(model(name))


def test_output_is_not_clipped():
    module = model()
    params = random_params(module)
    bias = jnp.asarray(np.resize([5, -5], 12), jnp.float32)
    sr = apply(module, params | {"skip": params["skip"] | {"bias": bias}}, noise(1, 4, 4, 3))
    assert sr.min() < -3
    assert sr.max() > 3


@pytest.mark.parametrize(
    "name, inner", [("wdsr_a", ("expand", "project")), ("wdsr_b", ("expand", "reduce", "project"))]
)
def test_parameters_have_readable_names(name, inner):
    layers = {"head", "tail", "skip"} | {f"block_{i}.{conv}" for i in range(2) for conv in inner}
    expected = {f"{layer}.{leaf}" for layer in layers for leaf in ("kernel", "scale", "bias")}
    assert set(flatten_dict(random_params(model(name)), sep=".")) == expected


@pytest.mark.parametrize("name", ["wdsr_a", "wdsr_b"])
@pytest.mark.parametrize("g_init", ["official", "norm", "ones"])
def test_initial_g(name, g_init):
    module = model(name, blocks=3, g_init=g_init)
    params = jax.jit(module.init)(jax.random.key(1), jnp.zeros((1, 8, 8, 3)))["params"]
    convs = flatten_dict(params, is_leaf=lambda _, node: "kernel" in node, sep=".")
    for layer, conv in convs.items():
        v = np.asarray(conv["kernel"])
        bound = 1 / np.sqrt(np.prod(v.shape[:3]))  # PyTorch's default for a convolution
        assert 0.9 * bound < np.abs(v).max() <= bound
        assert not conv["bias"].any()
        if g_init == "norm":
            np.testing.assert_allclose(normalise(conv["kernel"], conv["scale"]), v, atol=1e-7)
        else:
            official = {"expand": 2.0, "project": 3**-0.5}.get(layer.split(".")[-1], 1.0)
            expected = official if g_init == "official" else 1.0
            np.testing.assert_allclose(conv["scale"], np.full(v.shape[-1], expected), rtol=1e-6)


@pytest.mark.parametrize("name, radius", [("wdsr_a", 1 + 2 * 3 + 1), ("wdsr_b", 3 + 2)])
def test_radius_counts_the_layers(name, radius):
    assert model(name, blocks=3).radius == radius  # measured in test_radius


@pytest.mark.parametrize(
    "fields, count",
    [
        (dict(scale=2), 1_190_100),
        (dict(scale=3), 1_195_605),
        (dict(scale=4), 1_203_312),
        (dict(scale=2, filters=128, blocks=32), 37_808_180),
        (dict(scale=3, filters=128, blocks=32), 37_826_645),
        (dict(scale=4, filters=128, blocks=32), 37_852_496),
        (dict(scale=2, name="wdsr_b", filters=64, blocks=1, expansion=6), 84_250),
    ],
)
def test_number_of_trainable_scalars(fields, count):
    module = create_model({"name": "wdsr_a"} | fields)  # 16 blocks of 32 filters where it says nothing
    params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    assert count_params(params) == count
