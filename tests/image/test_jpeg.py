"""Segments and scans of JPEG files, counted without decoding; files of too many scans are refused."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from wdsr_jax.errors import UserError
from wdsr_jax.image.files import read_image
from wdsr_jax.image.jpeg import MAX_SCANS, Segment, count_scans, quality_of, read_segments, without_segments
from wdsr_jax.photo.photos import read_photo

RGB = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
EXIF = b"block"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


def jpeg(exif=b"", **options):
    file = io.BytesIO()
    segment = b"\xff\xe1" + struct.pack(">H", 8 + len(exif)) + b"Exif\0\0" + exif if exif else b""
    Image.fromarray(RGB).save(file, "JPEG", **options)
    return file.getvalue()[:2] + segment + file.getvalue()[2:]


def progressive(scans):
    """A progressive JPEG whose last scan is repeated."""
    content = jpeg(progressive=True)
    start, end = content.rindex(b"\xff\xda"), content.rindex(b"\xff\xd9")
    return content[:end] + content[start:end] * scans + content[end:]


def test_scans_are_counted():
    assert count_scans(io.BytesIO(jpeg())) == 1
    whole = count_scans(io.BytesIO(jpeg(progressive=True)))
    assert 5 < whole < 20
    assert count_scans(io.BytesIO(progressive(30))) == whole + 30
    assert count_scans(io.BytesIO(jpeg(restart_marker_rows=1))) == 1
    assert count_scans(io.BytesIO(jpeg(progressive=True, restart_marker_rows=1))) == whole
    # After the picture: the video of a motion photograph, whose bytes mean nothing here.
    assert count_scans(io.BytesIO(jpeg(progressive=True) + b"\xff\xda" * 1000)) == whole
    assert count_scans(io.BytesIO(PNG)) == 0
    content = progressive(3)
    for length in range(0, len(content), 7):
        assert count_scans(io.BytesIO(content[:length])) <= whole + 3


def test_a_jpeg_of_too_many_scans_is_refused():
    assert read_photo(io.BytesIO(progressive(100)), "a").pixels.shape == RGB.shape
    bomb = progressive(MAX_SCANS + 1)
    for read in (lambda: read_photo(io.BytesIO(bomb), "a"), lambda: read_image(io.BytesIO(bomb))):
        with pytest.raises(UserError, match=r"a JPEG of more than 500 scans"):
            read()


def test_segments():
    content = jpeg(EXIF, comment=b"hello")
    end = content.index(b"block") + 5
    found = list(read_segments(io.BytesIO(content[:end] + b"junk\xff\xff" + content[end:])))
    assert [segment.data for segment in found if segment.marker == 0xE1] == [b"Exif\0\0block"]
    assert [segment.data for segment in found if segment.marker == 0xFE] == [b"hello"]
    first = next(read_segments(io.BytesIO(content)))
    assert without_segments(content, [first]) == jpeg(comment=b"hello")
    assert without_segments(content, []) == content
    assert list(read_segments(io.BytesIO(PNG))) == []
    assert isinstance(first, Segment)


@pytest.mark.parametrize("quality", [1, 25, 49, 50, 75, 92, 100])
def test_the_quality_of_libjpeg_s_tables(quality):
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", quality=quality)
    assert quality_of(Image.open(file).quantization[0]) == quality
