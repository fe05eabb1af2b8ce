"""Which files are upscaled, and what the results are called."""

from pathlib import Path

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
