"""The PNG writer against a decoder written from the specification."""

import io

import numpy as np
from hypothesis import given, settings

from tests.photo.samples import noise_photos, png_pixels, read, with_alpha, written
from wdsr_jax.photo.png import write_png


@settings(deadline=None, max_examples=25)
@given(noise_photos())
def test_png_is_lossless(photo):
    expected = with_alpha(photo)
    content = written(photo, "png")
    np.testing.assert_array_equal(png_pixels(content), expected)
    np.testing.assert_array_equal(with_alpha(read(content)), expected)


def test_png_writer_takes_a_single_pixel():
    file = io.BytesIO()
    write_png(file, np.full((1, 1, 1), 65535, np.uint16), None)
    assert png_pixels(file.getvalue()).tolist() == [[[65535]]]
