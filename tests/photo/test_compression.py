"""What files say of their compression."""

import io

import pytest
from PIL import Image

from tests.photo.samples import RGB, encoded, read
from wdsr_jax.photo.compression import Compression


@pytest.mark.parametrize("quality", [10, 40, 60, 85, 92, 95])
@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
def test_the_quality_of_jpeg_is_read(quality, subsampling):
    photo = read(encoded(RGB, "JPEG", quality=quality, subsampling=subsampling))
    assert photo.compression == Compression("JPEG", quality)


def test_tables_of_a_camera_are_near_those_of_libjpeg():
    with Image.open(io.BytesIO(encoded(RGB, "JPEG", quality=80))) as image:
        tables = image.quantization
    finer = [[max(1, step + (i % 3 - 1)) for i, step in enumerate(table)] for table in tables.values()]
    compression = read(encoded(RGB, "JPEG", qtables=finer)).compression
    assert compression.format == "JPEG" and abs(compression.quality - 80) <= 2


@pytest.mark.parametrize(
    "image_format, options, name",
    [
        ("PNG", {}, ""),
        ("BMP", {}, ""),
        ("TIFF", {}, ""),
        ("TIFF", {"compression": "tiff_lzw"}, ""),
        ("TIFF", {"compression": "jpeg"}, "TIFF with loss"),
        ("WEBP", {"quality": 80}, "WebP"),
        ("WEBP", {"lossless": True}, ""),
        ("AVIF", {}, "AVIF"),
        ("JPEG2000", {}, "JPEG 2000"),
    ],
)
def test_other_formats_have_loss_or_none(image_format, options, name):
    assert read(encoded(RGB, image_format, **options)).compression == Compression(name)
