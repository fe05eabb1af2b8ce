"""The messages that users see."""

import ast
import importlib
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

import wdsr_jax
from tests.tiny import write_photo
from wdsr_jax.errors import UserError

PACKAGE = Path(wdsr_jax.__file__).parent


def messages():
    """(file and line, the literal parts) of every `UserError(...)` in the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == UserError.__name__:
                parts = [part.value for part in ast.walk(call) if isinstance(part, ast.Constant)]
                yield f"{path.relative_to(PACKAGE)}:{call.lineno}", [p for p in parts if isinstance(p, str)]


def test_no_message_of_the_package_has_a_second_line():
    found = dict(messages())
    assert len(found) > 100
    assert [place for place, parts in found.items() if any("\n" in part for part in parts)] == []


def test_what_catches_errors_of_files_and_values_lets_it_through():
    """Where a damaged file is caught by its OSError or ValueError, a message for the user must not be."""
    assert UserError.__mro__ == (UserError, Exception, BaseException, object)


@pytest.fixture
def alarm():
    """Whoever waits for 20 seconds has waited for a pipe."""

    def ring(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 20)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def place(kind, path):
    """A pipe, a socket or a device under a name."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        os.symlink("/dev/zero", path)
    else:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
@pytest.mark.parametrize(
    "arguments",
    [
        "convert it.pth out.safetensors",
        "convert it.h5 out.safetensors",
        "convert it.safetensors out.safetensors --to=torch",
        "export --model=it.safetensors --format=stablehlo out",
        "export --model=run --format=stablehlo out",
        "evaluate --model=it.safetensors --scale=2 run",
        "evaluate --model=bicubic --scale=2 run",
        "evaluate --model=run --scale=2 run",
        "upscale it.png",
        "upscale it.mp4",
        "upscale run",
        "upscale photo.png --model=it.safetensors",
        "upscale photo.png --model=run",
        "main --config=it.py --workdir=run",
        "summary --config=it.py",
    ],
)
def test_what_is_no_file_is_refused_at_once_by_every_command(tmp_path, monkeypatch, alarm, arguments, kind):
    monkeypatch.chdir(tmp_path)
    os.mkdir("run")
    write_photo("photo.png", 0)
    for name in ("it.pth", "it.h5", "it.safetensors", "it.png", "it.mp4", "it.py", "run/it.png"):
        place(kind, name)
    place(kind, "run/model.safetensors")
    command, *rest = arguments.split()
    monkeypatch.setattr(sys, "argv", [command, *rest])
    module = importlib.import_module(f"wdsr_jax.{'photo.command' if command == 'upscale' else command}")
    code, message = None, ""
    try:
        code = module.main()
    except UserError as error:
        message = str(error)
    assert code == 1 or message.count("\n") == 0 < len(message)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.safetensors").exists()
