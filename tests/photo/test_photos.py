"""Photographs as people have them: turned, grey, transparent, 16 bits, CMYK, damaged; and written back."""

import io
import os
import resource
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from wdsr_jax.errors import UserError
from wdsr_jax.image.pixels import to_uint8
from wdsr_jax.photo.exif import clean_exif
from wdsr_jax.photo.formats import OUTPUT_FORMATS, check_size, format_of
from wdsr_jax.photo.metadata import Metadata
from wdsr_jax.photo.photos import Photo, encode_photo, read_photo, write_photo
from wdsr_jax.photo.png import write_png

RNG = np.random.default_rng(0)
ROWS, COLUMNS = np.mgrid[:24, :40]
# Smooth, so that lossy formats stay near; every corner differs from the others.
RGB = np.stack([COLUMNS * 6, ROWS * 10, 255 - COLUMNS * 3 - ROWS * 4], -1).astype(np.uint8)  # (24, 40, 3)
ALPHA = np.clip(COLUMNS * 9 - 40, 0, 255).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (24, 40, 4), dtype=np.uint16)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a exif:PixelXDimension="7" b="kept"/></x:xmpmeta>'


def grey_profile(gamma):
    """An ICC profile of one channel with a power curve (ICC.1:2001-04, sections 6.1, 6.2 and 6.5)."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    description = b"desc" + bytes(4) + struct.pack(">I", 5) + b"grey\0" + bytes(78)
    offset = 128 + 4 + 3 * 12
    table, body = struct.pack(">I", 3), b""
    for name, data in ((b"desc", description), (b"wtpt", white), (b"kTRC", curve)):
        table += struct.pack(">4sII", name, offset + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = (
        struct.pack(">I", offset + len(body))
        + b"lcms"
        + b"\2\x10\0\0"
        + b"mntrGRAYXYZ "
        + bytes(12)
        + b"acsp"
    )
    head = head.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + body


def exif_block(order="<", orientation=6):
    """EXIF of a camera: a maker's note that holds an absolute offset, GPS, a thumbnail."""
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F] = "Maker"
    exif[0x0112] = orientation
    exif[0x0100] = 5
    photograph = exif.get_ifd(0x8769)
    photograph[0x927C] = b"NOTE\0\1\2\3"
    photograph[0xA002] = 11
    photograph[0xA003] = 7
    photograph[0x829A] = 0.01
    place = exif.get_ifd(0x8825)
    place[1], place[2] = "N", (48.0, 8.0, 0.25)
    block = bytearray(exif.tobytes()[6:])
    thumbnail = len(block)
    start = struct.unpack_from(order + "I", block, 4)[0]
    count = struct.unpack_from(order + "H", block, start)[0]
    struct.pack_into(order + "I", block, start + 2 + 12 * count, thumbnail)
    entries = [(0x0201, 4, 1, thumbnail + 30), (0x0202, 4, 1, 9)]
    block += (
        struct.pack(order + "H", 2) + b"".join(struct.pack(order + "HHII", *e) for e in entries) + bytes(4)
    )
    return bytes(block) + b"THUMBNAIL"


