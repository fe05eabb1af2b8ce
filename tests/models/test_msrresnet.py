"""MSRResNet against NumPy, and its counts."""

import numpy as np
import pytest

from tests import numpy_wdsr
from tests.models.networks import apply, conv, noise
from tests.numpy_wdsr import random_params
from wdsr_jax.models import cost, create_model


def bilinear(x, scale):
    """Each output pixel by itself: what the two nearest input pixels are worth at its centre."""
    for axis in (1, 2):
        length = x.shape[axis]
        places = (np.arange(length * scale) + 0.5) / scale - 0.5
        left = np.floor(places).astype(int)
        share = (places - left).reshape([-1 if a == axis else 1 for a in range(4)])
        near, far = (np.take(x, np.clip(left + i, 0, length - 1), axis) for i in (0, 1))
        x = (1 - share) * near + share * far
    return x


def forward(module, p, lr):
    """BasicSR's network, line by line."""

    def leaky(x):
        return np.where(x > 0, x, 0.1 * x)

    lr = np.asarray(lr, np.float64)
    x = leaky(numpy_wdsr.conv(p["head"], lr))
    for i in range(module.blocks):
        block = p[f"block_{i}"]
        y = numpy_wdsr.conv(block["last"], np.maximum(numpy_wdsr.conv(block["first"], x), 0))
        x = x + module.res_scale * y
    for i, factor in enumerate({2: [2], 3: [3], 4: [2, 2]}[module.scale]):
        x = leaky(numpy_wdsr.pixel_shuffle(numpy_wdsr.conv(p[f"up_{i}"], x), factor))
    x = numpy_wdsr.conv(p["tail"], leaky(numpy_wdsr.conv(p["detail"], x)))
    return x + bilinear(lr, module.scale)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_forward_pass_equals_numpy(scale):
    module = create_model(dict(name="msrresnet", scale=scale, filters=5, blocks=2, res_scale=0.7))
    params, lr = random_params(module), noise(2, 5, 4, 3)
    np.testing.assert_allclose(apply(module, params, lr), forward(module, params, lr), atol=1e-5)


@pytest.mark.parametrize("scale, count", [(2, 1_369_859), (3, 1_554_499), (4, 1_517_571)])
def test_number_of_trainable_scalars(scale, count):
    """By hand; BasicSR's log of x4 says `MSRResNet, with parameters: 1,517,571`."""
    up = {2: conv(3, 64, 256), 3: conv(3, 64, 576), 4: 2 * conv(3, 64, 256)}[scale]
    assert count == conv(3, 3, 64) + 33 * conv(3, 64, 64) + up + conv(3, 64, 3)
    assert cost.parameters(create_model(dict(name="msrresnet", scale=scale))) == count
