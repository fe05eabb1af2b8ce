"""The command: which files become which, at what size, and what is said where one cannot."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import logging as absl_logging
from PIL import Image

import wdsr_jax
from tests.numpy_wdsr import random_params
from wdsr_jax.errors import UserError
from wdsr_jax.image.files import read_image, write_image
from wdsr_jax.models import create_model
from wdsr_jax.photo import batch, command, network
from wdsr_jax.weights.store import load_pretrained, save_weights

MODEL = dict(name="wdsr_a", scale=2, filters=4, blocks=1, expansion=2)
RNG = np.random.default_rng(0)


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, MODEL, random_params(create_model(MODEL)))
    return str(path)


@pytest.fixture
def upscale(tmp_path, monkeypatch, weights, caplog):
    """Runs the command in `tmp_path` with a tiny x2 network; gives its exit code and what it logged."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batch, "enable_compilation_cache", lambda: None)
    monkeypatch.setattr(absl_logging.get_absl_logger(), "propagate", True)

    def run(*arguments, model=weights, scale="--scale=2"):
        caplog.clear()
        options = [scale] * bool(scale) + [f"--model={model}"] * bool(model)
        monkeypatch.setattr(sys, "argv", ["upscale", *options, *map(str, arguments)])  # whose options win
        with caplog.at_level(logging.INFO):
            return command.main(), caplog.messages

    return run


def photo(path, height=6, width=8):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    write_image(path, image)
    return image


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def test_the_result_is_that_of_the_function(upscale, weights):
    image = photo("a.png")
    assert upscale("a.png", "--out=b.png") == (0, ["1 enlarged, into b.png"])
    np.testing.assert_array_equal(read_image("b.png"), wdsr_jax.upscale(*load_pretrained(weights), image))


def test_a_folder_keeps_its_structure(upscale):
    for name in ("a.png", "sub/b.png", "sub/deeper/c.webp", ".hidden/d.png", "._a.png"):
        photo(f"in/{name}")
    Path("in/notes.txt").write_text("no image")
    assert upscale("in", "--out=big")[0] == 0
    assert files("big") == ["a.png", "sub/b.png", "sub/deeper/c.webp"]
    assert read_image("big/sub/b.png").shape == (12, 16, 3)


def test_a_name_with_a_dot_is_a_folder_where_it_says_so(upscale):
    photo("a.png")
    assert upscale("a.png", "--out=v1.5/")[0] == 0
    assert files("v1.5") == ["a.png"]
    assert upscale("a.png", "--out=v1.5", "--overwrite")[0] == 0  # it exists
    assert files("v1.5") == ["a.png"]


def test_what_is_done_is_not_done_again(upscale):
    for name in ("a.png", "b.png"):
        photo(f"in/{name}")
    upscale("in", "--out=big")
    Path("big/b.png").write_text("kept")
    photo("in/c.png")
    assert upscale("in", "--out=big") == (
        0,
        ["2 of 3 are there already (--overwrite redoes them)", "1 enlarged, into big"],
    )
    assert Path("big/b.png").read_text() == "kept"
    assert upscale("in", "--out=big", "--overwrite") == (0, ["3 enlarged, into big"])
    assert read_image("big/b.png").shape == (12, 16, 3)


@pytest.mark.parametrize("out", ["in/big", "./in/../in/big", None])
def test_outputs_within_the_input_folder_are_no_inputs(upscale, tmp_path, out):
    photo("in/a.png")
    out = out or tmp_path / "in/big"
    for _ in range(2):
        assert upscale("in", f"--out={out}")[0] == 0
    assert files("in") == ["a.png", "big/a.png"]


