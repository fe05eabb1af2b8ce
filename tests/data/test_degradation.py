"""Each step of the degradation against SciPy, statistics or a file; LR as a function of HR and settings."""

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wdsr_jax.data.degradation import (
    Draw,
    add_noise,
    blur,
    degrade,
    draw,
    gaussian_kernel,
    jpeg,
    random_of,
    translate,
)
from wdsr_jax.data.settings import PRESETS, Degradation
from wdsr_jax.image.resize import imresize


def picture(height=40, width=48, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return imresize(small, 8)


def along_images(image, function):
    return np.stack([function(image[..., c]) for c in range(3)], -1)


# Blur


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.7])
def test_a_round_gaussian_is_that_of_scipy(sigma):
    image = picture().astype(float)
    kernel = gaussian_kernel((sigma, sigma), 0.7)
    expected = along_images(image, lambda x: scipy.ndimage.gaussian_filter(x, sigma, mode="nearest"))
    np.testing.assert_allclose(blur(image, kernel), expected, atol=1e-9)


@pytest.mark.parametrize("angle", [0.0, 0.5, 2.0])
def test_the_kernel_has_the_covariance_asked_for(angle):
    sigmas = (4.0, 1.5)
    kernel = gaussian_kernel(sigmas, angle)
    assert kernel.shape == (33, 33) and kernel.sum() == pytest.approx(1)
    y, x = np.mgrid[-16:17, -16:17]
    covariance = [[(kernel * a * b).sum() for b in (x, y)] for a in (x, y)]
    axes = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    np.testing.assert_allclose(covariance, axes @ np.diag(np.square(sigmas)) @ axes.T, atol=0.06)


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (9, 5)])
def test_any_kernel_is_a_convolution_with_repeated_borders(shape):
    kernel = np.random.default_rng(1).normal(size=shape)  # not symmetric: a correlation would differ
    image = picture()
    expected = along_images(image, lambda x: scipy.ndimage.convolve(x.astype(float), kernel, mode="nearest"))
    np.testing.assert_allclose(blur(image, kernel), expected, atol=1e-9)


def test_a_kernel_of_even_sides_is_refused():
    with pytest.raises(ValueError, match="odd"):
        blur(picture(), np.ones((2, 3)))


# Shift


@settings(deadline=None)
@given(st.integers(-50, 50), st.integers(-9, 9))
def test_whole_shifts_are_exact_and_repeat_the_border(dy, dx):
    image = picture()
    result = translate(image, (float(dy), float(dx)))
    assert result.dtype == np.uint8
    y = np.clip(np.arange(40) - dy, 0, 39)
    x = np.clip(np.arange(48) - dx, 0, 47)
    np.testing.assert_array_equal(result, image[y][:, x])


@settings(deadline=None, max_examples=30)
@given(st.floats(-3, 3), st.floats(-3, 3))
def test_parts_of_a_pixel_are_exact_for_quadratics(dy, dx):
    """Cubic convolution reproduces polynomials of degree 2 (Keys, section III)."""

    def surface(y, x):
        return 3 + 0.5 * y - 0.25 * x + 0.1 * y * x + 0.02 * y**2 - 0.03 * x**2

    y, x = np.mgrid[0:20, 0:24].astype(float)
    image = np.repeat(surface(y, x)[..., None], 3, -1)
    inside = (slice(6, -6), slice(6, -6))
    np.testing.assert_allclose(translate(image, (dy, dx))[inside][..., 1], surface(y - dy, x - dx)[inside])


def test_parts_of_a_pixel_are_near_a_spline():
    image = scipy.ndimage.gaussian_filter(picture().astype(float), (3, 3, 0))
    expected = scipy.ndimage.shift(image, (1.4, -0.3, 0), order=3, mode="nearest")
    np.testing.assert_allclose(translate(image, (1.4, -0.3)), expected, atol=0.1)


# Noise


@pytest.mark.parametrize("level", [10, 100, 250])
def test_poisson_noise_keeps_the_mean_and_its_variance_grows_with_the_light(level):
    photons, flat = 400.0, np.full((200, 200, 3), level, np.uint8)
    noisy = add_noise(flat, photons, 0.0, np.random.RandomState(0))
    variance = 255 * level / photons
    assert noisy.mean() == pytest.approx(level, abs=5 * math.sqrt(variance / noisy.size))
    assert noisy.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / noisy.size) + 0.01)
    counts = noisy * photons / 255
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-6)  # photons are whole


def test_gaussian_noise_has_its_deviation_and_channels_of_their_own():
    flat = np.full((200, 200, 3), 128.0)
    difference = add_noise(flat, 0.0, 7.0, np.random.RandomState(0)) - flat
    assert difference.std() == pytest.approx(7, rel=0.02) and abs(difference.mean()) < 0.15
    channels = np.corrcoef(difference.reshape(-1, 3).T)
    assert np.abs(channels - np.eye(3)).max() < 0.03
    assert scipy.stats.kurtosis(difference.ravel()) == pytest.approx(0, abs=0.1)


def test_no_noise_is_no_change():
    image = picture()
    assert add_noise(image, 0.0, 0.0, np.random.RandomState(0)) is image
    black = np.zeros((9, 9, 3))
    assert not add_noise(black, 10.0, 0.0, np.random.RandomState(0)).any()


# JPEG


