"""Photographs are upscaled as they are: grey, transparent, of 16 bits, to the very size asked for."""

import numpy as np
import pytest
from PIL import Image

from tests.numpy_wdsr import random_params
from wdsr_jax.image.pixels import from_float, to_float
from wdsr_jax.image.resize import imresize
from wdsr_jax.inference.backprojection import residual
from wdsr_jax.inference.tiles import upscale
from wdsr_jax.models import create_model
from wdsr_jax.photo.network import Network, network_of
from wdsr_jax.photo.photos import Photo
from wdsr_jax.photo.upscaling import upscale_photo

MODULE = create_model(dict(name="wdsr_a", scale=2, filters=4, blocks=1, expansion=2))
PARAMS = random_params(MODULE)
NETWORK = network_of(MODULE, PARAMS)
RNG = np.random.default_rng(0)


def photo(pixels, alpha=None):
    return Photo(pixels, alpha, metadata="kept")


def noise(*shape, dtype=np.uint8):
    return RNG.integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def bicubic(image, on_pixels=None, noise=None):
    """In place of the network one that is known to be good, for what is around it."""
    sr = imresize(to_float(image), 2)
    return from_float(sr, image.dtype if image.dtype.kind == "u" else np.float32)


BICUBIC = Network(2, 2, bicubic)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colour_is_what_upscale_gives(dtype):
    pixels, done = noise(9, 8, 3, dtype=dtype), []
    result, residuals = upscale_photo(photo(pixels), NETWORK, (18, 16), on_pixels=done.append)
    np.testing.assert_array_equal(result.pixels, upscale(MODULE, PARAMS, pixels))
    assert (result.alpha, result.metadata, residuals, sum(done)) == (None, "kept", [], 72)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_stays_grey(dtype):
    pixels = noise(9, 8, 1, dtype=dtype)
    result, _ = upscale_photo(photo(pixels), NETWORK, (18, 16))
    sr = upscale(MODULE, PARAMS, np.repeat(pixels, 3, axis=2)).astype(float)
    assert result.pixels.shape == (18, 16, 1) and result.pixels.dtype == dtype
    np.testing.assert_allclose(result.pixels[..., 0], sr.mean(axis=2), atol=0.5)


def test_opaque_alpha_costs_nothing():
    pixels, done = noise(9, 8, 3), []
    alpha = np.full((9, 8), 255, np.uint8)
    result, _ = upscale_photo(photo(pixels, alpha), NETWORK, (18, 16), on_pixels=done.append)
    np.testing.assert_array_equal(result.pixels, upscale(MODULE, PARAMS, pixels))
    np.testing.assert_array_equal(result.alpha, np.full((18, 16), 255))
    assert sum(done) == 72


@pytest.mark.parametrize("size", [(32, 32), (27, 27)])
def test_what_transparent_pixels_hide_does_not_show(size):
    """A red half beside a transparent half whose hidden colour is green: no fringe of green or black."""
    pixels, alpha = np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), np.uint8)
    pixels[:, :8], alpha[:, :8] = (200, 20, 20), 255
    pixels[:, 8:] = (0, 255, 0)
    done = []
    result, _ = upscale_photo(photo(pixels, alpha), BICUBIC, size, on_pixels=done.append)
    assert result.pixels.shape == (*size, 3) and result.alpha.shape == size
    visible = result.pixels[result.alpha > 5].astype(int)
    assert np.abs(visible - [200, 20, 20]).max() <= 2
    assert set(np.unique(result.alpha[:, : size[1] // 4])) == {255}
    assert set(np.unique(result.alpha[:, -size[1] // 4 :])) == {0}
    assert (result.pixels[result.alpha == 0] == 0).all()


def test_a_size_between_is_the_networks_result_resampled():
    pixels = noise(10, 20, 3)
    result, _ = upscale_photo(photo(pixels), NETWORK, (17, 33))
    expected = Image.fromarray(upscale(MODULE, PARAMS, pixels)).resize((33, 17), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(result.pixels, np.asarray(expected))


def test_16_bits_are_resampled_as_8_are():
    pixels = noise(10, 20, 3) // 4 + 90  # no clipping, which would come after each of Pillow's passes
    expected, _ = upscale_photo(photo(pixels), BICUBIC, (17, 33))
    result, _ = upscale_photo(photo(pixels.astype(np.uint16) * 257), BICUBIC, (17, 33))
    assert result.pixels.dtype == np.uint16
    np.testing.assert_allclose(result.pixels / 257, expected.pixels, atol=1.5)


def test_without_a_network_it_only_resamples():
    pixels = noise(10, 20, 3)
    result, _ = upscale_photo(photo(pixels), None, (5, 10))
    np.testing.assert_array_equal(
        result.pixels, np.asarray(Image.fromarray(pixels).resize((10, 5), Image.Resampling.LANCZOS))
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_consistent_says_how_far_the_downscale_misses_the_input(channels):
    pixels = noise(12, 10, channels) // 2 + 64  # no clipping
    before, _ = upscale_photo(photo(pixels), BICUBIC, (24, 20))
    after, residuals = upscale_photo(photo(pixels), BICUBIC, (24, 20), consistent=True)
    assert residuals[0] == pytest.approx(residual(before.pixels, pixels.astype(float)), abs=1e-3)
    assert residuals[1] == pytest.approx(residual(after.pixels, pixels.astype(float)), abs=1e-3)
    assert residuals[0][0] > 10 and residuals[1][1] < 1  # what is left is rounding to uint8