def test_a_broken_file_is_named_and_the_others_are_done(upscale):
    for name in ("a.png", "z.png"):
        photo(f"in/{name}")
    Path("in/broken.jpg").write_bytes(b"")
    Path("in/cut.png").write_bytes(Path("in/a.png").read_bytes()[:-30])
    frames = [Image.new("L", (4, 4), grey) for grey in (0, 255)]
    frames[0].save("in/moving.gif", save_all=True, append_images=frames[1:])
    code, messages = upscale("in", "--out=big")
    assert code == 1
    assert files("big") == ["a.png", "z.png"]
    assert [m.split(":")[0] for m in messages] == [
        *("in/broken.jpg", "in/cut.png", "in/moving.gif", "2 enlarged, into big", "3 of 5 failed"),
    ]
    assert messages[-1] == "3 of 5 failed: in/broken.jpg, in/cut.png, in/moving.gif"


def test_names_and_formats(upscale):
    photo("a.png")
    photo("b.bmp")
    assert upscale("a.png", "b.bmp", "--out=big", "--name={stem}_x{scale}")[0] == 0
    assert files("big") == ["a_x2.png", "b_x2.png"]
    assert upscale(Path.cwd() / "*.*", "--out=other", "--format=jpeg", "--quality=50")[0] == 0
    assert files("other") == ["a.jpg", "b.jpg"]
    with Image.open("other/a.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (16, 12))


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
    photo("a.png", 6, 10)
    assert upscale("a.png", "--out=b.png", *size, scale=None)[0] == 0
    with Image.open("b.png") as image:
        assert image.size == expected


def test_without_shipped_weights_it_says_how_to_get_some(upscale, monkeypatch):
    photo("a.png")
    monkeypatch.setattr(network, "list_pretrained", lambda: [])
    with pytest.raises(
        UserError, match=r"^no weights are shipped with this package; name yours with --model="
    ):
        upscale("a.png", "--out=b.png", model=None)


def test_photographs_stay_what_they_are(upscale):
    Image.fromarray(RNG.integers(0, 65536, (5, 6), dtype=np.uint16)).save("deep.png")
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "a description", 6  # to be turned by 90 degrees
    photo("turned.png")
    Image.open("turned.png").save("turned.jpg", exif=exif)
    assert upscale("deep.png", "turned.jpg", "--out=big")[0] == 0
    with Image.open("big/deep.png") as image:
        assert (image.mode, image.size) == ("I;16", (12, 10))
    with Image.open("big/turned.jpg") as image:
        assert image.size == (12, 16)
        assert image.getexif()[0x010E] == "a description" and image.getexif().get(0x0112, 1) == 1


def test_compare_shows_each_image(upscale):
    photo("in/a.png")
    Image.fromarray(RNG.integers(0, 65536, (5, 6), dtype=np.uint16)).save("in/deep.png")
    assert upscale("in", "--out=big", "--compare=compare.html")[0] == 0
    page = Path("compare.html").read_text()
    assert page.count("a.png") >= 1 and page.count("deep.png") >= 1
    assert files("big") == ["a.png", "deep.png"]


def test_consistent_says_what_is_left(upscale):
    photo("a.png")
    code, messages = upscale("a.png", "--out=b.png", "--consistent")
    assert code == 0
    assert messages[0].startswith("a.png: the bicubic downscale of the result differs from it by ")
    with pytest.raises(UserError, match=r"a.png: --consistent is for a scale that a network has, here 2"):
        upscale("a.png", "--out=c.png", "--consistent", "--scale=3")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["missing.png", "--out=b.png"], "missing.png: no such file or folder"),
        (["*.tif", "--out=big"], r"\*.tif: no image or video fits"),
        (["empty", "--out=big"], "empty: no image or video in it"),
        (["a.png", "--out=a.png"], "a.png: the output would replace the input"),
        (["a.png", "--out=."], "a.png: the output would replace the input"),
        (["a.png", "sub/a.png", "--out=big"], "sub/a.png and a.png would both become big/a.png"),
        (
            ["a.png", "sub/b_x2.png", "b.png", "--out=sub", "--name={stem}_x2"],
            "sub/b_x2.png: is an input",
        ),
        (["a.png", "b.png", "--out=a.jpg"], "--out=a.jpg: is a file, but several outputs need a folder"),
        (["a.png", "--out=b.pgn"], "b.pgn: no image format that can be written ends in '.pgn'"),
        (["a.png", "--out=b.png", "--name={what}"], "--name={what}: may hold"),
        (["a.png", "--out=b.png", "--quality=101"], "--quality=101: 1 to 100"),
        (["a.png", "--out=b.png", "--width=3"], "give the size as one of"),
        (["a.png", "-", "--out=b.png"], "- is for a single photograph"),
        (
            ["a.png", "--out=b.png", "--model=nothing"],
            "nothing: no such file or workdir, nor a shipped model",
        ),
        (["a.png"], "--out"),
        (["--out=b.png"], "IN"),
        (["a.png", "--out=b.png", "--format=gif"], "--format: invalid choice"),
        (["a.png", "--out=b.png", "--tile=0"], "--tile: 0 is not a number above 0"),
    ],
)
def test_a_mistake_in_the_command_line_is_one_line(upscale, arguments, message):
    photo("a.png")
    photo("b.png")
    photo("sub/a.png")
    photo("sub/b_x2.png")
    Path("a.jpg").write_text("a file")
    Path("empty").mkdir()
    with pytest.raises(UserError, match=message):
        upscale(*arguments)
    assert files(".") == ["a.jpg", "a.png", "b.png", "sub/a.png", "sub/b_x2.png"]