def encoded(image, image_format, **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def read(content):
    return read_photo(io.BytesIO(content), "a")


def written(photo, image_format, **options):
    file = io.BytesIO()
    encode_photo(file, photo, format=image_format, **options)
    return file.getvalue()


def with_alpha(photo):
    """Pixels and alpha as one array (H, W, C)."""
    assert photo.pixels.flags.c_contiguous
    if photo.alpha is None:
        return photo.pixels
    assert photo.alpha.dtype == photo.pixels.dtype
    return np.concatenate([photo.pixels, photo.alpha[..., None]], -1)


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels, interlaced=False, extra=()):
    """PNG without filters, written from the specification."""
    height, width, channels = pixels.shape
    passes = [
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ]
    rows = b""
    for x, y, across, down in passes if interlaced else [(0, 0, 1, 1)]:
        for row in pixels[y::down, x::across]:
            rows += b"\0" + row.astype(f">u{pixels.itemsize}").tobytes() if row.size else b""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, kind, 0, 0, interlaced)
    chunks = [(b"IHDR", head), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def png_pixels(content):
    """Decodes a PNG that is not interlaced, by the specification; checks every checksum."""
    position, data, head = 8, b"", None
    while position < len(content):
        (length,) = struct.unpack_from(">I", content, position)
        kind, body = content[position + 4 : position + 8], content[position + 8 : position + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack_from(">I", content, position + 8 + length)[0]
        position += 12 + length
        head = struct.unpack(">IIBBBBB", body) if kind == b"IHDR" else head
        data += body if kind == b"IDAT" else b""
    assert kind == b"IEND"
    width, height, depth, colour = head[:4]
    pixel = {0: 1, 4: 2, 2: 3, 6: 4}[colour] * depth // 8
    raw = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, 1 + width * pixel).astype(int)
    out = np.zeros((height + 1, (width + 1) * pixel), int)
    for y in range(height):
        for x in range(pixel, (width + 1) * pixel):
            a, b, c = out[y + 1, x - pixel], out[y, x], out[y, x - pixel]
            p = a + b - c
            paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            predicted = [0, a, b, (a + b) // 2, paeth][raw[y, 0]]
            out[y + 1, x] = (raw[y, 1 + x - pixel] + predicted) % 256
    bytes_ = out[1:, pixel:].astype(np.uint8)
    return bytes_.view(f">u{depth // 8}").reshape(height, width, -1).astype(f"u{depth // 8}")


# Upright


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(image_format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if image_format == "WEBP" else {"quality": 100}
    content = encoded(RGB, image_format, exif=exif, **options)
    photo = read(content)
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(photo.pixels, expected)
    assert photo.pixels.shape == ((40, 24, 3) if orientation > 4 else (24, 40, 3))
    for output_format in OUTPUT_FORMATS:
        again = read(written(photo, output_format, quality=100))
        assert np.abs(again.pixels.astype(int) - expected).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_16_bits(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(RGB, "PNG", exif=exif)))))
    deep = RGB.astype(np.uint16) * 257
    contents = [png(deep, extra=[(b"eXIf", exif.tobytes()[6:])])]
    for planar in ("contig", "separate"):
        file = io.BytesIO()
        data = deep if planar == "contig" else np.moveaxis(deep, -1, 0)
        packet = b'<a tiff:Orientation="%d"/>' % orientation  # says it twice
        extratags = [(0x0112, 3, 1, orientation, True), (700, 1, len(packet), packet, True)]
        tifffile.imwrite(file, data, photometric="rgb", planarconfig=planar, extratags=extratags)
        contents.append(file.getvalue())
    for content in contents:
        np.testing.assert_array_equal(read(content).pixels, expected.astype(np.uint16) * 257)


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


# Metadata


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


# Kinds of pixels


def test_grey_stays_grey_with_its_profile():
    profile = grey_profile(1.8)
    for input_format in ("PNG", "JPEG", "TIFF"):
        photo = read(encoded(RGB[..., 0], input_format, icc_profile=profile, quality=100))
        assert photo.pixels.shape == (24, 40, 1)
        assert photo.metadata.icc == profile
        for output_format in ("png", "jpeg", "tiff", "avif"):
            with Image.open(io.BytesIO(written(photo, output_format))) as image:
                assert image.mode == "L" or output_format == "avif"
                assert image.info["icc_profile"] == profile
    # WebP has no grey: the profile is applied. 1.8 is brighter than sRGB's about 2.2.
    with Image.open(
        io.BytesIO(written(photo._replace(pixels=np.full_like(photo.pixels, 128)), "webp"))
    ) as image:
        assert "icc_profile" not in image.info
        linear = (128 / 255) ** 1.8
        assert image.getpixel((9, 9))[1] == pytest.approx(255 * (1.055 * linear ** (1 / 2.4) - 0.055), abs=2)


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_kept_straight(image_format):
    rgba = np.concatenate([RGB, ALPHA[..., None]], -1)
    photo = read(encoded(rgba, image_format, lossless=True, exact=True))
    np.testing.assert_array_equal(with_alpha(photo), rgba)
    for output_format in ("png", "tiff"):
        np.testing.assert_array_equal(with_alpha(read(written(photo, output_format))), rgba)
    for output_format in ("webp", "avif"):
        again = read(written(photo, output_format, quality=100))
        assert np.abs(again.alpha.astype(int) - ALPHA).max() <= 2


