"""HEIC and JPEG XL, where their plug-ins are installed; without them a line that says what to install."""

import io
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageCms

from wdsr_jax.errors import UserError
from wdsr_jax.image.files import image_size, read_image
from wdsr_jax.image.plugins import JxlHeader, read_jxl_header
from wdsr_jax.photo.photos import Photo, read_photo, write_photo

ROWS, COLUMNS = np.mgrid[:48, :64]
RGB = np.stack([COLUMNS * 4, ROWS * 5, 255 - COLUMNS * 2 - ROWS * 2], -1).astype(np.uint8)
DEEP = np.stack([COLUMNS * 1000, ROWS * 1300, 65535 - COLUMNS * 500 - ROWS * 500], -1).astype(np.uint16)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif(orientation):
    block = Image.Exif()
    block[0x0112], block[0x010F] = orientation, "Maker"
    block.get_ifd(0x8769)[0xA214] = (10, 4)
    return block.tobytes()


def heic(pixels, **options):
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    if pixels.dtype == np.uint8:
        pillow_heif.from_pillow(Image.fromarray(pixels)).save(file, quality=95, chroma=444, **options)
    else:
        mode = {2: "L;16", 3: "RGB;16"}[pixels.ndim]
        image = pillow_heif.from_bytes(mode, pixels.shape[1::-1], pixels.tobytes())
        image.save(file, quality=-1, **options)
    return file.getvalue()


def jxl(pixels, **options):
    pytest.importorskip("pillow_jxl")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JXL", lossless=True, **options)
    return file.getvalue()


def read(content):
    return read_photo(io.BytesIO(content), "a")


def test_heic():
    photo = read(heic(RGB, exif=exif(1), icc_profile=SRGB))
    assert np.abs(photo.pixels.astype(int) - RGB).mean() < 3
    assert photo.metadata.icc == SRGB
    assert b"Maker\0" in photo.metadata.exif
    assert photo.lost == ()
    assert np.abs(read_image(io.BytesIO(heic(RGB))).astype(int) - RGB).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_turned_once(orientation):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    stored = Image.fromarray(RGB)
    file = io.BytesIO()
    stored.save(file, "HEIF", quality=95, exif=exif(orientation))  # the plug-in writes irot and imir
    png = io.BytesIO()
    stored.save(png, "PNG", exif=exif(orientation))
    photo, expected = read(file.getvalue()), read(png.getvalue())
    assert np.abs(photo.pixels.astype(int) - expected.pixels).mean() < 3
    assert photo.metadata.exif == expected.metadata.exif  # the subject is turned as well


def test_heic_of_10_bits():
    photo = read(heic(DEEP))
    assert photo.pixels.dtype == np.uint16
    assert np.abs(photo.pixels.astype(int) - DEEP).mean() < 600  # 10 bits have steps of 64
    assert len(np.unique(photo.pixels)) > 400
    assert read(heic(np.full((16, 16, 3), 65535, np.uint16))).pixels.max() == 65535
    grey = read(heic(DEEP[..., 0]))
    assert grey.pixels.shape == (48, 64, 1)
    assert np.abs(grey.pixels[..., 0].astype(int) - DEEP[..., 0]).mean() < 300


def test_colours_of_heic():
    codes = {"color_primaries": 12, "transfer_characteristics": 13, "matrix_coefficients": 6}
    photo = read(heic(RGB, save_nclx_profile=True, **codes))
    assert b"D\0i\0s\0p\0l\0a\0y\0 \0P\x003" in photo.metadata.icc
    codes |= {"color_primaries": 9, "transfer_characteristics": 16}
    with pytest.raises(UserError, match=r"^a: HDR \(PQ\) colours are not read; save it as SDR first$"):
        read(heic(DEEP, save_nclx_profile=True, **codes))


def test_a_heic_that_only_says_that_it_is_heif():
    content = heic(RGB)
    assert content[8:12] in (b"heic", b"heix")
    assert read(content[:8] + b"mif1" + content[12:]).pixels.shape == RGB.shape


def test_several_pictures_in_a_heic():
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pictures = pillow_heif.from_pillow(Image.fromarray(RGB))
    pictures.add_from_pillow(Image.fromarray(RGB[::2, ::2]))
    pictures.save(file, quality=95)
    photo = read(file.getvalue())
    assert photo.pixels.shape == RGB.shape
    assert photo.lost == ("1 other picture",)


