"""The command line of `export`; what it does is tested in `tests/weights/test_exports.py`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tests import numpy_wdsr
from tests.weights.networks import network, noise, run_onnx, write_weights
from wdsr_jax.data.sample import sample_files
from wdsr_jax.errors import UserError
from wdsr_jax.export import main
from wdsr_jax.image.files import read_image
from wdsr_jax.image.pixels import to_float
from wdsr_jax.weights.store import load_pretrained

pytestmark = pytest.mark.usefixtures("compile_cache")


@pytest.fixture
def around(tmp_path, monkeypatch):
    """The working directory, with what `write_weights` writes."""
    write_weights(tmp_path)
    monkeypatch.chdir(tmp_path)


def contents():
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


COMMAND = """
import runpy, sys

sys.argv[0] = "export"
try:
    runpy.run_module("wdsr_jax.export", run_name="__main__")
finally:
    assert not {"tensorflow", "torch"} & sys.modules.keys()
    print(*{"jax", "flax"} & sys.modules.keys())
"""


def run_command(*arguments):
    environ = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, "-c", COMMAND, *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True)


def said(done):
    """The lines of a command on stderr, but for what ONNX Runtime misses on some machines."""
    assert done.returncode == 0, done.stderr
    return [line for line in done.stderr.splitlines() if "onnxruntime" not in line]


COMPARED = r"opset 17, IR version 8; ONNX Runtime differs from JAX by at most \d[.e\d-]+"


def test_the_command_line(around):
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    first, second = said(run_command("--model=run", "--format=onnx", "x2.onnx"))
    assert re.fullmatch(COMPARED, first)
    assert second == "x2.onnx: run x2, 0.0 MB"
    lr = noise(1, 6, 5, 3)
    sr = numpy_wdsr.forward(*network(name="wdsr_a", scale=2), lr)
    np.testing.assert_allclose(run_onnx(Path("x2.onnx").read_bytes(), lr), sr, atol=1e-5, rtol=0)


@pytest.mark.ci
def test_a_shipped_network(around):
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    first, second = said(run_command("--model=wdsr-a-16-x4", "--format=onnx", "x4.onnx"))
    assert re.fullmatch(COMPARED, first)
    assert second == "x4.onnx: wdsr-a-16-x4 x4, 4.8 MB"
    lr = to_float(read_image(sample_files()[1][0])[None, 60:76, 200:230])
    sr = numpy_wdsr.forward(*load_pretrained("wdsr-a-16-x4"), lr)
    np.testing.assert_allclose(run_onnx(Path("x4.onnx").read_bytes(), lr), sr, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "argv, code",
    [("--help", 0), ("--model=nowhere --format=onnx out", 1), ("--model=run --format=onnx run", 1)],
)
def test_help_and_mistakes_need_no_jax(around, argv, code):
    done = run_command(*argv.split())
    assert done.returncode == code and done.stdout.endswith("\n\n" if code == 0 else "\n")
    assert "jax" not in done.stdout.splitlines()[-1] and done.stderr.count("\n") == code


@pytest.mark.parametrize(
    "argv, message",
    [
        ("--model=run --format=tflite out", "--format=tflite: there are stablehlo and onnx"),
        ("--model=run --format=onnx", "arguments are required: OUT"),
        ("--format=onnx out", "arguments are required: --model"),
        ("--model=run out", "arguments are required: --format"),
        ("--model=run --format=FORMAT run", "run: is a folder, not a file to write"),
        ("--model=run --format=FORMAT nowhere/out", "nowhere/out: no such folder"),
        ("--model=run --format=FORMAT /proc/out", "/proc/out: cannot be written"),
        (f"--model=run --format=FORMAT {'o' * 300}", "cannot be written (File name too long)"),
        (
            "--model=run --format=FORMAT run/model.safetensors",
            "holds the network, which would be overwritten",
        ),
        ("--model=a.b.safetensors --format=FORMAT ./a.b.safetensors", "holds the network, which would be"),
        ("--model=nowhere --format=FORMAT out", "nowhere: no such file or workdir"),
        ("--model=. --format=FORMAT out", "no model.safetensors here"),
        ("--model=text.safetensors --format=FORMAT out", "text.safetensors: not a safetensors file"),
        ("--model=nan.safetensors --format=FORMAT out", "nan.safetensors: tensor block_0.expand.bias holds"),
    ],
)
@pytest.mark.parametrize("file_format", ["stablehlo", "onnx"])
def test_mistakes(around, monkeypatch, capsys, argv, message, file_format):
    if file_format == "onnx" and "FORMAT" in argv:
        pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    before = contents()
    monkeypatch.setattr("sys.argv", ["export", *argv.replace("FORMAT", file_format).split()])
    with pytest.raises(UserError) as caught:
        main()
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert contents() == before
