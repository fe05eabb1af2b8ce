"""Pixels of every kind: palettes, few bits, transparent colours, CMYK, Lab, 16 bits."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.photo.samples import DEEP, RGB, encoded, png, png_chunk, read, with_alpha
from wdsr_jax.errors import UserError


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


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("interlaced", [False, True])
def test_16_bit_png_is_read(channels, interlaced):
    pixels = DEEP[..., :channels]
    photo = read(png(pixels, interlaced))
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
