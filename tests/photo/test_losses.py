"""What a photograph loses in reading and in writing is said in a few words."""

import io
import shutil
import struct
import subprocess

import numpy as np
import pytest
import tifffile
from PIL import Image

from wdsr_jax.photo import losses
from wdsr_jax.photo.boxes import Items
from wdsr_jax.photo.exif import clean_exif
from wdsr_jax.photo.formats import FORMATS
from wdsr_jax.photo.metadata import Metadata
from wdsr_jax.photo.photos import Photo, encode_photo, read_photo, write_photo

RGB = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
DEEP = RGB.astype(np.uint16) * 257


def read(content):
    return read_photo(io.BytesIO(content), "a")


def encoded(image_format="JPEG", pixels=RGB, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, image_format, **options)
    return file.getvalue()


def tiff(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def lost(photo, output_format):
    return encode_photo(io.BytesIO(), photo, format=output_format)


def exif_block():
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    return clean_exif(exif.tobytes())


# In reading


def test_nothing_is_lost_of_ordinary_files():
    for image_format in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "BMP", "GIF", "PPM", "JPEG2000"):
        assert read(encoded(image_format)).lost == ()
    assert Photo(RGB).lost == ()


def segment(marker, data):
    return b"\xff" + bytes([marker]) + struct.pack(">H", 2 + len(data)) + data


@pytest.mark.parametrize(
    "content, words",
    [
        (encoded(xmp=b'<a hdrgm:Version="1.0"/>'), "HDR gain map"),
        (encoded(extra=segment(0xE2, b"urn:iso:std:iso:ts:21496:-1\0" + bytes(4))), "HDR gain map"),
        (encoded(xmp=b'<a GCamera:MotionPhoto="1"/>'), "video of a motion photo"),
        (encoded(xmp=b'<a GCamera:MicroVideo="1"/>'), "video of a motion photo"),
        (encoded(xmp=b'<a GDepth:Format="RangeInverse"/>'), "depth map"),
        (encoded(xmp=b'<a xmpNote:HasExtendedXMP="7"/>'), "second part of the XMP"),
        (encoded(extra=segment(0xEB, b"JP\0\1\0\0\0\1\0\0\0\x99jumb")), "content credentials"),
        (encoded(exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), "damaged EXIF"),
        (encoded("WEBP", xmp=b"<GDepth:a/>"), "depth map"),
    ],
)
def test_what_files_hold_and_photographs_do_not(content, words):
    assert read(content).lost == (words,)


def multi_picture(second):
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "MPO", save_all=True, append_images=[Image.fromarray(RGB[::2, ::2])])
    content = file.getvalue()
    start = content.rindex(b"\xff\xd8\xff")
    return content[: start + 2] + second + content[start + 2 :]


def test_second_pictures_of_jpeg():
    assert read(multi_picture(b"")).lost == ("second picture",)
    apple = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<a>urn:com:apple:photo:2020:aux:hdrgainmap</a>")
    assert read(multi_picture(apple)).lost == ("HDR gain map",)
    content = bytearray(multi_picture(b""))
    entries = content.index(struct.pack("<I", 0x030000))  # the first picture's, of 16 bytes
    content[entries + 16 : entries + 20] = struct.pack("<I", 0x010002)
    assert read(bytes(content)).lost == ()  # a thumbnail of Full HD


def test_channels_and_layers_of_tiff():
    five = np.dstack([RGB, RGB[..., :2]])
    assert read(tiff(five, photometric="rgb", extrasamples=["unspecified"] * 2)).lost == ("2 extra channels",)
    four = five[..., :4]
    assert read(tiff(four, photometric="rgb", extrasamples=["unspecified"])).lost == ("1 extra channel",)
    assert read(tiff(four, photometric="rgb", extrasamples=["unassalpha"])).lost == ()
    with_alpha = read(tiff(five, photometric="rgb", extrasamples=["unassalpha", "unspecified"]))
    assert with_alpha.alpha is not None
    assert with_alpha.lost == ("1 extra channel",)
    layers = (37724, 7, 4000, bytes(4000), True)
    assert read(tiff(RGB, photometric="rgb", extratags=[layers])).lost == ("layers",)
    cmyk = encoded("TIFF", np.zeros((8, 8, 3), np.uint8))
    assert read(cmyk).lost == ()


