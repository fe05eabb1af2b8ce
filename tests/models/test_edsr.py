"""EDSR against the NumPy implementation in float64: outputs, gradients, counts."""

import jax
import jax.numpy as jnp
import pytest
from flax.traverse_util import flatten_dict

from tests.models.networks import check_forward_pass, check_gradients, conv, model, noise
from tests.numpy_wdsr import random_params
from wdsr_jax.models import count_params, create_model


@pytest.mark.parametrize("scale, size", [(2, (1, 1)), (2, (1, 7)), (3, (5, 3)), (4, (6, 9))])
def test_forward_pass_equals_numpy(scale, size):
    check_forward_pass(model("edsr", scale), noise(2, *size, 3))


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_forward_pass_with_other_norms_equals_numpy(norm):
    module = model("edsr", norm=norm)
    params = random_params(module)
    normalised = {layer.split(".")[0] for layer in flatten_dict(params, sep=".") if layer.endswith("mean")}
    assert normalised == ({"block_0", "block_1", "body"} if norm == "batch" else set())
    check_forward_pass(module, noise(2, 4, 5, 3))


@pytest.mark.parametrize("scale", [5, 6, 8])
def test_edsr_enlarges_by_any_scale(scale):
    check_forward_pass(model("edsr", scale), noise(1, 3, 4, 3))


def test_gradients_equal_finite_differences_of_numpy():
    check_gradients(model("edsr"))


@pytest.mark.parametrize(
    "fields, count",
    [
        (dict(scale=2, name="edsr"), 1_369_859),  # what PyTorch counts in the authors' code
        (dict(scale=2, name="edsr", norm="weight"), 1_372_294),
        (dict(scale=3, name="edsr"), 1_554_499),
        (dict(scale=4, name="edsr"), 1_517_571),
        (dict(scale=2, name="edsr", filters=256, blocks=32, res_scale=0.1), 40_729_603),
        (dict(scale=2, name="edsr", blocks=1), 262_019),
        (dict(scale=2, name="edsr", blocks=3), 409_731),
        (dict(scale=2, name="edsr", blocks=5), 557_443),
        (dict(scale=2, name="edsr", blocks=8), 779_011),
        # beta is in the place of a bias, gamma one more scalar a channel; statistics do not count
        (dict(scale=2, name="edsr", norm="batch"), 1_369_859 + 33 * 64),
        # A 3x3 of f to f channels instead of one of f to 4 f, for each doubling.
        (dict(name="edsr", scale=2, norm="none", upsampler="deconvolution"), 1_369_859 - 3 * conv(3, 64, 64)),
        (dict(name="edsr", scale=4, norm="none", upsampler="deconvolution"), 1_517_571 - 6 * conv(3, 64, 64)),
    ],
)
def test_number_of_trainable_scalars(fields, count):
    module = create_model(fields)
    params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    assert count_params(params) == count
