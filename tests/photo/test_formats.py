"""The formats that can be written: by which endings, up to which sizes."""

import numpy as np
import pytest

from tests.photo.samples import RGB, read, written
from wdsr_jax.errors import UserError
from wdsr_jax.photo.formats import OUTPUT_FORMATS, check_size, format_of
from wdsr_jax.photo.photos import Photo, read_photo, write_photo


def test_formats_by_ending(tmp_path):
    for name in ("a.png", "a.JPG", "a.jpeg", "a.webp", "a.tif", "a.TIFF", "a.avif", "a.bmp", "a.ppm"):
        write_photo(tmp_path / name, Photo(RGB))
        assert read_photo(tmp_path / name).pixels.shape == RGB.shape
    assert [format_of(f"a{suffix}") for suffix in OUTPUT_FORMATS.values()] == list(OUTPUT_FORMATS)
    for name in ("a", "a.txt", "a.gif"):
        with pytest.raises(UserError, match="no image format that can be written ends in"):
            write_photo(tmp_path / name, Photo(RGB))


@pytest.mark.parametrize(
    "image_format, width, height",
    [
        ("jpeg", 65_500, 1),
        ("webp", 16_383, 8_192),
        ("avif", 16_384, 16_384),
        ("avif", 32_768, 1),
        ("png", 10**6, 1),
    ],
)
def test_sizes_that_fit(image_format, width, height):
    check_size("a", image_format, width, height)
    if height == 1:
        photo = read(written(Photo(np.zeros((1, width, 3), np.uint8)), image_format))
        assert photo.pixels.shape == (1, width, 3)


@pytest.mark.parametrize(
    "name, width, height, limit",
    [
        ("a.jpg", 65_501, 1, "65500 a side"),
        ("a.webp", 1, 16_384, "16383 a side"),
        ("a.webp", 16_383, 8_193, "134 million"),
        ("a.avif", 32_769, 1, "32768 a side"),
        ("a.avif", 16_384, 16_385, "268 million"),
    ],
)
def test_sizes_that_do_not_fit(tmp_path, name, width, height, limit):
    words = (
        rf"{name}: {width} x {height} pixels are too many for \w+ \(at most {limit}\); use \.png or \.tif$"
    )
    with pytest.raises(UserError, match=words):
        check_size(tmp_path / name, format_of(name), width, height)
    if width * height < 10**6:
        with pytest.raises(UserError, match=words):
            write_photo(tmp_path / name, Photo(np.zeros((height, width, 1), np.uint8)))
        assert not list(tmp_path.iterdir())
