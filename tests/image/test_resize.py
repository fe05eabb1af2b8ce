"""imresize against the published LR files, against MATLAB's algorithm written out, and by its properties."""

from fractions import Fraction
from math import ceil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.image.matlab import BORDERS, SCALES, oracle
from wdsr_jax.image.resize import imresize, resize_matrix

BENCHMARKS = Path(__file__).parents[3] / "shared/data/benchmarks"


@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="the benchmark images are not here")
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("name", "count"), [("Set5", 5), ("Set14", 14)])
def test_lr_of_the_benchmarks_bit_for_bit(name, count, scale):
    files = sorted((BENCHMARKS / name / f"image_SRF_{scale}").glob("*_HR.png"))
    assert len(files) == count
    differing = []
    for path in files:
        hr = np.asarray(Image.open(path))  # Set14 has grey files, kept (H, W) here
        lr = np.asarray(Image.open(path.with_name(path.name.replace("_HR", "_LR"))))
        if not np.array_equal(imresize(hr, 1 / scale), lr):
            differing.append(path.name)
    assert differing == []  # no file of either set differs at any scale


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("scale", SCALES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7, 3), (5, 2, 1), (12, 24, 3), (37, 23)], ids=str)
def test_equals_the_algorithm_written_out(shape, scale, border):
    image = np.random.default_rng(0).uniform(-1, 2, shape)
    expected = oracle(image, scale, border)
    np.testing.assert_allclose(imresize(image, scale, border=border), expected, atol=1e-12)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("scale", [Fraction(1, 2), Fraction(1, 4), 2, 4], ids=str)
def test_uint8_equals_the_oracle_where_arithmetic_is_exact(scale, border):
    """Noise overshoots, so the clip between the passes counts; at other scales sums decide ties."""
    image = np.random.default_rng(1).choice(np.array([0, 1, 128, 254, 255], np.uint8), (43, 29, 3))
    out = imresize(image, scale, border=border)
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, oracle(image, scale, border))


def test_uint8_is_rounded_after_each_pass():
    image = np.random.default_rng(2).integers(0, 256, (64, 64), dtype=np.uint8)
    rounded_once = np.clip(np.floor(imresize(image.astype(np.float64), 0.5) + 0.5), 0, 255)
    assert np.any(imresize(image, 0.5) != rounded_once)


@pytest.mark.parametrize(("size", "scale", "expected"), [(510, 1 / 3, 170), (511, 1 / 3, 171), (3, 1 / 8, 1)])
def test_output_size_is_the_ceiling_of_the_fraction_meant(size, scale, expected):
    assert imresize(np.zeros((size, 1)), scale).shape == (expected, 1)


@pytest.mark.parametrize("scale", [0.5, 1 / 3, 2])
def test_the_blocks_that_are_worked_on_do_not_show(scale):
    """Wide images are resized a few rows at a time; a narrow part of one, away from its cuts, in one go."""
    wide = np.random.default_rng(4).integers(0, 256, (300, 6000), dtype=np.uint8)
    part = imresize(wide[:, :120], scale)
    inside = slice(0, part.shape[1] - 12)
    np.testing.assert_array_equal(imresize(wide, scale)[:, inside], part[:, inside])


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    scale=st.fractions(Fraction(1, 9), 5, max_denominator=9),
    border=st.sampled_from(BORDERS),
    value=st.integers(0, 255),
)
@settings(max_examples=60, deadline=None)
def test_a_flat_image_stays_flat(height, width, scale, border, value):
    """The weights are a partition of unity at every scale, size and border."""
    flat = np.full((height, width), value, np.uint8)
    out = imresize(flat, scale, border=border)
    assert out.shape == (ceil(height * scale), ceil(width * scale))
    assert np.all(out == value)
    np.testing.assert_allclose(imresize(flat.astype(float), scale, border=border), value, atol=1e-9)


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_a_ramp_stays_a_ramp_away_from_the_borders(scale):
    """Keys' kernel reproduces polynomials of degree 1 at the sample positions (i + 1/2) / scale - 1/2.

    Normalised antialiased weights do so where they are symmetric, as for 1/n; 0.37 is off by a little.
    """
    ramp = np.arange(120.0)[:, None].repeat(2, 1)
    out = imresize(ramp, scale)[:, 0]
    position = (np.arange(len(out)) + 0.5) / float(scale) - 0.5
    inside = (position > 20) & (position < 100)
    np.testing.assert_allclose(out[inside], position[inside], atol=0.05 if scale == 0.37 else 1e-9)


