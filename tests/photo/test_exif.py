"""EXIF and XMP are edited in place: what turns, shows or measures the old picture goes, all else stays."""

import pytest
from PIL import Image

from tests.photo.samples import RGB, encoded, exif_block, read
from wdsr_jax.photo.exif import clean_exif


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_edited_not_written_anew(order):
    block = exif_block(order)
    clean = clean_exif(b"Exif\0\0" + block)
    exif = Image.Exif()
    exif.load(clean)
    assert exif.get(0x0112) is None
    assert b"THUMBNAIL" not in clean
    assert exif[0x010F] == "Maker"
    assert clean.index(b"NOTE\0\1\2\3") == block.index(b"NOTE\0\1\2\3")  # offsets in the note stay right
    assert exif.get_ifd(0x8825)[2] == (48.0, 8.0, 0.25)
    assert clean_exif(clean) == clean


def test_damaged_exif_is_left_out():
    for exif in (
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0garbage",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
    ):
        photo = read(encoded(RGB, "JPEG", exif=exif, quality=100))
        assert photo.pixels.shape == RGB.shape
        assert photo.metadata.exif == b""


def test_xmp_no_longer_speaks_of_what_is_gone():
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" hdrgm:Version="1.0" '
        b'GCamera:MotionPhoto="1" dc:title="kept"><Container:Directory><rdf:Seq/></Container:Directory>'
        b"<tiff:Orientation>6</tiff:Orientation></rdf:Description></x:xmpmeta>"
    )
    photo = read(encoded(RGB, "WEBP", xmp=packet, exif=exif_block()))
    assert photo.metadata.xmp == (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description dc:title="kept"></rdf:Description></x:xmpmeta>'
    )
