"""The HDF5 library in a process of its own: what it says, and what becomes of files that it fails on."""

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.weights.test_keras_files import fixed, save
from wdsr_jax.errors import UserError
from wdsr_jax.weights import hdf5_process, tensors
from wdsr_jax.weights.keras_files import open_keras


def ask(path, *lines):
    """What the process writes, to its end."""
    with open(path, "rb") as file:
        command = [sys.executable, "-P", hdf5_process.__file__, str(file.fileno())]
        asked = "".join(f"{line}\n" for line in lines).encode()
        return subprocess.run(command, input=asked, capture_output=True, pass_fds=[file.fileno()], timeout=60)


def test_it_lists_the_tensors_and_gives_their_bytes(tmp_path):
    save(tmp_path / "w.h5")
    ended = ask(tmp_path / "w.h5", 0, 3)
    line, _, data = ended.stdout.partition(b"\n")
    assert ended.returncode == 0 and not ended.stderr
    assert json.loads(line)["layers"] == ["a", "b"]
    assert json.loads(line)["tensors"][:2] == [["a/kernel", [2, 3], "<f4"], ["a/bias", [3], "<f8"]]
    assert data == np.arange(6, dtype="<f4").tobytes() + np.ones(3, "<f8").tobytes()


def test_it_says_what_is_wrong_in_a_line(tmp_path):
    (tmp_path / "w.h5").write_bytes(b"no HDF5")
    ended = ask(tmp_path / "w.h5")
    assert ended.returncode == 0 and ended.stdout.count(b"\n") == 1 and "error" in json.loads(ended.stdout)


def test_the_limits_are_those_of_the_package():
    assert hdf5_process._MOST_TENSORS == tensors.MAX_TENSORS
    assert hdf5_process._MOST_DIMENSIONS == tensors.MAX_DIMENSIONS
    assert hdf5_process.MEMORY > tensors.MAX_BYTES + 100e6


def test_a_heap_that_the_library_follows_for_ever_ends_in_a_line(tmp_path):
    """The free space behind the names has no length: found by random damage, and HDF5 does not come back."""
    save(tmp_path / "w.h5", names=list)
    data = bytearray((tmp_path / "w.h5").read_bytes())
    heap = data.index(b"GCOL\x01")
    data[heap + 40 : heap + 56] = bytes(16)
    (tmp_path / "w.h5").write_bytes(data)
    began = time.monotonic()
    with pytest.raises(UserError, match="takes more than 6 s for it"), open_keras(tmp_path / "w.h5"):
        pass
    assert time.monotonic() - began < 50


def test_a_name_that_claims_gigabytes_gets_none(tmp_path):
    """The length of a name stands beside it, and is believed before the heap is looked at."""
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs.create("layer_names", ["abcdefg"] * 3, dtype=h5py.string_dtype())
    data = (tmp_path / "w.h5").read_bytes()
    length = (7).to_bytes(4, "little")
    starts = [
        i for i in range(len(data) - 16) if data[i : i + 4] == length and data[i + 4 : i + 6] != b"\0\0"
    ]
    for start in starts:
        changed = data[:start] + (0xFFFFFF00).to_bytes(4, "little") + data[start + 4 :]
        (tmp_path / "w.h5").write_bytes(changed)
        with pytest.raises(UserError, match="damaged, or not weights"), open_keras(tmp_path / "w.h5"):
            pass
    assert starts


def process_of(monkeypatch, source):
    """Another program in the place of the one that reads."""
    monkeypatch.setattr("wdsr_jax.weights.keras_files.inspect.getsource", lambda module: source)


def test_a_process_that_dies_is_a_line(tmp_path, monkeypatch):
    save(tmp_path / "w.h5", names=fixed)
    process_of(monkeypatch, "import os\nos.abort()\n")
    with pytest.raises(UserError, match="the HDF5 library fails on it"), open_keras(tmp_path / "w.h5"):
        pass
    answer = '{"layers": [], "tensors": [["a", [9], "<f4"]]}'
    for ends in ("input()", "sys.stdin.close()"):
        process_of(monkeypatch, f"import sys\nprint('{answer}', flush=True)\n{ends}\n")
        with open_keras(tmp_path / "w.h5") as file, pytest.raises(UserError, match="tensor a cannot be read"):
            file.read("a")


def test_a_line_without_an_end_is_a_line(tmp_path, monkeypatch):
    save(tmp_path / "w.h5")
    process_of(monkeypatch, "print('x' * 10_000_000)")
    monkeypatch.setattr("wdsr_jax.weights.keras_files._LONGEST_ANSWER", 1 << 16)
    monkeypatch.setattr("wdsr_jax.weights.keras_files._LONGEST_WAIT", 0.1)
    with pytest.raises(UserError, match="its names are too long"), open_keras(tmp_path / "w.h5"):
        pass


@pytest.mark.parametrize(("name", "value"), [("executable", ""), ("frozen", True)])
def test_a_program_without_python_says_so(tmp_path, monkeypatch, name, value):
    save(tmp_path / "w.h5")
    monkeypatch.setattr(sys, name, value, raising=False)
    with pytest.raises(UserError, match="a Python of its own"), open_keras(tmp_path / "w.h5"):
        pass


def test_it_is_read_by_a_package_in_a_zip_file(tmp_path):
    save(tmp_path / "w.h5")
    package = Path(hdf5_process.__file__).parents[2]
    with zipfile.ZipFile(tmp_path / "package.zip", "w") as archive:
        for path in (package / "wdsr_jax").rglob("*.py"):
            archive.write(path, path.relative_to(package))
    code = "import sys; from wdsr_jax.weights.keras_files import open_keras\n"
    code += "with open_keras(sys.argv[1]) as file: print(file.read('a/bias'), open_keras.__module__)"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "package.zip")}
    command = [sys.executable, "-P", "-c", code, tmp_path / "w.h5"]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.stdout.startswith("[1. 1. 1.]"), ended.stderr


def test_no_process_is_left(tmp_path):
    save(tmp_path / "w.h5")
    children = f"/proc/{os.getpid()}/task/{os.getpid()}/children"
    with open(children) as file:
        before = file.read()
    with open_keras(tmp_path / "w.h5"), open(children) as file:
        assert file.read() != before
    with open(children) as file:
        assert file.read() == before
