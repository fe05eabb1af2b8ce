"""The projection meets its constraint, is the nearest that does, and says what is left."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wdsr_jax.image.resize import imresize
from wdsr_jax.inference.backprojection import project, residual


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([2, 3, 4]), st.sampled_from([1, 3]))
def test_the_downscale_of_the_result_is_the_input(height, width, scale, channels):
    lr, sr = noise(height, width, channels), noise(height * scale, width * scale, channels, seed=1)
    result = project(sr, lr)
    assert result.dtype == np.float32
    np.testing.assert_allclose(imresize(result, 1 / scale), lr, atol=3e-5)
    rms, largest = residual(result, lr)
    assert rms <= largest < 3e-5


def test_it_is_the_least_squares_change():
    """Against the projection by NumPy's dense pseudo-inverse of the whole, two-dimensional downscale."""
    lr, sr = noise(4, 3, 1), noise(8, 6, 1, seed=1)
    basis = np.eye(48).reshape(48, 8, 6, 1)
    down = np.stack([imresize(image, 1 / 2).ravel() for image in basis], axis=1)  # (12, 48)
    expected = sr.ravel() + np.linalg.pinv(down) @ (lr.ravel() - down @ sr.ravel())
    np.testing.assert_allclose(project(sr, lr).ravel(), expected, atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_what_fits_already_is_left_alone(scale):
    sr = noise(7 * scale, 9 * scale, 3)
    np.testing.assert_allclose(project(sr, imresize(sr, 1 / scale)), sr, atol=1e-5)


def test_residual_is_in_the_units_of_the_images():
    lr = np.full((4, 5, 3), 100.0)
    sr = np.full((8, 10, 3), 103, np.uint8)
    assert residual(sr, lr) == pytest.approx((3, 3))
