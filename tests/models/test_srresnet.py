"""SRResNet against NumPy, its counts, and the slopes of its PReLUs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests import numpy_wdsr
from tests.models.networks import TINY, apply, conv, noise, tiny
from tests.numpy_wdsr import random_params
from wdsr_jax.models import cost, create_model
from wdsr_jax.weights.store import save_weights, start_from


def forward(module, p, lr):
    """Figure 4 of the paper."""

    def prelu(name, x, p=p):
        return np.where(x > 0, x, float(p[name]["slope"][0]) * x)

    x = head = prelu("head_prelu", numpy_wdsr.conv(p["head"], np.asarray(lr, np.float64)))
    for i in range(module.blocks):
        block = p[f"block_{i}"]
        y = prelu("prelu", numpy_wdsr.conv(block["first"], x), block)
        x = x + numpy_wdsr.conv(block["last"], y)
    x = head + numpy_wdsr.conv(p["body"], x)
    for i, factor in enumerate({3: [3], 4: [2, 2]}[module.scale]):
        x = prelu(f"up_{i}_prelu", numpy_wdsr.pixel_shuffle(numpy_wdsr.conv(p[f"up_{i}"], x), factor))
    return numpy_wdsr.conv(p["tail"], x)


@pytest.mark.parametrize("scale, norm", [(3, "batch"), (4, "weight")])
def test_forward_pass_equals_numpy(scale, norm):
    module, lr = tiny("srresnet", scale, blocks=2, norm=norm), noise(2, 5, 4, 3)
    params = random_params(module)
    np.testing.assert_allclose(apply(module, params, lr), forward(module, params, lr), rtol=1e-5, atol=1e-5)


def srresnet_by_hand(stages):
    normed = 9 * 64 * 64 + 2 * 64  # gamma, and beta in the place of the bias
    ends = conv(9, 3, 64) + 1 + conv(9, 64, 3)
    return ends + 16 * (2 * normed + 1) + normed + stages * (conv(3, 64, 256) + 1)


def test_fine_tuning_takes_slopes_along(tmp_path):
    params = random_params(tiny("srresnet", 2))
    save_weights(tmp_path / "a.safetensors", TINY | dict(name="srresnet", scale=2, norm="batch"), params)
    fresh = random_params(tiny("srresnet", 4), seed=1)
    started = start_from(fresh, tmp_path / "a.safetensors")
    np.testing.assert_array_equal(started["head_prelu"]["slope"], params["head_prelu"]["slope"])
    assert fresh["head_prelu"]["slope"] != params["head_prelu"]["slope"]
    assert started["up_1_prelu"]["slope"] == fresh["up_1_prelu"]["slope"]  # of a stage that x2 has not


def test_initial_slopes_are_a_quarter():
    params = jax.jit(tiny("srresnet").init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    slopes = [leaf for name, leaf in flatten_dict(params, sep=".").items() if name.endswith("slope")]
    assert len(slopes) == 3  # head, block, upsampler
    assert all(leaf.shape == (1,) and leaf[0] == 0.25 for leaf in slopes)


@pytest.mark.parametrize(
    "fields, count",
    [
        (dict(name="srresnet", scale=4), srresnet_by_hand(2)),
        (dict(name="srresnet", scale=4), 1_547_350),
        (dict(name="srresnet", scale=2), srresnet_by_hand(1)),
        (dict(name="srresnet", scale=8), srresnet_by_hand(3)),
    ],
)
def test_number_of_trainable_scalars(fields, count):
    assert cost.parameters(create_model(fields)) == count  # `count_params` of the shapes