@pytest.mark.parametrize("border", BORDERS)
def test_mirrored_and_transposed_images_commute(border):
    image = np.random.default_rng(5).uniform(size=(24, 36, 3))
    for scale in (Fraction(1, 2), Fraction(1, 3), 2):
        out = imresize(image, scale, border=border)
        np.testing.assert_allclose(
            imresize(image[::-1, ::-1], scale, border=border)[::-1, ::-1], out, atol=1e-12
        )
        np.testing.assert_allclose(
            imresize(image.swapaxes(0, 1), scale, border=border).swapaxes(0, 1), out, atol=1e-12
        )


@pytest.mark.parametrize("scale", [Fraction(1, 2), Fraction(1, 3), 2, 0.37, (17, 30), (60, 9)], ids=str)
def test_uint16_is_uint8_with_more_digits(scale):
    """Rounded after each pass: close to the float result and, for multiples of 257, to uint8's."""
    small = np.random.default_rng(7).integers(100, 150, (40, 30, 3), dtype=np.uint8)
    deep = small * np.uint16(257)
    out = imresize(deep, scale)
    assert out.dtype == np.uint16
    assert np.abs(out - imresize(deep.astype(float), scale)).max() < 1.5
    assert np.abs(out / 257 - imresize(small, scale)).max() < 1.5
    full = imresize(np.uint16([[0, 65535, 0, 65535]]), scale)
    assert full.min() >= 0 and full.max() > 30000


def test_a_size_resizes_each_side_by_its_factor_the_smaller_factor_first():
    image = np.random.default_rng(8).integers(0, 256, (24, 36, 3), dtype=np.uint8)
    np.testing.assert_array_equal(imresize(image, (12, 18)), imresize(image, Fraction(1, 2)))
    assert imresize(image, (7, 100)).shape == (7, 100, 3) and imresize(image, (24, 36)).shape == image.shape
    floats = image.astype(float)
    for size in ((48, 9), (6, 72)):
        by_matrices = np.einsum(
            "yY,YXc,xX->yxc",
            resize_matrix(24, Fraction(size[0], 24)).toarray(),
            floats,
            resize_matrix(36, Fraction(size[1], 36)).toarray(),
        )
        np.testing.assert_allclose(imresize(floats, size), by_matrices, atol=1e-9)
    # Rounding after each pass tells which pass was first.
    narrow = imresize(image, (24, 9))
    np.testing.assert_array_equal(imresize(image, (48, 9)), imresize(narrow, (48, 9)))
    np.testing.assert_array_equal(
        imresize(image.swapaxes(0, 1), (9, 48)), imresize(image, (48, 9)).swapaxes(0, 1)
    )


def test_dtype_and_range_of_floats_are_kept():
    for dtype in (np.float16, np.float32, np.float64):
        image = np.zeros((8, 8), dtype)
        image[4:] = 1
        out = imresize(image, 2)
        assert out.dtype == dtype
        assert out.min() < 0 and out.max() > 1


@pytest.mark.parametrize(
    ("image", "kwargs", "message"),
    [
        (np.zeros((4, 4)), {"scale": 2, "border": "reflect"}, "replicate, symmetric"),
        (np.zeros((4, 4)), {"scale": 0}, "scale must be positive"),
        (np.zeros((4, 4)), {"scale": float("nan")}, "scale must be positive"),
        (np.zeros((4, 4), np.int32), {"scale": 2}, "int32"),
        (np.zeros(4), {"scale": 2}, "shape"),
        (np.zeros((48, 48)), {"scale": 1e-9}, "leaves nothing of an image of 48x48"),
        (np.zeros((48, 48)), {"scale": 1e5}, "too large to hold"),
        (np.zeros((48, 48)), {"scale": 1e300}, "too large to hold"),
        (np.zeros((48, 48)), {"scale": 10**400}, "scale must be positive"),
        (np.zeros((48, 48)), {"scale": (10**9, 10**9)}, "too large to hold"),
        (np.zeros((4, 4)), {"scale": (0, 4)}, "two whole numbers from 1 up"),
        (np.zeros((4, 4)), {"scale": (4, 4, 3)}, "two whole numbers from 1 up"),
        (np.zeros((4, 4)), {"scale": (4.0, 4)}, "two whole numbers from 1 up"),
        (np.zeros((0, 4)), {"scale": 2}, "empty"),
    ],
)
def test_bad_arguments(image, kwargs, message):
    with pytest.raises(ValueError, match=message):
        imresize(image, **kwargs)