def test_grey_with_alpha():
    la = np.stack([RGB[..., 0], ALPHA], -1)
    for image_format in ("PNG", "TIFF"):
        photo = read(encoded(la, image_format))
        assert photo.pixels.shape == (24, 40, 1)
        np.testing.assert_array_equal(with_alpha(photo), la)
        for output_format in ("png", "tiff"):
            np.testing.assert_array_equal(with_alpha(read(written(photo, output_format))), la)


def test_formats_without_alpha_show_it_on_white():
    photo = Photo(RGB, ALPHA)
    white = Image.new("RGBA", (40, 24), "white")
    white.alpha_composite(Image.fromarray(np.concatenate([RGB, ALPHA[..., None]], -1)))
    expected = np.asarray(white)[..., :3].astype(int)
    for output_format, near in (("bmp", 1), ("ppm", 1), ("jpeg", 16)):
        pixels = read(written(photo, output_format, quality=100)).pixels
        assert np.abs(pixels - expected).max() <= near
    deep = Photo(RGB.astype(np.uint16) * 257, ALPHA.astype(np.uint16) * 257)
    assert np.abs(read(written(deep, "bmp")).pixels - expected).max() <= 1


def test_palettes():
    few = RGB // 128 * 255
    palette = Image.fromarray(few).quantize(8)
    for image_format in ("PNG", "GIF", "TIFF", "BMP"):
        photo = read(encoded(palette, image_format))
        np.testing.assert_array_equal(photo.pixels, few)
        assert photo.alpha is None
    index = palette.getpixel((0, 0))
    clear = np.asarray(palette) == index
    for image_format in ("PNG", "GIF"):
        photo = read(encoded(palette, image_format, transparency=index))
        np.testing.assert_array_equal(photo.pixels[~clear], few[~clear])
        np.testing.assert_array_equal(photo.alpha, np.where(clear, 0, 255))
    photo = read(encoded(palette, "PNG", transparency=bytes(range(10, 90, 10))))
    np.testing.assert_array_equal(photo.alpha, 10 + 10 * np.asarray(palette))


def test_transparent_colour_of_png():
    grey = RGB[..., :1].copy()
    for pixels in (grey, RGB, grey.astype(np.uint16) * 7, RGB.astype(np.uint16) * 7):
        key = pixels[5, 5]
        content = png(pixels, extra=[(b"tRNS", key.astype(">u2").tobytes())])
        photo = read(content)
        np.testing.assert_array_equal(photo.pixels, pixels)
        most = np.iinfo(pixels.dtype).max
        np.testing.assert_array_equal(photo.alpha, np.where((pixels == key).all(-1), 0, most))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_greys_of_few_bits(bits):
    values = np.arange(2**bits, dtype=np.uint8)
    row = np.packbits((values[:, None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8).ravel()).tobytes()
    head = struct.pack(">IIBBBBB", len(values), 1, bits, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"tRNS", b"\0\1"), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    photo = read(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks))
    np.testing.assert_array_equal(photo.pixels[0, :, 0], np.round(values * (255 / (2**bits - 1))))
    np.testing.assert_array_equal(photo.alpha[0], np.where(values == 1, 0, 255))


def test_cmyk_without_a_profile():
    for ink, colour in {(0, 0, 0, 0): (255, 255, 255), (0, 255, 255, 0): (255, 0, 0)}.items():
        photo = read(encoded(Image.new("CMYK", (16, 16), ink), "JPEG", quality=100))  # with Adobe's inversion
        assert np.abs(photo.pixels.astype(int) - colour).max() <= 3
        photo = read(encoded(Image.new("CMYK", (16, 16), ink), "TIFF"))
        np.testing.assert_array_equal(photo.pixels, np.full((16, 16, 3), colour))


