"""Which files are upscaled, and what the results are called."""

import io
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.photo.samples import files, photo_file
from wdsr_jax.image.files import read_image


def test_a_folder_keeps_its_structure(upscale):
    for name in ("a.png", "sub/b.png", "sub/deeper/c.webp", ".hidden/d.png", "._a.png"):
        photo_file(f"in/{name}")
    Path("in/notes.txt").write_text("no image")
    assert upscale("in", "--out=big")[0] == 0
    assert files("big") == ["a.png", "sub/b.png", "sub/deeper/c.webp"]
    assert read_image("big/sub/b.png").shape == (12, 16, 3)


def test_a_name_with_a_dot_is_a_folder_where_it_says_so(upscale):
    photo_file("a.png")
    assert upscale("a.png", "--out=v1.5/")[0] == 0
    assert files("v1.5") == ["a.png"]
    assert upscale("a.png", "--out=v1.5", "--overwrite")[0] == 0  # it exists
    assert files("v1.5") == ["a.png"]


@pytest.mark.parametrize("out", ["in/big", "./in/../in/big", None])
def test_outputs_within_the_input_folder_are_no_inputs(upscale, tmp_path, out):
    photo_file("in/a.png")
    out = out or tmp_path / "in/big"
    for _ in range(2):
        assert upscale("in", f"--out={out}")[0] == 0
    assert files("in") == ["a.png", "big/a.png"]


def test_names_and_formats(upscale):
    photo_file("a.png")
    photo_file("b.bmp")
    assert upscale("a.png", "b.bmp", "--out=big", "--name={stem}_x{scale}")[0] == 0
    assert files("big") == ["a_x2.png", "b_x2.png"]
    assert upscale(Path.cwd() / "*.*", "--out=other", "--format=jpeg", "--quality=50")[0] == 0
    assert files("other") == ["a.jpg", "b.jpg"]
    with Image.open("other/a.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (16, 12))


def test_the_simplest_line_works(upscale):
    photo_file("photo.png")
    photo_file("photos/a.png")
    photo_file("photos/sub/b.png")
    assert upscale("photo.png", "photos")[0] == 0
    assert files(".") == [
        *("photo.png", "photo_x2.png", "photos/a.png", "photos/sub/b.png"),
        *("photos_x2/a.png", "photos_x2/sub/b.png"),
    ]
    with Image.open("photo_x2.png") as image:
        assert image.size == (16, 12)


def test_own_results_are_not_enlarged_again(upscale):
    for name in ("a.png", "b.png"):
        photo_file(f"in/{name}")
    for arguments in (["in", "--out=in", "--name={stem}_x{scale}"], [*sorted(Path("in").glob("*.png"))]):
        for _ in range(2):
            assert upscale(*arguments)[0] == 0
        assert files("in") == ["a.png", "a_x2.png", "b.png", "b_x2.png"]
    assert upscale(*sorted(Path("in").glob("*.png")))[0] == 0  # as the shell expands in/*.png now
    assert files("in") == ["a.png", "a_x2.png", "b.png", "b_x2.png"]
    assert upscale("in/a_x2.png")[0] == 0  # typed, and so meant
    assert "a_x2_x2.png" in files("in")


def test_a_file_and_links_to_it_are_one_file_and_that_is_said(upscale):
    photo_file("in/good.png")
    Path("in/a_link.png").symlink_to("good.png")
    code, messages = upscale("in", "in/../in/good.png", "--out=big")
    assert (code, files("big")) == (0, ["good.png"])
    assert "links to files that are taken already, left out: in/a_link.png" in messages


def test_an_input_is_never_replaced(upscale):
    before = photo_file("a.png"), photo_file("sub/b_x2.png"), photo_file("b.png")
    code, messages = upscale("a.png", "sub/b_x2.png", "b.png", "--out=sub", "--name={stem}_x2")
    assert code == 1
    assert "b.png: its output sub/b_x2.png is an input, too; choose another --out or --name" in messages
    assert files("sub") == ["a_x2.png", "b_x2.png", "b_x2_x2.png"]
    for path, image in zip(("a.png", "sub/b_x2.png", "b.png"), before, strict=True):
        np.testing.assert_array_equal(read_image(path), image)


def test_two_names_that_still_clash_cost_one_of_them(upscale):
    photo_file("a.png")
    photo_file("b.png")
    code, messages = upscale("a.png", "b.png", "--out=big", "--name=same")
    assert (code, files("big")) == (1, ["same.png"])
    assert "b.png: a.png becomes big/same.png, too; choose another --name" in messages


def test_a_folder_of_hostile_entries_yields_the_good_photograph(upscale, capfd, recwarn):
    """One of each entry that has stopped a program of this kind."""
    photo_file("in/good.png")
    os.mkfifo("in/pipe.png")
    Path("in/broken_link.png").symlink_to("nothing.png")
    Path("in/circle.png").symlink_to("circle.png")
    Path("in/loop").symlink_to(".")
    Path("in/folder.png").mkdir()
    Path("in/empty.jpg").write_bytes(b"")
    Path("in/zeros.avif").write_bytes(bytes(100))
    Path("in/text.tif").write_text("no image")
    Path("in/notes.txt").write_text("no image")
    Path("in/raw.cr2").write_bytes(b"II*\0\x10\0\0\0CR")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("in/socket.png")
    photo_file(f"in/{'n' * 240}.gif".replace(".gif", ".png"))
    photo_file("in/" + os.fsdecode(b"\xff\xe9") + ".png")
    photo_file("in/line\nbreak.png")
    Path("in/header.tif").write_bytes(tiff_with_odd_header())
    code, messages = upscale("in", "--out=big", "--name={stem}_of_a_long_name", "--compare=page.html")
    assert code == 1
    assert "good_of_a_long_name.png" in files("big")
    assert "\ufffd\ufffd.png" in Path("page.html").read_text()
    *_, failed = messages
    for name in ("pipe", "broken_link", "circle", "empty", "zeros", "text", "socket", "n" * 240):
        assert f"in/{name}" in failed
    assert any("left out: 1 camera raw" in message for message in messages)
    assert not recwarn.list and "Warning" not in capfd.readouterr().err


def tiff_with_odd_header():
    """A TIFF of which Pillow warns: a tag has more values than it should."""
    file = io.BytesIO()
    Image.new("L", (4, 4)).save(file, "TIFF")
    data = bytearray(file.getvalue())
    start = int.from_bytes(data[4:8], "little")
    data[start + 2 + 4 : start + 2 + 8] = (1000).to_bytes(4, "little")  # ImageWidth: 1,000 values
    return bytes(data)