def test_bits_beyond_8():
    grey = encoded("JPEG2000", DEEP[..., 0])
    assert read(grey).pixels.dtype == np.uint16
    assert read(grey).lost == ()
    for kind, largest, words in ((5, 65535, ()), (6, 65535, ("16 bits (read as 8)",)), (6, 255, ())):
        pixels = DEEP.astype(">u2") if largest > 255 else RGB
        content = b"P%d # 1 2 3\n40 24\n%d\n" % (kind, largest) + pixels.tobytes()
        assert read(content).lost == words


@pytest.mark.parametrize(
    "items, words",
    [
        (Items(types=(b"av01", b"tmap")), "HDR gain map"),
        (Items(all_properties=((b"auxC", b"urn:com:apple:photo:2020:aux:hdrgainmap\0"),)), "HDR gain map"),
        (Items(all_properties=((b"auxC", b"urn:mpeg:hevc:2015:auxid:2\0"),)), "depth map"),
        (Items(properties=((b"pixi", b"\0\0\0\0\3\x0c\x0c\x0c"),)), "12 bits (read as 8)"),
    ],
)
def test_items_of_avif(monkeypatch, items, words):
    monkeypatch.setattr(losses, "read_items", lambda file: items)
    assert read(encoded("AVIF")).lost == (words,)


@pytest.mark.skipif(not shutil.which("avifenc"), reason="avifenc is not installed")
def test_10_bits_of_avif(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    for bits, words in ((8, ()), (10, ("10 bits (read as 8)",))):
        command = ["avifenc", "-d", str(bits), "a.png", "a.avif"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        assert read_photo(tmp_path / "a.avif").lost == words


# In writing


def test_what_formats_hold():
    for output_format in FORMATS:
        assert lost(Photo(RGB), output_format) == ()
    everything = Metadata(
        exif=exif_block(), xmp=b"<a/>", iptc=b"\x1c\x02\x78\0\x07caption", comment=b"a view", aspect=(2, 1)
    )
    photo = Photo(DEEP, DEEP[..., 0], everything._replace(png=((b"tEXt", b"Title\0a view"),)))
    bits, captions, comment = "16 bits (written as 8)", "captions (IPTC)", "comment"
    clear, shape, texts = "transparency (shown on white)", "shape of the pixels (2:1)", "texts of PNG"
    assert {name: lost(photo, name) for name in FORMATS} == {
        "png": (captions, comment),
        "jpeg": (clear, bits, texts, shape),
        "webp": (bits, captions, comment, texts, shape),
        "tiff": (comment, texts),
        "avif": (bits, captions, comment, texts, shape),
        "bmp": (clear, bits, "EXIF", "XMP", captions, comment, texts, shape),
        "ppm": (clear, bits, "EXIF", "XMP", captions, comment, texts, shape),
    }


def test_what_nobody_misses_is_not_named():
    opaque = Photo(RGB, np.full(RGB.shape[:2], 255, np.uint8))
    assert lost(opaque, "jpeg") == ()
    texts = (
        (b"tEXt", b"Software\0GIMP"),
        (b"tEXt", b"date:create\x002024"),
        (b"gAMA", struct.pack(">I", 45455)),
    )
    assert lost(Photo(RGB, None, Metadata(png=texts, comment=b"Created with GIMP")), "webp") == ()


def test_what_is_too_long_for_jpeg(tmp_path):
    metadata = Metadata(exif=exif_block() + bytes(70_000), xmp=bytes(70_000), iptc=bytes(70_000))
    expected = ("EXIF (too long for JPEG)", "XMP (too long for JPEG)", "captions (IPTC, too long for JPEG)")
    assert write_photo(tmp_path / "a.jpg", Photo(RGB, None, metadata)) == expected
    assert read_photo(tmp_path / "a.jpg").metadata[:4] == (b"", b"", b"", b"")
