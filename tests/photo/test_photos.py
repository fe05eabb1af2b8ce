"""Photographs as people have them: turned, grey, transparent, 16 bits, CMYK, damaged; and written back."""

import io
import os
import resource
import struct
import warnings
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tests.photo.samples import (
    ALPHA,
    DEEP,
    RGB,
    SRGB,
    XMP,
    encoded,
    exif_block,
    png,
    png_chunk,
    read,
    with_alpha,
    written,
)
from wdsr_jax.errors import UserError
from wdsr_jax.image.pixels import to_uint8
from wdsr_jax.photo.exif import clean_exif
from wdsr_jax.photo.formats import OUTPUT_FORMATS, format_of
from wdsr_jax.photo.metadata import Metadata
from wdsr_jax.photo.photos import Photo, encode_photo, read_photo, write_photo


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


def test_quality():
    sizes = [
        len(written(Photo(RGB), name, quality=quality)) for name in ("jpeg", "webp") for quality in (30, 95)
    ]
    assert sizes[0] < sizes[1]
    assert sizes[2] < sizes[3]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif", ".bmp"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"old")
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
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
