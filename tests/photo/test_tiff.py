"""TIFF: lossless, 16 bits in every arrangement, which of several pictures, and its tags."""

import io

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from PIL import Image

from tests.photo.samples import DEEP, RGB, SRGB, encoded, exif_block, noise_photos, read, with_alpha, written
from wdsr_jax.photo.formats import OUTPUT_FORMATS
from wdsr_jax.photo.metadata import Metadata
from wdsr_jax.photo.photos import Photo


@settings(deadline=None, max_examples=25)
@given(noise_photos())
def test_tiff_is_lossless(photo):
    expected = with_alpha(photo)
    content = written(photo, "tiff")
    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        np.testing.assert_array_equal(tiff.asarray().reshape(expected.shape), expected)
    np.testing.assert_array_equal(with_alpha(read(content)), expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_16_bit_tiff_is_read(channels, planar):
    pixels = DEEP[..., :channels]
    data = pixels if planar == "contig" else np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    for order in "<>":
        for compression, predictor in ((None, None), ("zlib", None), ("zlib", "horizontal")):
            for tile in (None, (16, 16)):
                file = io.BytesIO()
                tifffile.imwrite(
                    file,
                    data[..., 0] if channels == 1 and planar == "contig" else data,
                    byteorder=order,
                    photometric="rgb" if channels > 2 else "minisblack",
                    planarconfig=planar if channels > 1 else None,
                    extrasamples=["unassalpha"] if channels in (2, 4) else None,
                    compression=compression,
                    predictor=predictor,
                    tile=tile,
                    rowsperstrip=None if tile else 7,
                )
                photo = read(file.getvalue())
                assert photo.pixels.dtype == np.uint16
                np.testing.assert_array_equal(with_alpha(photo), pixels)


@pytest.mark.parametrize("reduced_first", [False, True])
def test_thumbnails_in_tiff_are_left_out(reduced_first):
    file = io.BytesIO()
    pages = [(DEEP[..., :3], 0), (DEEP[::2, ::2, :3], 1), (DEEP[::4, ::4, 0], 1)]
    with tifffile.TiffWriter(file) as tiff:
        for page, kind in pages[1:] + pages[:1] if reduced_first else pages:
            tiff.write(page, subfiletype=kind, photometric="rgb" if page.ndim == 3 else "minisblack")
    np.testing.assert_array_equal(read(file.getvalue()).pixels, DEEP[..., :3])


def test_tiff_gives_its_tags_to_other_formats():
    exif = Image.Exif()
    exif.load(exif_block())
    del exif[0x0100]
    content = encoded(RGB, "TIFF", exif=exif, icc_profile=SRGB, dpi=(300, 200), description="a view")
    photo = read(content)
    assert photo.metadata.dpi == (200, 300)  # turned, as the pixels
    for output_format in OUTPUT_FORMATS:
        with Image.open(io.BytesIO(written(photo, output_format))) as image:
            image.load()
            tags = image.getexif()
            assert (tags[0x010F], tags[0x010E]) == ("Maker", "a view")
            assert tags.get_ifd(0x8769)[0x927C] == b"NOTE\0\1\2\3"
            assert tags.get_ifd(0x8825)[2] == (48.0, 8.0, 0.25)
            assert image.info["icc_profile"] == SRGB
            if output_format not in ("webp", "avif"):
                assert image.info["dpi"] == pytest.approx((200, 300), abs=0.01)


def test_letters_beyond_ascii_stay_as_they_are():
    exif = Image.Exif()
    exif[0x013B] = "Jose"
    block = exif.tobytes()[6:].replace(b"Jose", b"Jos\xe9")
    for output_format in ("tiff", "png", "jpeg"):
        assert b"Jos\xe9\0" in written(Photo(RGB, None, Metadata(exif=block)), output_format)
