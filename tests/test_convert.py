"""The command line of `convert`; what it does is tested in `tests/weights/test_conversion.py`."""

import subprocess
import sys

import pytest

from tests.weights.networks import CONFIG, params_like
from wdsr_jax.convert import main
from wdsr_jax.errors import UserError
from wdsr_jax.models.layers import DIV2K_MEAN
from wdsr_jax.weights.store import load_pretrained, save_weights


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["convert", *map(str, arguments)])
    return main()


@pytest.fixture
def ours(tmp_path):
    path = tmp_path / "ours.safetensors"
    save_weights(path, CONFIG | {"scale": 3}, params_like(scale=3))
    return path


def test_there_and_back(tmp_path, ours, monkeypatch, caplog):
    theirs, out = tmp_path / "theirs.safetensors", tmp_path / "out.safetensors"
    caplog.set_level("INFO")
    run(monkeypatch, ours, theirs, "--to=torch")
    run(monkeypatch, theirs, out, "--mean=0.4,0.5,0.6", "--res-scale=0.5")
    assert "WDSR-A x3, 1 blocks, 4 filters, expansion 2, from the official code of 2020" in caplog.text
    assert "--mean=0.4,0.5,0.6 --res-scale=0.5" in caplog.text
    module, _ = load_pretrained(out)
    assert module.mean == (0.4, 0.5, 0.6) and module.res_scale == 0.5
    run(monkeypatch, theirs, out, "--mean=" + ",".join(map(str, DIV2K_MEAN)))
    assert load_pretrained(out)[0] == load_pretrained(ours)[0]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("THEIRS out.safetensors --mean=114,111,103", "--mean=114,111,103: give R,G,B in"),
        ("THEIRS out.safetensors --mean=0.5", "--mean=0.5: give R,G,B in"),
        ("THEIRS out.pth", "out.pth: DST ends in .safetensors"),
        ("OURS out.pth --to=torch", "out.pth: DST ends in .safetensors"),
        ("OURS out.safetensors --to=torch --res-scale=1", "do not go with --to=torch"),
        ("OURS out.safetensors --to=onnx", "invalid choice: 'onnx'"),
        ("THEIRS", "required: DST"),
        ("none.pth out.safetensors", "none.pth: cannot be read (No such file or directory)"),
        ("none out.safetensors --to=torch", "none: no such file or workdir, nor a shipped model"),
        ("OURS none/out.safetensors", "none/out.safetensors: no such folder"),
        ("OURS OURS", "ours.safetensors: is the source, which would be overwritten"),
    ],
)
def test_mistakes(tmp_path, ours, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs.pth").write_bytes(b"")
    arguments = arguments.replace("THEIRS", "theirs.pth").replace("OURS", "ours.safetensors").split()
    with pytest.raises(UserError) as caught:
        run(monkeypatch, *arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours.safetensors", "theirs.pth"]


COMMAND = """
import runpy, sys

sys.argv[0] = "convert"
try:
    runpy.run_module("wdsr_jax.convert", run_name="__main__")
finally:
    assert "jax" not in sys.modules and "flax" not in sys.modules
"""


@pytest.mark.parametrize(
    "arguments, code, said",
    [(["--help"], 0, ""), (["none.pth", "out.safetensors"], 1, "error: none.pth: cannot be read (No such")],
    ids=["help", "mistake"],
)
def test_help_and_mistakes_need_no_jax_and_are_short(tmp_path, arguments, code, said):
    command = [sys.executable, "-c", COMMAND, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == code and ended.stderr.startswith(said)
    assert ended.stderr.count("\n") == code and bool(ended.stdout) == (code == 0)
    assert not list(tmp_path.iterdir())
