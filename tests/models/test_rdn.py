"""RDN against NumPy, and its counts."""

import numpy as np
import pytest

from tests import numpy_wdsr
from tests.models.networks import apply, conv, noise, tiny
from tests.numpy_wdsr import random_params
from wdsr_jax.models import cost, create_model


def forward(module, p, lr):
    """Equations 1 to 9 of the paper, and the upsampler."""
    first = numpy_wdsr.conv(p["shallow_0"], np.asarray(lr, np.float64))
    x, outputs = numpy_wdsr.conv(p["shallow_1"], first), []
    for d in range(module.blocks):
        block, seen = p[f"block_{d}"], [x]
        for c in range(module.layers):
            seen.append(np.maximum(numpy_wdsr.conv(block[f"conv_{c}"], np.concatenate(seen, -1)), 0))
        x = x + numpy_wdsr.conv(block["fuse"], np.concatenate(seen, -1))
        outputs.append(x)
    x = first + numpy_wdsr.conv(p["fuse_1"], numpy_wdsr.conv(p["fuse_0"], np.concatenate(outputs, -1)))
    if module.upnet != "stages":
        for i in (0, 1):
            x = np.maximum(numpy_wdsr.conv(p[f"up_{i}"], x), 0)
        x = numpy_wdsr.conv(p["up_2"], x)
        if module.upnet == "espcn":
            x = numpy_wdsr.pixel_shuffle(x, module.scale)
        else:
            x = np.kron(x, np.ones((1, module.scale, module.scale, 1)))
        return numpy_wdsr.conv(p["tail"], x)
    for i, factor in enumerate({3: [3], 4: [2, 2]}[module.scale]):
        x = numpy_wdsr.pixel_shuffle(numpy_wdsr.conv(p[f"up_{i}"], x), factor)
    return numpy_wdsr.conv(p["tail"], x)


@pytest.mark.parametrize("scale, upnet", [(3, "stages"), (4, "stages"), (2, "espcn"), (3, "espcn_nearest")])
def test_forward_pass_equals_numpy(scale, upnet):
    module, lr = tiny("rdn", scale, blocks=2, upnet=upnet), noise(2, 5, 4, 3)
    params = random_params(module)
    np.testing.assert_allclose(apply(module, params, lr), forward(module, params, lr), atol=1e-5)


def rdn_by_hand(scale, blocks, layers, growth):
    dense = sum(conv(3, 64 + c * growth, growth) for c in range(layers)) + conv(1, 64 + layers * growth, 64)
    up = {2: conv(3, 64, 256), 3: conv(3, 64, 576), 4: 2 * conv(3, 64, 256)}[scale]
    ends = conv(3, 3, 64) + conv(3, 64, 64) + conv(3, 64, 3)
    return ends + blocks * dense + conv(1, blocks * 64, 64) + conv(3, 64, 64) + up


@pytest.mark.parametrize(
    "fields, count",
    [
        (dict(name="rdn", scale=2), 22_123_395),  # what the models of EDSR-PyTorch have
        (dict(name="rdn", scale=3), rdn_by_hand(3, 16, 8, 64)),
        (dict(name="rdn", scale=4), rdn_by_hand(4, 16, 8, 64)),
        (dict(name="rdn", scale=2, blocks=20, layers=6, growth=32), rdn_by_hand(2, 20, 6, 32)),
    ],
)
def test_number_of_trainable_scalars(fields, count):
    assert cost.parameters(create_model(fields)) == count  # `count_params` of the shapes
