"""A minute of `python -m tests.fuzz`, and whether it would see what it looks for."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import CPU_SECONDS, MEMORY, Result, faults

ROOT = Path(__file__).parents[2]
GOOD = Result(1, "warning: in/odd.png: cannot be read", 1.0, 1e8)


@pytest.mark.slow
def test_a_minute_of_odd_files(tmp_path):
    command = [sys.executable, "-m", "tests.fuzz", "--seconds=60", f"--keep={tmp_path}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout
    assert "| all | " in result.stdout


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"code": -11}, "exit code -11"),
        ({"code": 3}, "exit code 3"),
        ({"seconds": 11.0}, "11.0 s of CPU"),
        ({"memory": 2e9}, "2000 MB"),
        ({"text": GOOD.text + "\nTraceback"}, "a fault of the program"),
        ({"text": GOOD.text + "\x1b[2J"}, "no plain text"),
        ({"text": "odd.png"}, "fails without a word"),
        ({"text": "warning: no"}, "neither done nor named"),
    ],
)
def test_what_is_wrong_with_a_case(tmp_path, changed, fault):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/odd.png").write_bytes(b"odd")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/good.png").write_bytes(b"cut short")

    def found(result):
        return "; ".join(faults(["upscale"], tmp_path, result, CPU_SECONDS, MEMORY))

    assert "good.png is not whole" in found(GOOD)
    (tmp_path / "out/good.png").unlink()
    assert found(GOOD) == "the undamaged file is not done"
    assert fault in found(GOOD._replace(**changed))
    (tmp_path / "out/tmp0123456789abcdef.tmp").touch()
    assert "left behind" in found(GOOD)
