"""Metadata goes along from each format to each other, where it fits."""

import io
import struct

import pytest
import tifffile
from PIL import Image

from tests.photo.samples import RGB, SRGB, XMP, encoded, exif_block, png, png_chunk, read, written
from wdsr_jax.photo.metadata import Metadata
from wdsr_jax.photo.photos import Photo


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp", "tiff", "avif"])
@pytest.mark.parametrize("input_format", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_metadata_goes_along(input_format, output_format, order):
    exif = b"Exif\0\0" + exif_block(order)
    content = encoded(RGB, input_format, exif=exif, icc_profile=SRGB, xmp=XMP)
    if input_format == "PNG":  # Pillow's does not write XMP
        chunk = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
        content = content[:33] + chunk + content[33:]
    photo = read(content)
    assert photo.pixels.shape == (40, 24, 3)
    large = photo._replace(pixels=photo.pixels.repeat(3, 0).repeat(2, 1))
    with Image.open(io.BytesIO(written(large, output_format))) as image:
        image.load()
        tags = image.getexif()
        assert 0x0112 not in tags or tags[0x0112] == 1
        assert tags[0x010F] == "Maker"
        photograph, place = tags.get_ifd(0x8769), tags.get_ifd(0x8825)
        assert photograph[0x927C] == b"NOTE\0\1\2\3"
        assert photograph[0x829A] == 0.01
        assert (photograph[0xA002], photograph[0xA003]) == image.size == (48, 120)
        assert place[1] == "N"
        assert place[2] == (48.0, 8.0, 0.25)
        assert tags[0x0100] == 48
        assert image.info["icc_profile"] == SRGB
        assert image.info["xmp"] == XMP.replace(b'"7"', b'"48"')
        assert tags.get_ifd(1) == {}  # the thumbnail's
    again = read(written(large, output_format)).metadata
    assert (again.icc, again.xmp) == (SRGB, XMP.replace(b'"7"', b'"48"'))


def test_iptc_comments_and_png_texts():
    record = b"\x1c\x02\x78\0\x07caption"
    content = written(Photo(RGB, None, Metadata(iptc=record, comment=b"hello")), "jpeg")
    with Image.open(io.BytesIO(content)) as image:
        assert image.info["photoshop"][0x0404] == record
        assert image.info["comment"] == b"hello"
    photo = read(content)
    assert (photo.metadata.iptc, photo.metadata.comment) == (record, b"hello")
    with tifffile.TiffFile(io.BytesIO(written(photo, "tiff"))) as tiff:
        assert bytes(tiff.pages[0].tags[33723].value) == record
    assert read(written(photo, "tiff")).metadata.iptc == record

    texts = [(b"gAMA", struct.pack(">I", 45455)), (b"tEXt", b"Title\0a view"), (b"tIME", bytes(7))]
    photo = read(png(RGB, extra=texts))
    with Image.open(io.BytesIO(written(photo, "png"))) as image:
        image.load()
        assert image.text == {"Title": "a view"}
        assert image.info["gamma"] == 0.45455


def test_metadata_too_long_for_jpeg_is_left_out():
    metadata = Metadata(
        exif=exif_block() + bytes(70_000), xmp=XMP + bytes(70_000), iptc=bytes(70_000), icc=SRGB
    )
    photo = read(written(Photo(RGB, None, metadata), "jpeg"))
    assert (photo.metadata.exif, photo.metadata.xmp, photo.metadata.iptc) == (b"", b"", b"")
    assert photo.metadata.icc == SRGB


def test_profile_that_does_not_fit_is_left_out():
    grey = encoded(RGB[..., 0], "PNG", icc_profile=SRGB)
    assert read(grey).metadata.icc == b""
    assert read(encoded(RGB, "PNG", icc_profile=b"no profile")).metadata.icc == b""