def cmyk_profile():
    """An ICC profile of a device whose Lab is L = 100 (1 - K), a = b = 0, by a table of 2 points an ink."""
    grid = np.zeros((2, 2, 2, 2, 3), np.uint8)
    grid[..., 0, 0] = 255
    grid[..., 1:] = 128
    identity = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0])
    table += struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table += identity * 4 + grid.tobytes() + identity * 3
    description = b"desc" + bytes(4) + struct.pack(">I", 5) + b"inks\0" + bytes(78)
    offset, names, body = 128 + 4 + 4 * 12, b"", b""
    for name, data in ((b"desc", description), (b"A2B0", table), (b"A2B1", table), (b"A2B2", table)):
        names += struct.pack(">4sII", name, offset + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I", offset + len(body)) + b"lcms\2\x10\0\0prtrCMYKLab " + bytes(12) + b"acsp"
    head = head.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", 4) + names + body


def test_cmyk_is_converted_by_its_profile():
    for image_format in ("JPEG", "TIFF"):
        levels = []
        for ink in ((255, 0, 0, 0), (0, 255, 0, 128), (0, 0, 0, 255)):  # by this profile only black ink shows
            image = Image.new("CMYK", (16, 16), ink)
            photo = read(encoded(image, image_format, icc_profile=cmyk_profile(), quality=100))
            assert photo.metadata.icc == b""  # no longer right
            assert np.ptp(photo.pixels.astype(int).reshape(-1, 3), axis=-1).max() <= 2
            levels.append(int(photo.pixels.mean()))
        assert levels[0] > 250
        assert levels[1] == pytest.approx(119, abs=6)  # L = 50
        assert levels[2] < 6
    photo = read(encoded(Image.new("CMYK", (16, 16)), "TIFF", icc_profile=cmyk_profile()[:300]))
    assert photo.pixels.min() == 255  # a damaged profile: as if without


def test_lab_and_ycbcr_tiff():
    # sRGB's red is L = 53.24, a = 80.09, b = 67.20
    lab = Image.merge("LAB", [Image.new("L", (8, 8), value) for value in (136, 128 + 80, 128 + 67)])
    assert np.abs(read(encoded(lab, "TIFF")).pixels.astype(int) - (255, 0, 0)).max() <= 12
    content = encoded(Image.fromarray(RGB).convert("YCbCr"), "TIFF", compression="tiff_lzw")
    assert np.abs(read(content).pixels.astype(int) - RGB).max() <= 4
    content = encoded(RGB, "TIFF", compression="jpeg", quality=100)
    assert np.abs(read(content).pixels.astype(int) - RGB).mean() < 3


# 16 bits


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("interlaced", [False, True])
def test_16_bit_png_is_read(channels, interlaced):
    pixels = DEEP[..., :channels]
    photo = read(png(pixels, interlaced))
    assert photo.pixels.dtype == np.uint16
    np.testing.assert_array_equal(with_alpha(photo), pixels)


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


def test_16_bit_tiff_of_other_kinds():
    file = io.BytesIO()
    tifffile.imwrite(file, DEEP[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(read(file.getvalue()).pixels[..., 0], 65535 - DEEP[..., 0])

    alpha = DEEP[..., 3:] | 0x8000  # so that little is lost
    colours = (DEEP[..., :3].astype(np.float64) * alpha / 65535).round().astype(np.uint16)
    file = io.BytesIO()
    premultiplied = np.concatenate([colours, alpha], -1)
    tifffile.imwrite(file, premultiplied, photometric="rgb", extrasamples=["assocalpha"])
    photo = read(file.getvalue())
    np.testing.assert_array_equal(photo.alpha, alpha[..., 0])
    assert np.abs(photo.pixels.astype(int) - DEEP[..., :3]).max() <= 1

    file = io.BytesIO()
    tifffile.imwrite(file, DEEP[..., :3], photometric="rgb", bigtiff=True)
    np.testing.assert_array_equal(read(file.getvalue()).pixels, DEEP[..., :3])


@settings(deadline=None, max_examples=25)
@given(
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.sampled_from([1, 3]),
    st.booleans(),
    st.sampled_from([np.uint8, np.uint16]),
    st.integers(0, 2**32 - 1),
)
def test_png_and_tiff_are_lossless(size, channels, alpha, dtype, seed):
    rng = np.random.default_rng(seed)
    most = np.iinfo(dtype).max + 1
    pixels = rng.integers(0, most, (*size, channels), dtype=dtype)
    photo = Photo(pixels, rng.integers(0, most, size, dtype=dtype) if alpha else None)
    expected = with_alpha(photo)
    content = written(photo, "png")
    np.testing.assert_array_equal(png_pixels(content), expected)
    np.testing.assert_array_equal(with_alpha(read(content)), expected)
    content = written(photo, "tiff")
    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        np.testing.assert_array_equal(tiff.asarray().reshape(expected.shape), expected)
    np.testing.assert_array_equal(with_alpha(read(content)), expected)


def test_many_blocks():
    noise = RNG.integers(0, 256, (1500, 1000, 3), dtype=np.uint8)  # 4.5 MB: blocks in several threads
    for output_format in ("png", "tiff"):
        with Image.open(io.BytesIO(written(Photo(noise), output_format))) as image:
            np.testing.assert_array_equal(np.asarray(image), noise)


def test_16_bits_become_8_by_rounding():
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    expected = to_uint8(every.astype(np.float64) / 65535)
    np.testing.assert_array_equal(read(written(Photo(every), "bmp")).pixels, expected)
    for output_format in ("jpeg", "webp", "avif"):
        assert read(written(Photo(every), output_format)).pixels.dtype == np.uint8


# More than one picture


def test_animations_are_refused_by_the_number_of_frames(tmp_path):
    frames = [Image.fromarray(np.roll(RGB, 4 * shift, 1)) for shift in range(3)]
    for suffix in ("gif", "png", "webp", "avif"):
        path = tmp_path / f"clip.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=40)
        with pytest.raises(UserError, match=rf"^{path}: 3 frames; animations are not enlarged"):
            read_photo(path)
    path = tmp_path / "clip.tif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match=rf"^{path}: 3 pages; save the page you want"):
        read_photo(path)


def test_the_second_picture_of_a_phone_is_left_out():
    small = Image.fromarray(RGB[::2, ::2])
    content = encoded(RGB, "MPO", save_all=True, append_images=[small], quality=100)
    with Image.open(io.BytesIO(content)) as image:
        assert image.n_frames == 2
    photo = read(content)
    assert photo.pixels.shape == RGB.shape
    assert np.abs(photo.pixels.astype(int) - RGB).mean() < 3


@pytest.mark.parametrize("reduced_first", [False, True])
def test_thumbnails_in_tiff_are_left_out(reduced_first):
    file = io.BytesIO()
    pages = [(DEEP[..., :3], 0), (DEEP[::2, ::2, :3], 1), (DEEP[::4, ::4, 0], 1)]
    with tifffile.TiffWriter(file) as tiff:
        for page, kind in pages[1:] + pages[:1] if reduced_first else pages:
            tiff.write(page, subfiletype=kind, photometric="rgb" if page.ndim == 3 else "minisblack")
    np.testing.assert_array_equal(read(file.getvalue()).pixels, DEEP[..., :3])


def test_camera_raw_is_not_taken_for_its_thumbnail():
    file = io.BytesIO()
    tifffile.imwrite(file, RGB, subfiletype=1, photometric="rgb")
    with pytest.raises(UserError, match="camera raw is not read"):
        read(file.getvalue())


# Bad input


def test_what_is_no_photograph(tmp_path):
    contents = {
        "empty.jpg": (b"", "the file is empty"),
        "text.jpg": (b"not an image\n", "not an image"),
        "clip.jpg": (b"\0\0\0\x18ftypisom" + bytes(20), "not an image but a video"),
        "light.exr": (b"\x76\x2f\x31\x01" + bytes(20), "OpenEXR is not read"),
    }
    for name, (content, words) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"^{tmp_path / name}: {words}"):
            read_photo(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.jpg")
    reasons = {
        "missing.jpg": "No such file or directory",
        "": "Is a directory",
        "pipe.jpg": "not a regular file",
    }
    for name, words in reasons.items():
        with pytest.raises(UserError) as raised:
            read_photo(tmp_path / name)
        assert str(raised.value) == f"{tmp_path / name}: cannot be read ({words})"
    with pytest.raises(UserError, match=r"^/dev/zero: cannot be read"):
        read_photo("/dev/zero")


def test_a_wrong_ending_does_not_matter(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(RGB, "PNG"))
    np.testing.assert_array_equal(read_photo(str(tmp_path / "a.jpg")).pixels, RGB)


@pytest.mark.parametrize(
    "dtype, words",
    [
        (np.float32, "floating-point pixels"),
        (np.float64, "floating-point pixels"),
        (np.float16, "floating-point pixels"),
        (np.uint32, "32-bit"),
        (np.int32, "32-bit"),
        (np.int16, "signed"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_tiff_of_numbers_that_are_no_colours(dtype, words, channels):
    file = io.BytesIO()
    data = np.ones((24, 40, channels), dtype)
    tifffile.imwrite(file, data.squeeze(), photometric="rgb" if channels == 3 else "minisblack")
    with pytest.raises(UserError, match=f"^a: .*{words}.*; save it with 8 or 16 bits$"):
        read(file.getvalue())


def test_decompression_bomb_is_refused_before_memory_is_spent():
    side = 2**15
    heads = {
        "PNG": b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 16, 6, 0, 0, 0))
        + png_chunk(b"IDAT", zlib.compress(bytes(1000))),
        "BMP": encoded(RGB, "BMP").replace(struct.pack("<II", 40, 24), struct.pack("<II", side, side)),
        "PPM": b"P6 %d %d 65535 " % (side, side),
    }
    file = io.BytesIO()
    rows = np.zeros((16, side, 2), np.uint16)
    tifffile.imwrite(file, rows, photometric="minisblack", planarconfig="contig", compression="zlib")
    heights = [struct.pack("<HHII", 257, 4, 1, height) for height in (16, side)]
    heads["TIFF"] = file.getvalue().replace(*heights)
    assert heights[1] in heads["TIFF"]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for content in heads.values():
        with pytest.raises(UserError, match=r"^a: more than 178 megapixels, or damaged; not read$"):
            read(content)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


def test_a_tiff_of_fewer_rows_than_it_says():
    content = bytearray(encoded(RGB, "TIFF"))
    height = RGB.shape[0]
    entry = struct.pack("<HHL", 257, 4, 1) + struct.pack("<L", height)
    assert content.count(entry) == 1
    read(bytes(content))
    more = entry[:-4] + struct.pack("<L", 1000 * height)
    with pytest.raises(UserError, match=r"^a: cannot be read \(strips are missing\)$"):
        read(bytes(content.replace(entry, more)))


def test_truncated_files(tmp_path):
    photo = Photo(DEEP[..., :3], DEEP[..., 3])
    contents = [written(photo, name) for name in ("png", "tiff")]
    contents += [
        encoded(RGB.repeat(8, 0), name)
        for name in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")
    ]
    for content in contents:
        for length in (1, 9, len(content) // 2, len(content) - len(content) // 8):
            with pytest.raises(UserError) as raised:
                read(content[:length])
            assert str(raised.value).startswith("a: ")
            assert "\n" not in str(raised.value)


@settings(deadline=None, max_examples=80)
@given(
    st.sampled_from(["png", "jpeg", "webp", "tiff", "avif"]),
    st.booleans(),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=5),
)
def test_random_damage_is_never_a_traceback(image_format, deep, changes):
    pixels = DEEP[..., :3] if deep else RGB
    metadata = Metadata(exif=clean_exif(exif_block()), icc=SRGB, xmp=XMP, dpi=(72, 72))
    content = bytearray(written(Photo(pixels, pixels[..., 0], metadata), image_format))
    for position, value in changes:
        content[int(position * len(content))] = value
    try:
        photo = read(bytes(content))
    except UserError:
        return
    assert photo.pixels.dtype in (np.uint8, np.uint16)
    for output_format in ("png", "tiff", "jpeg"):
        written(photo, output_format)


def test_nothing_on_stderr(tmp_path, capfd):
    content = encoded(RGB, "TIFF", compression="tiff_lzw")
    (tmp_path / "a.tif").write_bytes(content[:100] + bytes(400) + content[500:])
    Image.new("1", (9500, 9500)).save(tmp_path / "large.png")  # 90 megapixels, of which Pillow would warn
    (tmp_path / "exif.jpg").write_bytes(encoded(RGB, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(UserError, match=r"a\.tif: cannot be read \(damaged or cut short\)$"):
            read_photo(tmp_path / "a.tif")
        assert read_photo(tmp_path / "large.png").pixels.shape == (9500, 9500, 1)
        read_photo(tmp_path / "exif.jpg")
    assert not caught
    assert capfd.readouterr() == ("", "")


# Pipes


def test_pipes(tmp_path):
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *_):
            raise OSError("a pipe")

        def tell(self):
            raise OSError("a pipe")

    photo = Photo(DEEP[..., :3], DEEP[..., 3], Metadata(icc=SRGB))
    for output_format in OUTPUT_FORMATS:
        pipe = Pipe()
        encode_photo(pipe, photo, format=output_format)
        assert pipe.getvalue() == written(photo, output_format)
        again = read_photo(Pipe(pipe.getvalue()), "-")
        assert again.pixels.shape == (24, 40, 3)
    with pytest.raises(UserError, match=r"^-: not an image$"):
        read_photo(Pipe(b"text"), "-")
    pipe.close()
    with pytest.raises(UserError, match=r"^-: cannot be written"):
        encode_photo(pipe, photo, format="png")


# Writing


def test_formats_by_ending(tmp_path):
    for name in ("a.png", "a.JPG", "a.jpeg", "a.webp", "a.tif", "a.TIFF", "a.avif", "a.bmp", "a.ppm"):
        write_photo(tmp_path / name, Photo(RGB))
        assert read_photo(tmp_path / name).pixels.shape == RGB.shape
    assert [format_of(f"a{suffix}") for suffix in OUTPUT_FORMATS.values()] == list(OUTPUT_FORMATS)
    for name in ("a", "a.txt", "a.gif"):
        with pytest.raises(UserError, match="no image format that can be written ends in"):
            write_photo(tmp_path / name, Photo(RGB))


def test_quality():
    sizes = [
        len(written(Photo(RGB), name, quality=quality)) for name in ("jpeg", "webp") for quality in (30, 95)
    ]
    assert sizes[0] < sizes[1]
    assert sizes[2] < sizes[3]


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


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif", ".bmp"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"old")
    noise = RNG.integers(0, 256, (300, 300, 3), dtype=np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = len(written(Photo(noise), format_of(path)))
    # As a full disk; in the middle, and where only the last bytes do not fit.
    for limit in (10_000, size - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(UserError, match=rf"^{path}: cannot be written \(File too large\)$"):
                write_photo(path, Photo(noise))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == b"old"
        assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_where_no_file_can_be(tmp_path):
    with pytest.raises(UserError, match=r"cannot be written \(No such file or directory\)"):
        write_photo(tmp_path / "missing" / "a.png", Photo(RGB))
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UserError, match=r"cannot be written \(Is a directory\)"):
        write_photo(tmp_path / "a.png", Photo(RGB))
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("wdsr_jax.photo.png._filtered", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_photo(tmp_path / "a.png", Photo(RGB))
    assert not list(tmp_path.iterdir())


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


def test_png_writer_takes_a_single_pixel():
    file = io.BytesIO()
    write_png(file, np.full((1, 1, 1), 65535, np.uint16), None)
    assert png_pixels(file.getvalue()).tolist() == [[[65535]]]