def test_jpeg_xl():
    photo = read(jxl(RGB))
    np.testing.assert_array_equal(photo.pixels, RGB)
    assert photo.lost == ()
    content = jxl(RGB, exif=exif(1), xmp=b"<a/>", use_container=True)
    photo = read(content)
    assert b"Maker\0" in photo.metadata.exif
    assert photo.metadata.xmp == b"<a/>"
    np.testing.assert_array_equal(read(jxl(DEEP[..., 0])).pixels[..., 0], DEEP[..., 0])


@pytest.mark.skipif(not shutil.which("cjxl"), reason="cjxl is not installed")
@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("options", [["--lossless_jpeg=1"], ["--lossless_jpeg=0", "-d", "1"]])
def test_jpeg_xl_of_a_jpeg(tmp_path, orientation, options):
    pytest.importorskip("pillow_jxl")
    Image.fromarray(RGB).save(tmp_path / "a.jpg", quality=95, exif=exif(orientation))
    command = ["cjxl", *options, "a.jpg", "a.jxl"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    photo, expected = read_photo(tmp_path / "a.jxl"), read_photo(tmp_path / "a.jpg")
    assert np.abs(photo.pixels.astype(int) - expected.pixels).mean() < 4
    if "--lossless_jpeg=1" in options:  # else older ones of cjxl leave EXIF out
        assert photo.metadata.exif == expected.metadata.exif


@pytest.mark.skipif(not shutil.which("cjxl"), reason="cjxl is not installed")
@pytest.mark.parametrize("size", [(48, 64), (7, 9), (300, 200), (30, 60), (8, 600)])
@pytest.mark.parametrize("bits", [8, 16])
def test_header_of_jpeg_xl(tmp_path, size, bits):
    pytest.importorskip("pillow_jxl")
    write_photo(tmp_path / "a.png", Photo(np.zeros((*size, 3), np.uint8 if bits == 8 else np.uint16)))
    for options in (["-d", "0"], ["-d", "1"], ["-d", "0", "--container=1"]):
        subprocess.run(["cjxl", *options, "a.png", "a.jxl"], cwd=tmp_path, check=True, capture_output=True)
        with open(tmp_path / "a.jxl", "rb") as file:
            assert read_jxl_header(file) == JxlHeader(size[1], size[0], bits)
        assert read_photo(tmp_path / "a.jxl").lost == (("16 bits (read as 8)",) if bits == 16 else ())


def test_a_bomb_of_jpeg_xl_is_refused_before_it_is_decoded():
    pytest.importorskip("pillow_jxl")
    # Not by 8; 30 bits for the height, 2^20; no ratio; 30 bits for the width, 2^20.
    bits = 0 | 3 << 1 | (2**20 - 1) << 3 | 0 << 33 | 3 << 36 | (2**20 - 1) << 38
    content = b"\xff\x0a" + bits.to_bytes(20, "little")
    assert read_jxl_header(io.BytesIO(content))[:2] == (2**20, 2**20)
    with pytest.raises(UserError, match=r"^a: more than 178 megapixels, or damaged; not read$"):
        read(content)


@pytest.mark.parametrize("name, content", [("pillow_heif", heic), ("pillow_jxl", jxl)])
def test_damage(name, content):
    pytest.importorskip(name)
    whole = content(RGB)
    for length in (40, len(whole) // 2):
        with pytest.raises(UserError, match=r"^a: cannot be read \(.+\)$"):
            read(whole[:length])


@pytest.mark.parametrize(
    "head, module, words",
    [
        (b"\0\0\0\x18ftypheic", "pillow_heif", r"HEIC is read where pillow-heif is installed: .*\[heif\]'"),
        (b"\xff\x0a", "pillow_jxl", r"JPEG XL is read where pillow-jxl-plugin is installed: .*\[jxl\]'"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "pillow_jxl", r"JPEG XL is read where pillow-jxl-plugin is .*"),
    ],
)
def test_without_the_plugin(monkeypatch, head, module, words):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=f"^a: {words}$"):
        read(head + bytes(30))


def test_the_size_of_a_damaged_file_is_none_also_once_its_plugin_is_there(tmp_path):
    """The plug-in for JPEG XL raises RuntimeError for what it cannot decode."""
    pillow_jxl = pytest.importorskip("pillow_jxl")
    path = tmp_path / "named.png"
    path.write_bytes(b"\xff\x0a" + bytes(40))
    with pytest.raises(RuntimeError), Image.open(path):
        pass
    assert pillow_jxl and image_size(path) is None
