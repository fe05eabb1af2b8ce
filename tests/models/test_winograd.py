"""Winograd's convolution against sums over taps written out in float64, and where networks use it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.numpy_wdsr import random_params
from wdsr_jax.inference.network import apply_padded, fold_for_inference
from wdsr_jax.inference.tiles import upscale
from wdsr_jax.models import create_model, winograd

# A network wide enough for it: 24 -> 96 -> 24 channels.
WIDE = create_model(dict(name="wdsr_a", scale=2, filters=24, blocks=2, norm="none"))


def draw(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def sum_over_taps(x, kernel):
    x, kernel = np.pad(np.asarray(x, float), ((0, 0), (1, 1), (1, 1), (0, 0))), np.asarray(kernel, float)
    h, w = x.shape[1] - 2, x.shape[2] - 2
    return sum(x[:, i : i + h, j : j + w] @ kernel[i, j] for i in range(3) for j in range(3))


@pytest.mark.parametrize("channels", [(3, 5), (3, 6), (5, 3), (4, 4), (32, 128), (128, 32)])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 1), (4, 7), (5, 2), (7, 5), (12, 9)])
def test_equals_the_sum_over_taps(size, channels):
    x, kernel = draw(2, *size, channels[0]), draw(3, 3, *channels)
    expected = sum_over_taps(x, kernel)
    y = winograd.convolve(x, kernel)
    assert (y.shape, y.dtype) == (expected.shape, jnp.float32)
    # The matrices magnify what is rounded: the absolute values in their rows sum to up to 10, 1/2 and 19. A
    # wrong entry of one is off by the order of the sum itself.
    magnitude = sum_over_taps(np.abs(x), np.abs(kernel))
    assert (np.abs(y - expected) / magnitude).max() < 10 * 19 / 2 * 2**-24


def test_nan_stays_where_it_is_seen():
    x, kernel = draw(1, 16, 8, 4), draw(3, 3, 4, 4)
    x[0, 2, 3, 1] = np.nan
    seen = np.isnan(winograd.convolve(x, kernel)).any(axis=-1)[0]
    assert seen[1:4, 2:5].all()
    assert not seen[8:].any()
    assert not seen[:, :2].any()


@pytest.mark.parametrize(
    "x, kernel, expected",
    [
        ((1, 8, 8, 32), (3, 3, 32, 128), True),
        ((1, 8, 8, 128), (3, 3, 128, 32), True),
        ((9, 400, 500, 64), (3, 3, 64, 64), True),
        ((1, 8, 8, 25), (3, 3, 25, 32), False),
        ((1, 8, 8, 64), (1, 1, 64, 64), False),
        ((1, 8, 8, 64), (5, 5, 64, 64), False),
        ((1, 401, 500, 64), (3, 3, 64, 64), False),
    ],
)
def test_is_used_where_it_pays(x, kernel, expected):
    assert winograd.pays(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (x, kernel))) is expected


def products(module, dtype, winograd):
    """How many matrix products and convolutions the network's program has."""
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), random_params(module))

    def apply(params, lr):
        return apply_padded(module.clone(dtype=dtype), params, lr, winograd=winograd)

    text = str(jax.make_jaxpr(apply)(params, jnp.zeros((1, 8, 8, 3), dtype)))
    return text.count("dot_general"), text.count("conv_general_dilated")


def test_networks_use_it_on_cpus_in_float32_when_asked(monkeypatch):
    plain = products(WIDE, "float32", winograd=False)
    assert plain == (0, 7)  # skip, head, tail, and 2 in each of 2 blocks
    dots, convolutions = products(WIDE, "float32", winograd=True)
    assert dots > 0
    assert convolutions == 3
    assert products(WIDE, "float32", winograd=False) == plain  # the context is left again
    assert products(WIDE, "bfloat16", winograd=True) == plain
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert products(WIDE, "float32", winograd=True) == plain


def test_masked_images_of_a_batch_equal_each_alone():
    module, params = fold_for_inference(WIDE, random_params(WIDE))
    lr, sizes = np.abs(draw(3, 14, 11, 3)), np.array([[14, 11], [5, 3], [9, 1]])
    sr = jax.jit(functools.partial(apply_padded, module, winograd=True))(params, lr, sizes)
    for i, (h, w) in enumerate(sizes):
        expected = module.apply({"params": params}, lr[i : i + 1, :h, :w])[0]
        np.testing.assert_allclose(sr[i, : 2 * h, : 2 * w], expected, atol=2e-5)


@pytest.mark.parametrize("size", [(50, 31), (37, 44), (3, 70)])
@pytest.mark.parametrize("tile", [13, 14, 15, 16, 29])
def test_tiles_equal_the_whole_image(size, tile):
    params = random_params(WIDE)
    image = np.random.default_rng(tile).uniform(size=(*size, 3)).astype(np.float32)
    expected = WIDE.apply({"params": params}, image[None])[0]
    np.testing.assert_allclose(upscale(WIDE, params, image, tile=tile), expected, atol=2e-5)
    np.testing.assert_allclose(upscale(WIDE, params, image), expected, atol=2e-5)
