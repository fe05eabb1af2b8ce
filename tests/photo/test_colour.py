"""Colours come out as they went in, whatever way a file says them in."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from wdsr_jax.errors import UserError
from wdsr_jax.photo import icc
from wdsr_jax.photo.formats import OUTPUT_FORMATS
from wdsr_jax.photo.metadata import Metadata
from wdsr_jax.photo.photos import Photo, encode_photo, read_photo

ROWS, COLUMNS = np.mgrid[:48, :64]
RGB = np.stack([COLUMNS * 4, ROWS * 5, 255 - COLUMNS * 2 - ROWS * 2], -1).astype(np.uint8)
P3_PRIMARIES = icc.Primaries(icc.D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
EXACT = ImageCms.Flags.NOOPTIMIZE  # else LittleCMS's curves for grey are up to 10 levels off
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
D65_SRGB = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


def png(pixels, *chunks):
    """A PNG with these chunks before its pixels."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    content = file.getvalue()
    extra = b""
    for kind, data in chunks:
        extra += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return content[:33] + extra + content[33:]


def avif(pixels, primaries, transfer, matrix=6):
    """An AVIF whose codes of colour are these."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "AVIF", quality=100, subsampling="4:4:4")
    before, box, after = file.getvalue().partition(b"colrnclx")
    assert after[:6] == struct.pack(">HHH", 1, 13, 6)
    return before + box + struct.pack(">HHH", primaries, transfer, matrix) + after[6:]


def read(content):
    return read_photo(io.BytesIO(content), "a")


def written(photo, image_format, **options):
    file = io.BytesIO()
    encode_photo(file, photo, format=image_format, **options)
    return file.getvalue()


def seen(content):
    """The pixels of a file as sRGB, by LittleCMS where it holds a profile."""
    with Image.open(io.BytesIO(content)) as image:
        profile = image.info.get("icc_profile")
        if not profile:
            return np.asarray(image.convert("RGB")).astype(int)
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return np.asarray(
            ImageCms.profileToProfile(image, source, SRGB, outputMode="RGB", flags=EXACT)
        ).astype(int)


def srgb_of(pixels, primaries, gamma=None):
    """Pixels of 8 bits as sRGB, by the formulas of CSS Color 4 and of H.273."""
    values = pixels / 255
    light = (
        values**gamma
        if gamma
        else np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    )

    def to_xyz(p):
        xyz = np.array([(x, y, 1 - x - y) for x, y in p[1:]]).T
        x, y = p.white
        return xyz * np.linalg.solve(xyz, [x / y, 1, (1 - x - y) / y])

    light = light @ (np.linalg.inv(to_xyz(icc.SRGB_PRIMARIES)) @ to_xyz(primaries)).T
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("output_format", OUTPUT_FORMATS)
def test_display_p3_of_avif_stays(output_format):
    content = avif(RGB, 12, 13)
    expected = srgb_of(RGB, P3_PRIMARIES)
    assert np.abs(expected - RGB).max() > 30
    again = written(read(content), output_format, quality=100)
    assert np.abs(seen(again) - expected).mean() < 3
    assert read(again).metadata.icc == read(content).metadata.icc != b""


@pytest.mark.parametrize("primaries, transfer", [(1, 13), (1, 1), (2, 2), (1, 6)])
def test_ordinary_avif_needs_no_profile(primaries, transfer):
    assert read(avif(RGB, primaries, transfer)).metadata.icc == b""


@pytest.mark.parametrize("output_format", ["bmp", "ppm"])
def test_formats_without_profiles_get_srgb(output_format):
    photo = Photo(RGB, None, Metadata(icc=icc.make_profile(P3_PRIMARIES, icc.SRGB_CURVE, "P3")))
    expected = srgb_of(RGB, P3_PRIMARIES)
    assert np.abs(seen(written(photo, output_format)) - expected).max() < 4
    deep = photo._replace(pixels=RGB.astype(np.uint16) * 257)
    assert np.abs(seen(written(deep, output_format)) - expected).max() < 4
    grey = Photo(RGB[..., :1], None, Metadata(icc=icc.make_profile(None, (1.0,), "linear")))
    expected = srgb_of(RGB[..., :1].repeat(3, -1), icc.SRGB_PRIMARIES, 1.0)
    assert np.abs(seen(written(grey, output_format)) - expected).max() < 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("output_format", [*OUTPUT_FORMATS, "bmp"])
def test_png_in_linear_light_looks_alike_everywhere(output_format, channels):
    pixels = RGB[..., 0] if channels == 1 else RGB
    content = png(pixels, (b"gAMA", struct.pack(">I", 100_000)))
    photo = read(content)
    expected = srgb_of(np.broadcast_to(photo.pixels, RGB.shape), icc.SRGB_PRIMARIES, 1.0)
    again = written(photo, output_format, quality=100)
    if output_format == "png":
        assert b"iCCP" not in again
        assert b"gAMA" + struct.pack(">I", 100_000) in again
        return
    assert np.abs(seen(again) - expected).mean() < 2
    with Image.open(io.BytesIO(again)) as image:
        assert ("icc_profile" in image.info) == (output_format == "tiff")  # 8 bits hold sRGB's curve instead


def test_16_bits_of_linear_light_become_8_of_srgb_by_the_formula():
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1).repeat(3, -1)
    linear = icc.make_profile(icc.SRGB_PRIMARIES, (1.0,), "linear")
    expected = srgb_of(every / 257, icc.SRGB_PRIMARIES, 1.0)
    assert (
        np.abs(seen(written(Photo(every, None, Metadata(icc=linear)), "jpeg", quality=100)) - expected).max()
        < 3
    )
    # Transparent pixels on white, after the conversion.
    clear = Photo(every, np.full((256, 256), 32768, np.uint16), Metadata(icc=linear))
    assert np.abs(seen(written(clear, "jpeg", quality=100)) - (expected + 255) / 2).max() < 4
    again = read(written(Photo(every, None, Metadata(icc=linear)), "tiff"))
    np.testing.assert_array_equal(again.pixels, every)
    assert again.metadata.icc == linear


@pytest.mark.parametrize("version", [2, 4])
def test_linear_wide_gamut_keeps_its_primaries_in_8_bits(version):
    profile = icc.make_profile(P3_PRIMARIES, (1.0,), "linear P3")
    profile = profile[:8] + bytes([version]) + profile[9:]
    content = written(Photo(RGB, None, Metadata(icc=profile)), "jpeg", quality=100)
    assert np.abs(seen(content) - srgb_of(RGB, P3_PRIMARIES, 1.0)).mean() < 2
    with Image.open(io.BytesIO(content)) as image:
        assert image.info["icc_profile"] != profile


def test_which_chunk_of_png_counts():
    gama, chrm = (
        struct.pack(">I", 100_000),
        struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000),
    )
    iccp = b"a\0\0" + zlib.compress(icc.make_profile(P3_PRIMARIES, (1.8,), "a"))
    p3 = bytes([12, 13, 0, 1])

    def at_half(*chunks):
        profile = read(png(RGB, *chunks)).metadata.icc
        return icc.light(profile, np.array([0.5]))[0].round(3) if profile else None

    assert at_half() is None
    assert at_half((b"gAMA", gama)) == 0.5
    assert at_half((b"gAMA", gama), (b"sRGB", b"\0")) is None
    assert at_half((b"gAMA", gama), (b"iCCP", iccp)) == pytest.approx(0.5**1.8, abs=1e-3)
    assert at_half((b"gAMA", gama), (b"iCCP", iccp), (b"cICP", p3)) == 0.214
    assert at_half((b"cHRM", chrm)) == 0.214
    assert at_half((b"gAMA", gama), (b"cHRM", chrm)) == 0.5
    # What programs write to stand for sRGB.
    assert at_half((b"gAMA", struct.pack(">I", 45455))) is None
    assert at_half((b"gAMA", struct.pack(">I", 45455)), (b"cHRM", struct.pack(">8I", *D65_SRGB))) is None
    assert at_half((b"gAMA", struct.pack(">I", 45455)), (b"cHRM", chrm)) == pytest.approx(0.5**2.2, abs=1e-3)
    # damage
    assert at_half((b"gAMA", b"\0\0\0\0")) is None
    assert at_half((b"cHRM", bytes(32))) is None
    assert at_half((b"cICP", b"\0")) is None


def test_what_png_says_of_colours_stays_in_png():
    chunks = [(b"cICP", bytes([12, 13, 0, 1])), (b"cHRM", struct.pack(">8I", *D65_SRGB))]
    again = written(read(png(RGB, *chunks)), "png")
    assert all(kind + data in again for kind, data in chunks)
    assert b"iCCP" not in again
    profile = icc.make_profile(P3_PRIMARIES, icc.SRGB_CURVE, "P3")
    content = png(RGB, (b"iCCP", b"a name\0\0" + zlib.compress(profile)), (b"gAMA", struct.pack(">I", 45455)))
    again = written(read(content), "png")
    assert again.count(b"iCCP") == again.count(b"gAMA") == 1
    with Image.open(io.BytesIO(again)) as image:
        assert image.info["icc_profile"] == profile
    # A grey image with a profile for RGB: the profile goes.
    assert b"iCCP" not in written(read(png(RGB[..., 0], (b"iCCP", b"a\0\0" + zlib.compress(profile)))), "png")


@pytest.mark.parametrize("transfer, words", [(16, r"HDR \(PQ\)"), (18, r"HDR \(HLG\)"), (9, "logarithmic")])
def test_hdr_is_refused_by_name(transfer, words):
    profile = icc.make_profile(P3_PRIMARIES, icc.SRGB_CURVE, "a")
    named = icc._tags(profile) | {b"cicp": b"cicp" + bytes(4) + bytes([9, transfer, 0, 1])}
    profile = icc._packed(profile, named)
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "JPEG", icc_profile=profile)
    for content in (
        avif(RGB, 9, transfer, 9),
        png(RGB, (b"cICP", bytes([9, transfer, 0, 1]))),
        png(RGB, (b"iCCP", b"a\0\0" + zlib.compress(profile))),
        file.getvalue(),
    ):
        with pytest.raises(UserError, match=rf"^a: {words} colours are not read; save it as SDR first$"):
            read(content)
    with pytest.raises(UserError, match=r"^a: narrow-range RGB is not read"):
        read(png(RGB, (b"cICP", bytes([1, 13, 0, 0]))))


def test_profiles_of_bmp_and_jpeg_2000():
    profile = icc.make_profile(P3_PRIMARIES, icc.SRGB_CURVE, "P3")
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "BMP")
    old = file.getvalue()
    header = struct.pack("<I", 124) + old[18:54]
    header += struct.pack("<4I4s", 0xFF0000, 0xFF00, 0xFF, 0, b"DEBM") + bytes(48)
    header += struct.pack("<4I", 4, 124 + len(old) - 54, len(profile), 0)
    content = b"BM" + struct.pack(
        "<III", 14 + len(header) + len(old) - 54 + len(profile), 0, 14 + len(header)
    )
    content += header + old[54:] + profile
    assert read(content).metadata.icc == profile
    np.testing.assert_array_equal(read(content).pixels, RGB)

    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "JPEG2000")
    old = file.getvalue()
    place = old.index(b"colr") - 4
    (size,) = struct.unpack_from(">I", old, place)
    colr = struct.pack(">I4sBBB", 11 + len(profile), b"colr", 2, 0, 0) + profile
    head = old.index(b"jp2h") - 4
    (length,) = struct.unpack_from(">I", old, head)
    content = old[:head] + struct.pack(">I", length + len(colr) - size) + old[head + 4 : place] + colr
    content += old[place + size :]
    assert read(content).metadata.icc == profile


def test_webp_without_loss_stays_so():
    rgba = np.dstack([RGB, COLUMNS * 4]).astype(np.uint8)
    for pixels in (RGB, rgba):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "WEBP", lossless=True, exact=True, xmp=b"<a/>")
        photo = read(file.getvalue())
        assert photo.metadata.lossless
        again = read(written(photo, "webp"))
        np.testing.assert_array_equal(again.pixels, photo.pixels)  # hidden colours as well
        assert b"VP8L" in written(photo, "webp")
        assert b"VP8L" not in written(photo, "webp", quality=80)
    file = io.BytesIO()
    Image.fromarray(rgba).save(file, "WEBP", quality=90)
    assert not read(file.getvalue()).metadata.lossless
    assert b"VP8 " in written(read(file.getvalue()), "webp")
