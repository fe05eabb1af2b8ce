"""SRCNN against NumPy, the weights that the paper counts, and what it starts from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import numpy_wdsr
from tests.models.networks import apply, conv, noise, tiny
from tests.numpy_wdsr import random_params
from wdsr_jax.errors import UserError
from wdsr_jax.image.resize import imresize
from wdsr_jax.models import cost, create_model


@pytest.mark.parametrize("name, scale", [("srcnn_915", 3), ("srcnn_955", 2)])
def test_forward_pass_equals_numpy(name, scale):
    module = tiny(name, scale)
    params, lr = random_params(module), noise(2, 5, 4, 3)
    x = np.stack([imresize(image.astype(np.float64), scale) for image in lr])
    x = np.maximum(numpy_wdsr.conv(params["extract"], x), 0)
    x = np.maximum(numpy_wdsr.conv(params["map"], x), 0)
    np.testing.assert_allclose(
        apply(module, params, lr), numpy_wdsr.conv(params["reconstruct"], x), atol=1e-5
    )


@pytest.mark.parametrize("channels", ["luma_full", "luma_studio"])
def test_on_luma_chroma_is_that_of_the_enlargement(channels):
    """Through YCbCr and back, by the matrices of JFIF 1.02 and, with 16 to 235, of ITU-R BT.601."""
    module = tiny("srcnn_915", 3, channels=channels)
    params, lr = random_params(module), noise(2, 5, 4, 3)
    to_ycc = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    size, offset = np.ones(3), np.array([0, 0.5, 0.5])
    if channels == "luma_studio":
        size, offset = np.array([219, 224, 224]) / 255, np.array([16, 128, 128]) / 255
    x = np.stack([imresize(image.astype(np.float64), 3) for image in lr]) @ to_ycc.T * size + offset
    y = np.maximum(numpy_wdsr.conv(params["extract"], x[..., :1]), 0)
    x[..., :1] = numpy_wdsr.conv(params["reconstruct"], np.maximum(numpy_wdsr.conv(params["map"], y), 0))
    expected = (x - offset) / size @ np.linalg.inv(to_ycc).T
    np.testing.assert_allclose(apply(module, params, lr), expected, atol=2e-5)


def test_srcnn_of_one_channel_has_the_weights_that_the_paper_counts():
    """8,032 and 57,184 (section 4.3.2) are of kernels alone, and of luma."""
    for name, count in (("srcnn_915", 8_032), ("srcnn_955", 57_184)):
        module = create_model(dict(name=name, scale=3, channels="luma_studio"))
        params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
        kernels = {layer: np.prod(leaves["kernel"].shape) for layer, leaves in params.items()}
        assert sum(kernels.values()) == count


def test_initial_kernels_are_gaussian_and_biases_0():
    module = create_model(dict(name="srcnn_955", scale=2, filters=32))
    params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    for layer in params.values():
        assert np.std(layer["kernel"]) == pytest.approx(1e-3, rel=0.05)
        assert not np.any(layer["bias"])


@pytest.mark.parametrize(
    "fields, count",
    [
        (dict(name="srcnn_915", scale=3), conv(9, 3, 64) + conv(1, 64, 32) + conv(5, 32, 3)),
        (dict(name="srcnn_915", scale=2), 20_099),
        (dict(name="srcnn_955", scale=3), conv(9, 3, 64) + conv(5, 64, 32) + conv(5, 32, 3)),
        (dict(name="srcnn_955", scale=4), 69_251),
    ],
)
def test_number_of_trainable_scalars(fields, count):
    assert cost.parameters(create_model(fields)) == count  # `count_params` of the shapes


def test_a_second_layer_without_channels_is_refused():
    with pytest.raises(UserError) as raised:
        create_model(dict(name="srcnn_915", scale=2, filters=1))
    assert str(raised.value).startswith("model.filters must be at least 2 for srcnn_915, not 1")
