"""The command line: what is said of mistakes, how soon, and through pipes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import wdsr_jax
from tests.photo.samples import files, photo_file
from wdsr_jax.errors import UserError
from wdsr_jax.image.files import read_image
from wdsr_jax.weights.store import load_pretrained

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["missing.png", "--out=b.png"], "missing.png: no such file or folder"),
        (["*.tif", "--out=big"], r"\*.tif: no image or video fits"),
        (["empty", "--out=big"], "empty: no image or video in it"),
        (["a.png", "--out=a.png"], "a.png: the output would replace the input"),
        (["a.png", "--out=."], "a.png: the output would replace the input"),
        (["a.png", "empty"], "empty: no image or video in it; .* type --out=empty"),
        (["a.png", "big/"], "big/: no such file or folder; if the results are to go there, type --out=big/"),
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
        (["--out=b.png"], "IN"),
        (["a.png", "--out=b.png", "--format=gif"], "--format: invalid choice"),
        (["a.png", "--out=b.png", "--tile=0"], "--tile: 0 is not a number above 0"),
        (["a.png", "--out=b.png", "--scale=1e308"], "--scale: 1e308 is not at most 1,000,000,000"),
        (["a.png", "--out=b.png", "--scale=nan"], "--scale: nan is not a number above 0"),
        (["a.png", "--out=b.png", f"--width={400 * '9'}"], "--width: 9999"),
        (["a.png", "--out=b.png", "--megapixels=1e308"], "--megapixels: 1e308 is not at most"),
        (["a.png", "--serve"], "--serve opens a page to drop photographs on: leave out a.png"),
        (["--serve", "a.png"], "--serve: invalid whole number value: 'a.png'"),
        (["--serve", "--out=big"], "--serve does without --out"),
        (["--serve", "--format=mp4"], "--format=mp4: the page of --serve is for photographs"),
        (["--serve=70000"], "--serve=70000: a port is at most 65535"),
    ],
)
def test_a_mistake_in_the_command_line_is_one_line(upscale, arguments, message):
    photo_file("a.png")
    photo_file("b.png")
    photo_file("sub/a.png")
    photo_file("sub/b_x2.png")
    Path("a.jpg").write_text("a file")
    Path("empty").mkdir()
    with pytest.raises(UserError, match=message):
        upscale(*arguments)
    assert files(".") == ["a.jpg", "a.png", "b.png", "sub/a.png", "sub/b_x2.png"]


@pytest.mark.parametrize("scale", ["0", "-1", "nan", "inf", "two", ""])
def test_a_scale_is_a_number_above_0(upscale, scale):
    photo_file("a.png")
    with pytest.raises(UserError, match="--scale: "):
        upscale("a.png", "--out=b.png", f"--scale={scale}", scale=None)


def run_module(*arguments, **options):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "wdsr_jax.upscale", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, env=environment, **options)


def test_through_pipes(tmp_path, weights):
    image = photo_file(tmp_path / "a.png", 9, 8)
    done = run_module(
        *("-", "--out=-", "--scale=2", f"--model={weights}"), input=(tmp_path / "a.png").read_bytes()
    )
    assert (done.returncode, done.stderr) == (0, b"")
    (tmp_path / "b.png").write_bytes(done.stdout)
    np.testing.assert_array_equal(
        read_image(tmp_path / "b.png"), wdsr_jax.upscale(*load_pretrained(weights), image, engine=None)
    )


def test_a_mistake_has_no_traceback(tmp_path):
    done = run_module("a.png", "--out=b.png", "--scale=0", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"error: argument -s/--scale: 0 is not a number above 0; --help says more\n"


def test_arguments_are_answered_before_the_slow_imports(tmp_path):
    photo_file(tmp_path / "a.png")
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
        "a.png --out=b.png --scale=0": "argument -s/--scale: 0 is not a number above 0; --help says more",
        "a.png --width=3 --scale=2": (
            "give the size as one of --scale, --megapixels, and --width and/or --height"
        ),
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
