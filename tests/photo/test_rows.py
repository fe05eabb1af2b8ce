"""Images are encoded in blocks of rows: joined they are the image, and few are in memory."""

import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from tests.photo.samples import written
from wdsr_jax.photo.photos import Photo, encode_photo
from wdsr_jax.photo.rows import interleaved, row_ranges

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 5, 3), (100, 30, 3), (64, 2000, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_blocks_joined_are_the_image(monkeypatch, shape, dtype):
    monkeypatch.setattr("wdsr_jax.photo.rows.BLOCK_BYTES", 1000)
    pixels, alpha = RNG.integers(0, 256, shape).astype(dtype), RNG.integers(0, 256, shape[:2]).astype(dtype)
    ranges = row_ranges(pixels)
    blocks = [interleaved(pixels, None, *rows) for rows in ranges]
    np.testing.assert_array_equal(np.concatenate(blocks), pixels)
    assert all(block.nbytes <= max(1000, pixels[0].nbytes) for block in blocks)
    blocks = [interleaved(pixels, alpha, *rows) for rows in ranges]
    np.testing.assert_array_equal(np.concatenate(blocks), np.dstack([pixels, alpha]))


def test_many_blocks():
    noise = RNG.integers(0, 256, (1500, 1000, 3), dtype=np.uint8)  # 4.5 MB: blocks in several threads
    for output_format in ("png", "tiff"):
        with Image.open(io.BytesIO(written(Photo(noise), output_format))) as image:
            np.testing.assert_array_equal(np.asarray(image), noise)


@pytest.mark.parametrize("image_format", ["png", "tiff"])
def test_little_memory_beside_the_pixels(tmp_path, monkeypatch, image_format):
    monkeypatch.setattr("wdsr_jax.photo.rows.BLOCK_BYTES", 2**14)
    pixels = np.zeros((2000, 2000, 3), np.uint8)  # 12 MB
    with open(tmp_path / "a", "wb") as file:
        tracemalloc.start()
        try:
            encode_photo(file, Photo(pixels), format=image_format)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert most < 4e6