@pytest.mark.parametrize("scale", ["0", "-1", "nan", "inf", "two", ""])
def test_a_scale_is_a_number_above_0(upscale, scale):
    photo("a.png")
    with pytest.raises(UserError, match="--scale: "):
        upscale("a.png", "--out=b.png", f"--scale={scale}", scale=None)


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
    photo("a.png")
    given = {argument.split("=")[0] for argument in arguments}
    with pytest.raises(UserError, match=f"^{message}"):
        upscale("a.png", *arguments, scale=None if given & {"--scale", "--width"} else "--scale=2")
    assert files(".") == ["a.png"]


def run_module(*arguments, **options):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "wdsr_jax.upscale", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, env=environment, **options)


def test_through_pipes(tmp_path, weights):
    image = photo(tmp_path / "a.png")
    done = run_module(
        *("-", "--out=-", "--scale=2", f"--model={weights}"), input=(tmp_path / "a.png").read_bytes()
    )
    assert (done.returncode, done.stderr) == (0, b"")
    (tmp_path / "b.png").write_bytes(done.stdout)
    np.testing.assert_array_equal(
        read_image(tmp_path / "b.png"), wdsr_jax.upscale(*load_pretrained(weights), image)
    )


def test_a_mistake_has_no_traceback(tmp_path):
    done = run_module("a.png", "--out=b.png", "--scale=0", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"error: argument --scale: 0 is not a number above 0; --help says more\n"


def test_arguments_are_answered_before_the_slow_imports(tmp_path):
    photo(tmp_path / "a.png")
    script = """
import sys
from wdsr_jax.errors import UserError
from wdsr_jax.photo import command

for line in sys.stdin.read().splitlines():
    sys.argv = ["upscale", *line.split()]
    try:
        command.main()
    except UserError as error:
        print(error)
    except SystemExit as exit:
        print(f"exit code {exit.code}")
print({"jax", "flax", "scipy", "av"} & set(sys.modules))
"""
    answers = {
        "--help": "exit code 0",
        "--version": "exit code 0",
        "a.png --out=b.png --scale=0": "argument --scale: 0 is not a number above 0; --help says more",
        "a.png --out=b.png": "give the size as one of --scale, --megapixels, and --width and/or --height",
        "a.png - --out=b.png --scale=2": "- is for a single photograph: give no other input with it",
        "missing.png --out=b.png --scale=2": "missing.png: no such file or folder",
        "a.png --out=a.png --scale=2": (
            "a.png: the output would replace the input; choose another --out or --name"
        ),
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        input="\n".join(answers),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python -m wdsr_jax.upscale")
    *lines, imported = done.stdout.splitlines()
    assert [line for line in lines if line in answers.values()] == list(answers.values())
    assert imported == "set()"
