"""SRDenseNet against NumPy, and its counts."""

import numpy as np
import pytest

from tests import numpy_wdsr
from tests.models.networks import apply, conv, noise, tiny
from tests.numpy_wdsr import random_params
from wdsr_jax.models import cost, create_model


def relu_conv(p, x):
    return np.maximum(numpy_wdsr.conv(p, x), 0)


def deconvolution(p, x, factor):
    """Each input pixel adds its multiple of the kernel, (k, k, O, I), around its place in the output."""
    kernel = np.asarray(p["kernel"], np.float64)
    side, margin = len(kernel), len(kernel) // 2
    b, h, w, _ = x.shape
    y = np.zeros((b, h * factor + 2 * side, w * factor + 2 * side, kernel.shape[2]))
    for i in range(h):
        for j in range(w):
            top, left = i * factor - margin + side, j * factor - margin + side
            y[:, top : top + side, left : left + side] += np.einsum("bi,kloi->bklo", x[:, i, j], kernel)
    return y[:, side : side + h * factor, side : side + w * factor] + np.asarray(p["bias"], np.float64)


def forward(module, p, lr):
    """Figure 3c of the paper."""
    levels = [relu_conv(p["low_level"], np.asarray(lr, np.float64))]
    for b in range(module.blocks):
        block = p[f"block_{b}"]
        outputs = [relu_conv(block["conv_0"], np.concatenate(levels, -1))]
        for c in range(1, module.layers):
            outputs.append(relu_conv(block[f"conv_{c}"], np.concatenate(outputs, -1)))
        levels += outputs
    x = relu_conv(p["bottleneck"], np.concatenate(levels, -1))
    for i, factor in enumerate({3: [3], 4: [2, 2], 6: [6]}[module.scale]):
        x = np.maximum(deconvolution(p[f"up_{i}"], x, factor), 0)
    return numpy_wdsr.conv(p["tail"], x)


@pytest.mark.parametrize("scale", [3, 4, 6])
def test_forward_pass_equals_numpy(scale):
    module, lr = tiny("srdensenet", scale, blocks=2), noise(2, 5, 4, 3)
    params = random_params(module)
    expected = forward(module, params, lr)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(apply(module, params, lr), expected, atol=1e-5)


def srdensenet_by_hand(doublings):
    blocks = sum(conv(3, 128 * (b + 1), 16) + sum(conv(3, 16 * c, 16) for c in range(1, 8)) for b in range(8))
    ends = conv(3, 3, 128) + conv(1, 9 * 128, 256) + conv(3, 256, 3)
    return ends + blocks + doublings * conv(3, 256, 256)


@pytest.mark.parametrize("scale, doublings", [(2, 1), (4, 2), (8, 3)])
def test_number_of_trainable_scalars(scale, doublings):
    count = cost.parameters(create_model(dict(name="srdensenet", scale=scale)))
    assert count == srdensenet_by_hand(doublings)
