"""The files are upscaled one by one, as the arguments say; one that fails does not stop the others."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import wdsr_jax
from tests.photo.samples import files, photo_file
from tests.photo.shipped import CLEAN, FAST, PHOTO, ship
from wdsr_jax.errors import UserError
from wdsr_jax.image.files import read_image
from wdsr_jax.inference import network
from wdsr_jax.photo import batch
from wdsr_jax.weights.store import load_pretrained

RNG = np.random.default_rng(0)


def test_the_result_is_that_of_the_function(upscale, weights):
    image = photo_file("a.png", 9, 8)
    assert upscale("a.png", "--out=b.png") == (0, ["1 enlarged, into b.png"])
    np.testing.assert_array_equal(
        read_image("b.png"), wdsr_jax.upscale(*load_pretrained(weights), image, engine=None)
    )


def test_what_is_done_is_not_done_again(upscale):
    for name in ("a.png", "b.png"):
        photo_file(f"in/{name}")
    upscale("in", "--out=big")
    Path("big/b.png").write_text("kept")
    photo_file("in/c.png")
    assert upscale("in", "--out=big") == (
        0,
        ["2 of 3 there already (--overwrite redoes them)", "1 enlarged, into big"],
    )
    assert Path("big/b.png").read_text() == "kept"
    assert upscale("in", "--out=big", "--overwrite")[1][-1] == "3 enlarged, into big"
    assert read_image("big/b.png").shape == (12, 16, 3)


def test_what_was_made_of_something_else_is_made_again(upscale):
    photo_file("a.png")
    upscale("a.png", "--out=b.png")
    assert upscale("a.png", "--out=b.png")[1][0] == "1 of 1 there already (--overwrite redoes them)"
    upscale("a.png", "--out=b.png", "--scale=3", scale=None)  # another size
    assert read_image("b.png").shape == (18, 24, 3)
    os.utime("a.png", (0, 0))  # another file, for all that is known
    assert upscale("a.png", "--out=b.png", "--scale=3", scale=None)[1] == ["1 enlarged, into b.png"]
    upscale("a.png", "--out=b.png", "--scale=3", "--ensemble", scale=None)  # other pixels
    assert (
        upscale("a.png", "--out=b.png", "--scale=3", "--ensemble", scale=None)[1][-1]
        == "0 enlarged, into b.png"
    )


def test_a_file_of_somebody_else_is_never_replaced(upscale):
    photo_file("in/a.png")
    photo_file("in/b.png")
    Path("big").mkdir()
    Path("big/a.png").write_text("a file of somebody else")
    code, messages = upscale("in", "--out=big")
    assert code == 1
    assert (
        messages[0] == "in/a.png: big/a.png is there and was made by something else; --overwrite replaces it"
    )
    assert Path("big/a.png").read_text() == "a file of somebody else"
    assert files("big") == ["a.png", "b.png"]


def test_a_fault_of_a_library_costs_one_file(upscale, monkeypatch):
    for name in ("a.png", "b.png"):
        photo_file(f"in/{name}")
    read_photo = batch.read_photo

    def faulty(path, *others):
        if str(path).endswith("a.png"):
            raise ZeroDivisionError("a fault")
        return read_photo(path, *others)

    monkeypatch.setattr(batch, "read_photo", faulty)
    code, messages = upscale("in", "--out=big")
    assert (code, files("big")) == (1, ["b.png"])
    assert "in/a.png: failed (ZeroDivisionError: a fault)" in messages


def test_both_engines_make_the_same_file(upscale):
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    pytest.importorskip("onnx", reason="needs the extra onnx")
    photo_file("a.png", 30, 21)
    for engine in ("xla", "onnx"):
        assert upscale("a.png", f"--out={engine}.png", f"--engine={engine}")[0] == 0
    np.testing.assert_allclose(read_image("onnx.png").astype(int), read_image("xla.png"), atol=1)


def test_ten_photographs_of_ten_sizes_are_three_compilations_at_most(upscale, monkeypatch):
    sizes = [(20 + 11 * i, 140 - 7 * i) for i in range(10)]
    for i, size in enumerate(sizes):
        photo_file(f"in/{i}.png", *size)
    network._compile.cache_clear()
    assert upscale("in", "--out=big", "--engine=xla")[0] == 0
    assert 1 <= network._compile.cache_info().misses <= 3
    for i, (height, width) in enumerate(sizes):
        assert read_image(f"big/{i}.png").shape == (2 * height, 2 * width, 3)


def test_each_picture_of_a_folder_gets_the_network_that_suits_it(upscale, monkeypatch, tmp_path):
    ship(monkeypatch, tmp_path / "shipped", CLEAN, PHOTO, FAST)
    Path("in").mkdir()
    for i, side in enumerate((40, 52, 64)):
        image = Image.fromarray(np.full((side, side, 3), 90, np.uint8))
        image.save(f"in/{i}.png")
        image.save(f"in/{i}.jpg", quality=50)
    network._compile.cache_clear()
    code, messages = upscale("in", "--out=big", "--name={model}-{stem}", "--engine=xla", model=None)
    assert code == 0
    assert (
        f"chosen by compression and noise: 3 by {PHOTO}, 3 by {CLEAN} (--model=clean|photo|fast)" in messages
    )
    assert 1 <= network._compile.cache_info().misses <= 3  # as with one network
    made = [f"{CLEAN}-{i}.png" for i in range(3)] + [f"{PHOTO}-{i}.jpg" for i in range(3)]
    assert files("big") == sorted(made)
    expected = wdsr_jax.upscale(*load_pretrained(CLEAN), read_image("in/0.png"), engine=None)
    np.testing.assert_array_equal(read_image(f"big/{CLEAN}-0.png"), expected)
    assert (
        "6 of 6 there already (--overwrite redoes them)"
        in upscale("in", "--out=big", "--name={model}-{stem}", model=None)[1]
    )


def test_what_was_chosen_is_said_with_the_reason(upscale, monkeypatch, tmp_path):
    ship(monkeypatch, tmp_path / "shipped", CLEAN, PHOTO, FAST)
    Image.fromarray(np.full((20, 20, 3), 90, np.uint8)).save("a.jpg", quality=50)
    _, messages = upscale("a.jpg", model=None)
    assert f"a.jpg: JPEG of quality 50, so by {PHOTO} (--model=clean|photo|fast)" in messages
    for word, name in (("clean", CLEAN), ("fast", FAST)):
        _, messages = upscale("a.jpg", "--overwrite", "--name=a-{model}", "--format=png", model=word)
        assert not any("so by" in message for message in messages)
        expected = wdsr_jax.upscale(*load_pretrained(name), read_image("a.jpg"), engine=None)
        np.testing.assert_array_equal(read_image(f"a-{name}.png"), expected)


def test_without_a_photo_network_nothing_is_said(upscale, monkeypatch, tmp_path):
    ship(monkeypatch, tmp_path / "shipped", CLEAN)
    Image.fromarray(np.full((20, 20, 3), 90, np.uint8)).save("a.jpg", quality=50)
    _, messages = upscale("a.jpg", "--format=png", model=None)
    assert not any("so by" in message or "chosen" in message for message in messages)
    expected = wdsr_jax.upscale(*load_pretrained(CLEAN), read_image("a.jpg"), engine=None)
    np.testing.assert_array_equal(read_image("a_x2.png"), expected)


def test_thin_photographs_of_one_colour_keep_it(upscale):
    for scale, size in ((4, (1, 60)), (2, (60, 1))):
        Image.fromarray(np.full((*size, 3), (120, 30, 200), np.uint8)).save("a.png")
        upscale("a.png", f"--scale={scale}", "--overwrite", scale=None, model=None)
        sr = read_image(f"a_x{scale}.png").astype(int)
        assert sr.shape == (scale * size[0], scale * size[1], 3)
        assert abs(sr - (120, 30, 200)).max() <= 2


def test_a_broken_file_is_named_and_the_others_are_done(upscale):
    for name in ("a.png", "z.png"):
        photo_file(f"in/{name}")
    Path("in/broken.jpg").write_bytes(b"")
    Path("in/cut.png").write_bytes(Path("in/a.png").read_bytes()[:-30])
    frames = [Image.new("L", (4, 4), grey) for grey in (0, 255)]
    frames[0].save("in/moving.gif", save_all=True, append_images=frames[1:])
    code, messages = upscale("in", "--out=big")
    assert code == 1
    assert files("big") == ["a.png", "z.png"]
    assert [m.split(":")[0] for m in messages[1:]] == [
        *("in/broken.jpg", "in/cut.png", "in/moving.gif", "2 enlarged, into big", "3 of 5 failed"),
    ]
    assert messages[-1] == "3 of 5 failed: in/broken.jpg, in/cut.png, in/moving.gif"


@pytest.mark.parametrize(
    "size, expected",
    [
        (["--scale=1.5"], (15, 9)),
        (["--scale=3.4"], (34, 20)),
        (["--width=15"], (15, 9)),
        (["--height=30"], (50, 30)),
        (["--width=15", "--height=30"], (15, 30)),
        (["--megapixels=0.00024"], (20, 12)),
        (["--scale=0.5"], (5, 3)),
    ],
)
def test_any_size(upscale, size, expected):
    photo_file("a.png", 6, 10)
    assert upscale("a.png", "--out=b.png", *size, scale=None)[0] == 0
    with Image.open("b.png") as image:
        assert image.size == expected


def test_photographs_stay_what_they_are(upscale):
    Image.fromarray(RNG.integers(0, 65536, (5, 6), dtype=np.uint16)).save("deep.png")
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "a description", 6  # to be turned by 90 degrees
    photo_file("turned.png")
    Image.open("turned.png").save("turned.jpg", exif=exif)
    assert upscale("deep.png", "turned.jpg", "--out=big")[0] == 0
    with Image.open("big/deep.png") as image:
        assert (image.mode, image.size) == ("I;16", (12, 10))
    with Image.open("big/turned.jpg") as image:
        assert image.size == (12, 16)
        assert image.getexif()[0x010E] == "a description" and image.getexif().get(0x0112, 1) == 1


def test_compare_shows_each_image(upscale):
    photo_file("in/a.png")
    Image.fromarray(RNG.integers(0, 65536, (5, 6), dtype=np.uint16)).save("in/deep.png")
    assert upscale("in", "--out=big", "--compare=compare.html")[0] == 0
    page = Path("compare.html").read_text()
    assert page.count("a.png") >= 1 and page.count("deep.png") >= 1
    assert files("big") == ["a.png", "deep.png"]


def test_consistent_says_what_is_left(upscale):
    photo_file("a.png")
    code, messages = upscale("a.png", "--out=b.png", "--consistent")
    assert code == 0
    assert messages[0].startswith("a.png: the bicubic downscale of the result differs from it by ")
    with pytest.raises(UserError, match=r"a.png: --consistent is for a scale that a network has, here 2"):
        upscale("a.png", "--out=c.png", "--consistent", "--scale=3")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--out=b.jpg", "--width=70000"], "a.png: 70000 x 52500 pixels are too many for JPEG"),
        (["--out=b.png", "--scale=1e6"], "a.png: 8000000 x 6000000 pixels take 144000.0 GB of memory and"),
        (["--out=b.png", "--tile=6"], "--tile=6: "),
        (["--out=a.png/b.png"], "a.png: the folder cannot be made"),
    ],
)
def test_what_cannot_work_is_said_before_the_work(upscale, arguments, message):
    photo_file("a.png")
    given = {argument.split("=")[0] for argument in arguments}
    with pytest.raises(UserError, match=f"^{message}"):
        upscale("a.png", *arguments, scale=None if given & {"--scale", "--width"} else "--scale=2")
    assert files(".") == ["a.png"]
