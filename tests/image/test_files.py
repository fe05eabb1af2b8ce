"""Image files as people have them: grey, palette, 16 bits, CMYK, broken."""

import io
import resource

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wdsr_jax.errors import UserError
from wdsr_jax.image.files import IMAGE_SUFFIXES, read_image, write_image

RGB = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)


def test_lossless_formats_come_back_to_the_bit(tmp_path):
    for suffix in (".png", ".bmp", ".tif", ".ppm", ".PNG"):
        path = tmp_path / f"a{suffix}"
        write_image(path, RGB)
        np.testing.assert_array_equal(read_image(str(path)), RGB)
        assert path.stat().st_mode & 0o777 == 0o644


def test_every_suffix_taken_for_an_image_can_be_written_and_read(tmp_path):
    for suffix in IMAGE_SUFFIXES:
        write_image(tmp_path / f"a{suffix}", RGB)
        assert read_image(tmp_path / f"a{suffix}").shape == (7, 5, 3)
    assert len(list(tmp_path.iterdir())) == len(IMAGE_SUFFIXES)


def test_grey(tmp_path):
    write_image(tmp_path / "a.png", RGB[..., 0])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), RGB[..., :1].repeat(3, -1))
    Image.fromarray(RGB[..., 0] > 127).save(tmp_path / "bits.png")
    with Image.open(tmp_path / "bits.png") as image:
        assert image.mode == "1"
    np.testing.assert_array_equal(
        read_image(tmp_path / "bits.png"), np.where(RGB[..., :1] > 127, 255, 0).repeat(3, -1)
    )


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, suffix):
    deep = np.linspace(0, 65535, 35).round().astype(np.uint16).reshape(7, 5)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(deep).save(path)
    image = read_image(path)
    assert (image.shape, image.dtype) == ((7, 5, 3), np.uint8)
    expected = np.floor(deep / 257 + 0.5)
    for channel in range(3):
        np.testing.assert_array_equal(image[..., channel], expected)


def test_big_endian_16_bit_tiff(tmp_path):
    deep = Image.frombytes("I;16B", (2, 1), np.array([[257 * 3, 257 * 200]], ">u2").tobytes())
    deep.save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0, :, 0], [3, 200])


def test_palette_and_alpha(tmp_path):
    few = RGB // 128 * 255
    Image.fromarray(few).quantize(8).save(tmp_path / "palette.png")
    with Image.open(tmp_path / "palette.png") as image:
        assert image.mode == "P"
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), few)
    Image.fromarray(few).quantize(8).save(tmp_path / "a.gif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.gif"), few)

    alpha = np.concatenate([RGB, RGB[..., :1]], -1)
    Image.fromarray(alpha).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), RGB)
    Image.fromarray(RGB[..., :2]).save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png"), RGB[..., :1].repeat(3, -1))


def test_cmyk_jpeg(tmp_path):
    for ink, colour in {(0, 0, 0, 0): (255, 255, 255), (0, 255, 255, 0): (255, 0, 0)}.items():
        Image.new("CMYK", (16, 16), ink).save(tmp_path / "a.jpg", quality=95)
        assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - colour).max() <= 3


def test_floating_point_has_no_range_to_go_by(tmp_path):
    Image.fromarray(np.full((2, 3), 0.5, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif: floating-point pixels; save it with 8 or 16 bits"):
        read_image(tmp_path / "a.tif")


def test_what_is_no_image(tmp_path):
    (tmp_path / "text.png").write_text("not an image\n")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, words in {"text.png": "not an image", "empty.png": "the file is empty"}.items():
        with pytest.raises(UserError) as raised:
            read_image(tmp_path / name)
        assert str(raised.value) == f"{tmp_path / name}: {words}"
    reasons = {
        "missing.png": "No such file or directory",
        "": "Is a directory",
        "text.png/a": "Not a directory",
    }
    for name, reason in reasons.items():
        with pytest.raises(UserError) as raised:
            read_image(tmp_path / name)
        assert str(raised.value) == f"{tmp_path / name}: cannot be read ({reason})"


def encoded(image_format, mode="RGB"):
    file = io.BytesIO()
    Image.fromarray(RGB.repeat(8, 0).repeat(8, 1)).convert(mode).save(file, format=image_format)
    return file.getvalue()


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF"])
def test_truncated(tmp_path, image_format):
    content = encoded(image_format)
    path = tmp_path / f"a.{image_format.lower()}"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError) as raised:
        read_image(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_truncated_16_bit(tmp_path):
    content = encoded("PNG", "I;16")
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="cannot be read"):
        read_image(tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore::Warning:PIL")
@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["PNG", "JPEG", "WEBP", "TIFF", "AVIF"]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=5),
)
def test_random_damage_is_never_a_traceback(image_format, changes):
    content = bytearray(encoded(image_format))
    for position, value in changes:
        content[int(position * len(content))] = value
    try:
        image = read_image(io.BytesIO(content))
    except UserError:
        return
    assert image.dtype == np.uint8
    assert image.shape[-1] == 3


@pytest.mark.parametrize("folder, reason", [("missing", "No such file"), ("a.png", "Not a directory")])
def test_write_where_no_file_can_be(tmp_path, folder, reason):
    write_image(tmp_path / "a.png", RGB)
    path = tmp_path / folder / "b.png"
    with pytest.raises(UserError, match=rf"^{path}: cannot be written \({reason}"):
        write_image(path, RGB)


def test_write_over_a_folder(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UserError, match=r"cannot be written \(Is a directory\)"):
        write_image(tmp_path / "a.png", RGB)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("name", ["a", "a.txt", "a.svg"])
def test_write_to_no_image_format(tmp_path, name):
    with pytest.raises(UserError, match="no image format that can be written ends in"):
        write_image(tmp_path / name, RGB)
    assert not list(tmp_path.iterdir())


def test_more_pixels_a_side_than_the_format_holds(tmp_path):
    with pytest.raises(UserError, match=r"a\.webp: cannot be written"):
        write_image(tmp_path / "a.webp", np.zeros((1, 20_000, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.png"
    write_image(path, RGB)
    large = np.random.default_rng(1).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # as a full disk: the write stops midway
    try:
        with pytest.raises(UserError, match=rf"^{path}: cannot be written \(File too large\)$"):
            write_image(path, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    np.testing.assert_array_equal(read_image(path), RGB)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
