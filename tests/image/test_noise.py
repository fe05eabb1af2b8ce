"""The estimate of noise, on noise that is known."""

import numpy as np
import pytest

from wdsr_jax.data.sample import sample_files
from wdsr_jax.image.files import read_image
from wdsr_jax.image.noise import estimate_noise

HELD_OUT = sorted(path.stem for path in sample_files()[1])


def photograph(name):
    return read_image(next(path for path in sample_files()[1] if path.stem == name))


def with_noise(image, levels):
    noisy = image + levels * np.random.default_rng(0).standard_normal(image.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("levels", [1, 3, 8, 20])
@pytest.mark.parametrize("shape", [(64, 64, 3), (301, 203, 1)])
def test_noise_on_grey_is_found(shape, levels):
    image = np.full(shape, 120, np.uint8)
    assert estimate_noise(with_noise(image, levels)) == pytest.approx(levels, rel=0.15, abs=0.05)


@pytest.mark.parametrize("name", HELD_OUT)
def test_noise_on_photographs_is_found(name):
    image = photograph(name)
    assert estimate_noise(image) < 1.5
    for levels in (3, 8):
        assert estimate_noise(with_noise(image, levels)) == pytest.approx(levels, rel=0.1)


def test_sixteen_bits_are_measured_in_levels_of_eight():
    noisy = with_noise(photograph("chelsea"), 5)
    assert estimate_noise(noisy.astype(np.uint16) * 257) == pytest.approx(estimate_noise(noisy))


def test_edges_slopes_and_what_is_clipped_are_no_noise():
    rows, columns = np.mgrid[:128, :128]
    slope_and_edge = (rows + np.where(columns > 40, 100, 0))[..., None].astype(np.uint8)
    assert estimate_noise(slope_and_edge) < 0.1
    noisy = with_noise(photograph("coffee"), 8)
    noisy[:200] = 255  # an overexposed sky
    assert estimate_noise(noisy) == pytest.approx(8, rel=0.15)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 50, 1), (2, 2, 3), (3, 40, 3)])
def test_small_pictures_have_an_estimate(shape):
    assert estimate_noise(np.full(shape, 90, np.uint8)) == 0
    assert estimate_noise(np.full(shape, 255, np.uint8)) == 0


def test_large_pictures_are_sampled():
    image = np.full((3000, 2600, 1), 90, np.uint8)
    assert estimate_noise(with_noise(image, 4)) == pytest.approx(4, rel=0.15)
