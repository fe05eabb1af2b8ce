"""Pixel types and symmetries: clipping, rounding, the group of the square."""

import numpy as np
import pytest

from wdsr_jax.image.pixels import dihedral, from_float, to_float, to_uint8, undo_dihedral

RGB = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "value, expected",
    [
        (0.0, 0),
        (0.49 / 255, 0),
        (0.5 / 255, 1),  # half up, where NumPy's round would go to the even 0
        (1.5 / 255, 2),
        (2.5 / 255, 3),
        (126.5 / 255, 127),
        (127.49 / 255, 127),
        (0.5, 128),
        (254.49 / 255, 254),
        (254.5 / 255, 255),
        (1.0, 255),
        (-0.001, 0),
        (1.001, 255),
        (-1e30, 0),
        (1e30, 255),
        (np.inf, 255),
        (-np.inf, 0),
        (np.nan, 0),
    ],
)
def test_to_uint8_clips_and_rounds_half_up(value, expected):
    for shape in ((), (2, 3, 3)):
        result = to_uint8(np.full(shape, value))
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bytes_survive_the_way_through_float(dtype):
    every = np.arange(256, dtype=np.uint8)
    as_float = to_float(every)
    assert as_float.dtype == np.float32
    assert (as_float[0], as_float[-1]) == (0, 1)
    for nudge in (-0.499, 0, 0.499):
        moved = (as_float.astype(np.float64) + nudge / 255).astype(dtype)
        np.testing.assert_array_equal(to_uint8(moved), every)


def test_16_bits_and_floats_have_their_own_range():
    values = np.arange(65536, dtype=np.uint16)
    assert to_float(values).dtype == np.float32 and to_float(values).max() == 1
    np.testing.assert_array_equal(from_float(to_float(values), np.uint16), values)
    np.testing.assert_array_equal(from_float([-1.0, np.nan, 2.0], np.uint16), [0, 0, 65535])
    unclipped = np.array([-1.0, 2.0])
    np.testing.assert_array_equal(to_float(unclipped), unclipped)
    np.testing.assert_array_equal(from_float(unclipped, np.float32), unclipped)


def test_dihedral_is_the_group_of_the_square():
    image = np.arange(6 * 6 * 3).reshape(6, 6, 3)
    symmetries = {np.rot90(i, k).tobytes() for i in (image, image[:, ::-1]) for k in range(4)}
    assert {dihedral(image, transform).tobytes() for transform in range(8)} == symmetries
    assert dihedral(image, 5).base is not None
    for transform in range(8):
        np.testing.assert_array_equal(undo_dihedral(dihedral(RGB, transform), transform), RGB)
