"""Windows cover an image; the images that make sense are told from others."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdsr_jax.inference.windows import (
    MAX_PIXELS,
    check_image,
    cut,
    even_windows,
    pixels_computed,
    upscale_in_windows,
)


@given(length=st.integers(1, 300), radius=st.integers(0, 30), extra=st.integers(1, 100))
def test_windows_cover_an_axis_once_and_keep_their_distance(length, radius, extra):
    side = 2 * radius + extra
    windows = cut(length, side, radius)
    assert [i for _, keep in windows for i in keep] == list(range(length))
    for window, keep in windows:
        assert len(window) == min(side, length)
        assert window.start == 0 or window.start + radius <= keep.start
        assert window.stop == length or keep.stop <= window.stop - radius


@given(height=st.integers(1, 3000), width=st.integers(1, 3000))
def test_even_windows_compute_little_twice(height, width):
    shape = even_windows((height, width), 34, 2 * MAX_PIXELS)
    assert 1 <= shape[0] <= height and 1 <= shape[1] <= width
    assert shape[0] * shape[1] <= MAX_PIXELS
    assert pixels_computed(shape, np.asarray([(height, width)]), 34).item() <= 1.3 * height * width


def test_even_windows_are_as_small_as_there_is_room_for():
    height, width = even_windows((600, 800), 10, 40_000)
    assert height * width <= 40_000
    assert even_windows((600, 800), 10, 0) == (59, 59)  # 15 and 20 of them, of which 39x39 are kept


@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    shape=st.tuples(st.integers(3, 22), st.integers(3, 22)),
    ensemble=st.booleans(),
)
def test_windows_of_a_local_function_make_the_whole(height, width, shape, ensemble):
    """The sum over 3x3 pixels, repeated to the scale, which no symmetry changes."""

    def apply(windows):
        for lr in windows:
            h, w, _ = lr.shape
            padded = np.pad(lr, ((1, 1), (1, 1), (0, 0)))
            summed = sum(padded[y : y + h, x : x + w] for y in range(3) for x in range(3))
            yield summed.repeat(2, 0).repeat(2, 1)

    image = np.random.default_rng(0).uniform(size=(height, width, 3)).astype(np.float32)
    done, corners = [], []
    options = dict(scale=2, radius=1, ensemble=ensemble, on_pixels=done.append)
    sr = upscale_in_windows(
        apply, image, shape, network_input=lambda lr, corner: corners.append(corner) or lr, **options
    )
    np.testing.assert_allclose(sr, next(apply([image])), rtol=1e-5)
    assert sum(done) == height * width
    assert corners[0] == (0, 0) and all(y < height and x < width for y, x in corners)


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.uint16, np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
)
def test_images_of_all_types_of_pixels_are_taken(dtype):
    assert check_image(np.ones((2, 3, 3), dtype)).dtype == dtype


@pytest.mark.parametrize("dtype", [bool, np.int32, ml_dtypes.int4, complex, "S1", object])
def test_other_types_are_refused(dtype):
    with pytest.raises(ValueError, match=r"^image must be uint8, uint16 or float, not "):
        check_image(np.ones((2, 3, 3), dtype))
