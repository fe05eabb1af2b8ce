"""The shift found against one shift after the other, and against the shift that was applied."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wdsr_jax.data.degradation import degrade, draw, random_of, translate
from wdsr_jax.data.sample import sample_files
from wdsr_jax.data.settings import Degradation
from wdsr_jax.image.alignment import align, best_shift
from wdsr_jax.image.files import read_image
from wdsr_jax.image.metrics import TooSmallError, psnr
from wdsr_jax.image.resize import imresize


def noise(seed, shape=(40, 50, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def one_by_one(sr, hr, border, window):
    """The squared error of each shift, in whole numbers."""
    sr, hr = sr.astype(int), hr.astype(int)
    height, width = hr.shape[:2]
    top, bottom, left, right = border, height - border, border, width - border
    return {
        (dy, dx): np.sum(
            (sr[top:bottom, left:right] - hr[top - dy : bottom - dy, left - dx : right - dx]) ** 2
        )
        for dy in range(-window, window + 1)
        for dx in range(-window, window + 1)
    }


# Few levels, so that several shifts are equally good; black and white, so that the sums are large.
pairs = st.integers(0, 3).flatmap(
    lambda window: st.tuples(
        st.just(window),
        hnp.arrays(np.uint8, (2, 15 + 2 * window, 17 + 2 * window, 3), elements=st.sampled_from([0, 1, 255])),
    )
)


@settings(deadline=None, max_examples=60)
@given(pairs)
def test_against_one_shift_after_the_other(drawn):
    window, (sr, hr) = drawn
    errors = one_by_one(sr, hr, 7 + window, window)
    found = best_shift(sr, hr, scale=1, window=window)
    assert errors[found] == min(errors.values())
    ties = [shift for shift, error in errors.items() if error == errors[found]]
    assert sum(map(abs, found)) == min(sum(map(abs, shift)) for shift in ties)


@settings(deadline=None, max_examples=30)
@given(st.integers(-5, 5), st.integers(-5, 5), st.integers(0, 9))
def test_the_shift_found_is_the_shift_applied(dy, dx, seed):
    hr = noise(seed, (50, 45, 3))
    moved = translate(hr, (dy, dx))
    assert best_shift(moved, hr, scale=4, window=5) == (dy, dx)
    left, right = align(moved, hr, (dy, dx), 5)
    assert left.shape == (40, 35, 3)
    np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(left, moved[5:-5, 5:-5])


@pytest.mark.parametrize("scale", [2, 4])
def test_it_is_found_in_photographs_through_blur_and_noise(scale):
    hr = read_image(sample_files()[1][0])  # 512x512
    for seed in range(4):
        harm = Degradation(
            blur=(0.5, 2.0), shift=8, poisson=(500.0, 500.0), noise=(3.0, 3.0), jpeg=(70.0, 70.0), seed=seed
        )
        applied = draw(harm, random_of(hr, seed)).shift
        assert np.abs(applied).max() > 1
        sr = imresize(degrade(hr, scale, harm), scale)
        found = best_shift(sr, hr, scale=scale, window=12)
        assert np.abs(np.subtract(found, applied)).max() <= 1  # bicubic x4 of a blurred image knows no better
        assert psnr(*align(sr, hr, found, 12), scale=scale, protocol="ntire") > psnr(
            sr, hr, scale=scale, protocol="ntire"
        )


def test_the_largest_sums_are_exact():
    """One level at one pixel of two million decides between two shifts."""
    hr = np.zeros((1404, 2040, 3), np.uint8)
    hr[:, ::2] = 255  # equal to itself moved by 2
    moved = translate(hr, (0, 2))
    moved[700, 1000, 1] ^= 1
    hr[700, 998, 1] ^= 1
    assert best_shift(moved, hr, scale=4, window=3) == (0, 2)


def test_without_a_window_it_is_the_plain_protocol():
    sr, hr = noise(0), noise(1)
    assert best_shift(sr, hr, scale=2, window=0) == (0, 0)
    sr_part, hr_part = align(sr, hr, (0, 0), 0)
    assert sr_part.shape == hr_part.shape == sr.shape
    assert psnr(sr_part, hr_part, scale=2, protocol="ntire") == psnr(sr, hr, scale=2, protocol="ntire")


def test_grey_counts_as_equal_channels():
    sr, hr = noise(0, (30, 33)), noise(1, (30, 33))
    colour = [np.stack([image] * 3, -1) for image in (sr, hr)]
    assert best_shift(sr, hr, scale=2, window=3) == best_shift(*colour, scale=2, window=3)


def test_the_border_does_not_count():
    """What lies within scale + 6 of HR's border, or scale + 6 + window of SR's, changes nothing."""
    hr = noise(2, (40, 42, 3))
    sr = translate(hr, (-2, 1))
    hr_spoilt, sr_spoilt = (255 - hr), (255 - sr)
    hr_spoilt[8:-8, 8:-8] = hr[8:-8, 8:-8]
    sr_spoilt[10:-10, 10:-10] = sr[10:-10, 10:-10]
    assert best_shift(sr_spoilt, hr_spoilt, scale=2, window=2) == (-2, 1)
    parts = align(sr_spoilt, hr_spoilt, (-2, 1), 2)
    assert psnr(*parts, scale=2, protocol="ntire") == np.inf


def test_bad_arguments():
    image = noise(0)
    with pytest.raises(TooSmallError, match=r"50x40 is too small .* at least 41"):
        best_shift(image, image, scale=4, window=10)
    with pytest.raises(ValueError, match="uint8"):
        best_shift(image.astype(float), image, scale=2, window=1)
    with pytest.raises(ValueError, match="one shape"):
        best_shift(image, image[1:], scale=2, window=1)
    with pytest.raises(ValueError, match="window"):
        best_shift(image, image, scale=2, window=-1)