def test_jpeg_is_what_a_file_gives(tmp_path):
    image = picture(24, 40)[:23, :37]
    Image.fromarray(image).save(tmp_path / "a.jpg", quality=30, subsampling=2)
    np.testing.assert_array_equal(jpeg(image, 30), np.asarray(Image.open(tmp_path / "a.jpg")))


def test_a_lower_quality_is_further_away():
    image = picture()
    errors = [np.square(jpeg(image, quality).astype(float) - image).mean() for quality in (95, 70, 40, 10)]
    assert errors == sorted(errors) and 0 < errors[0] < 30 < errors[-1]


# All together


def test_the_order_of_the_steps():
    hr = picture(48, 56)
    kernel = np.random.default_rng(0).random((5, 3))
    kernel /= kernel.sum()
    harm = Degradation(shift=3, noise=(4.0, 4.0), jpeg=(60.0, 60.0), seed=7)
    drawn = draw(harm, random_of(hr, 7))
    assert drawn.shift != (0, 0)
    image = along_images(hr, lambda x: scipy.ndimage.convolve(x.astype(float), kernel, mode="nearest"))
    image = scipy.ndimage.shift(image, (*drawn.shift, 0), order=0, mode="nearest")
    image = imresize(image, Fraction(1, 4))
    rng = random_of(hr, 7)
    draw(harm, rng)
    image = np.clip(np.floor(image + 4 * rng.standard_normal(image.shape) + 0.5), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(degrade(hr, 4, harm, kernel=kernel), jpeg(image, 60))


def test_nothing_but_whole_shifts_is_bicubic_bit_for_bit():
    hr = picture()
    np.testing.assert_array_equal(degrade(hr, 4, Degradation()), imresize(hr, Fraction(1, 4)))
    harm = Degradation(shift=4)
    moved = translate(hr, draw(harm, random_of(hr, 0)).shift)
    np.testing.assert_array_equal(degrade(hr, 2, harm), imresize(moved, Fraction(1, 2)))


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("name", PRESETS)
def test_presets_give_lr_of_their_size(name, scale):
    hr = picture(48, 96)
    lr = degrade(hr, scale, PRESETS[name])
    assert lr.shape == (48 // scale, 96 // scale, 3) and lr.dtype == np.uint8
    assert np.abs(lr.astype(int).mean((0, 1)) - hr.mean((0, 1))).max() < 15  # still the same picture


def test_lr_is_a_function_of_pixels_scale_and_settings():
    hr, harm = picture(), PRESETS["wild"]
    lr = degrade(hr, 2, harm)
    np.testing.assert_array_equal(degrade(np.asfortranarray(hr), 2, harm), lr)
    assert (degrade(hr, 2, harm._replace(seed=1)) != lr).any()
    other = hr.copy()
    other[0, 0, 0] ^= 1
    assert draw(harm, random_of(other, 0)) != draw(harm, random_of(hr, 0))


def test_the_random_numbers_never_change():
    """Cached LR would not be what their settings say."""
    rng = random_of(np.zeros((4, 4, 3), np.uint8), 3)
    drawn = draw(Degradation((0, 1), 4, 0.5, (0, 1), (0, 1), (0, 100)), rng)
    numbers = (*drawn.sigmas, drawn.angle, *drawn.shift, drawn.poisson, drawn.noise, drawn.jpeg)
    np.testing.assert_allclose(numbers, GOLDEN, rtol=1e-12)
    assert rng.poisson(100.0, 3).tolist() == GOLDEN_POISSON


GOLDEN = (
    0.03630763736884712,
    0.5978104258171459,
    1.0208187536142475,
    -2.2297806769693045,
    3.3424051154528094,
    0.003450782009831954,
    0.6652927099991981,
    49,
)
GOLDEN_POISSON = [104, 107, 83]


def test_a_setting_changes_nothing_else():
    rng = [random_of(picture(), 0) for _ in range(2)]
    mild, stronger = draw(PRESETS["mild"], rng[0]), draw(PRESETS["mild"]._replace(shift=40), rng[1])
    assert mild._replace(shift=()) == stronger._replace(shift=()) and mild.shift != stronger.shift
    assert rng[0].random_sample() == rng[1].random_sample()


def test_draws_fill_their_ranges():
    harm = Degradation((1, 3), 2, 0.25, (50, 60), (0, 1), (10, 13))
    draws = [draw(harm, np.random.RandomState(seed)) for seed in range(400)]
    columns = [*zip(*[(*d.sigmas, d.angle, d.poisson, d.noise) for d in draws], strict=True)]
    ends = [(1, 3), (1, 3), (0, math.pi), (50, 60), (0, 1)]
    for values, (low, high) in zip(columns, ends, strict=True):
        assert (
            low <= min(values) < low + 0.1 * (high - low) and high - 0.1 * (high - low) < max(values) <= high
        )
    for axis in (0, 1):
        whole = np.array([d.shift[axis] for d in draws])
        assert set(np.rint(whole)) == {-2, -1, 0, 1, 2} and np.abs(whole - np.rint(whole)).max() <= 0.25
    assert {d.jpeg for d in draws} == {10, 11, 12, 13}


def test_a_draw_is_what_a_degradation_promises():
    assert draw(Degradation(), np.random.RandomState(0))._replace(angle=0.0) == Draw(
        (0.0, 0.0), 0.0, (0.0, 0.0), 0.0, 0.0, 0
    )
