"""Exit codes, which log lines people see, and pipes that are closed early."""

import io
import logging
import os
import re
import sys
import time

import pytest
from absl import logging as absl_logging

import wdsr_jax
from wdsr_jax.errors import UserError
from wdsr_jax.system.console import ArgumentParser, Progress, number_from, run_command, set_up_logging

PACKAGE = os.path.dirname(wdsr_jax.__file__)


def exit_code(main):
    with pytest.raises(SystemExit) as ended:
        run_command(main)
    return ended.value.code


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize("returned, code", [(None, 0), (0, 0), (3, 3), (143, 143)])
def test_what_main_returns_is_the_exit_code(returned, code):
    assert exit_code(lambda: returned) == code


def test_a_users_mistake_is_one_line(capsys):
    assert exit_code(raising(UserError("x.png: damaged"))) == 1
    assert capsys.readouterr() == ("", "error: x.png: damaged\n")
    assert exit_code(raising(UserError("x.png: a library says\nthis\nand that"))) == 1
    assert capsys.readouterr().err == "error: x.png: a library says this and that\n"


def test_a_number_of_hundreds_of_digits_is_shortened(capsys):
    assert exit_code(raising(UserError(f"--width={400 * '9'}: too large"))) == 1
    assert capsys.readouterr().err == f"error: --width={20 * '9'}...: too large\n"


def test_numbers_from_and_to():
    parser = ArgumentParser()
    parser.add_argument("--count", type=number_from(1, 9))
    assert parser.parse_args(["--count=9"]).count == 9
    for text, message in (
        ("0", "must be a whole number from 1 to 9, not 0"),
        ("x", "invalid int value: 'x'"),
    ):
        with pytest.raises(UserError, match=message):
            parser.parse_args([f"--count={text}"])


def test_an_interrupt_ends_at_once_in_one_line(capsys, monkeypatch):
    at_once = []
    monkeypatch.setattr(os, "_exit", lambda code: at_once.append(code) or sys.exit(code))
    assert exit_code(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "interrupted\n")
    assert exit_code(raising(SystemExit(143))) == 143
    assert at_once == [130, 143]
    assert exit_code(raising(SystemExit(0))) == 0  # after --help
    assert exit_code(lambda: 143) == 143  # one that has unwound by itself
    assert at_once == [130, 143]


def test_a_mistake_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_command(raising(ZeroDivisionError()))


def log_from(file, log, *args):
    """Calls `log` as code in `file` would: absl and logging find out by the code object."""
    exec(compile("log(*args)", file, "exec"), {"log": log, "args": args})


def test_our_log_lines_are_plain_and_those_of_others_hidden(capsys):
    # A checkout that is named like the package, with the virtual environment in it.
    others = "/home/me/wdsr_jax/.venv/lib/python3.11/site-packages/orbax/checkpoint.py"
    ours = os.path.join(PACKAGE, "data", "cache.py")

    def main():
        for log in (absl_logging.info, logging.getLogger("tensorboardX").info):
            log_from(others, log, "hidden")
        for log in (absl_logging.warning, logging.getLogger("tensorboardX").warning):
            log_from(others, log, "hidden")
        log_from(others, logging.getLogger("jax._src.xla_bridge").info, "hidden")
        log_from(ours, absl_logging.info, "%d images", 3)
        log_from(ours, absl_logging.warning, "left out: %s", "x.png")
        log_from(others, absl_logging.error, "disk on fire")
        log_from(others, logging.getLogger("tensorboardX").error, "so is the board")
        log_from(others, logging.getLogger("jax._src.xla_bridge").warning, "no GPU used")

    assert exit_code(main) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "3 images",
        "warning: left out: x.png",
        "error: disk on fire",
        "error: so is the board",
        "warning: no GPU used",
    ]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_pipe_ends_in_silence(monkeypatch, tmp_path, stream):
    """As in `... | head -1`: the reader is gone before all is written."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(tmp_path / "other", "w+") as other:
        monkeypatch.setattr(sys, "stdout", other)
        monkeypatch.setattr(sys, "stderr", other)
        pipe = os.fdopen(writer, "w")
        monkeypatch.setattr(sys, stream, pipe)

        def main():
            print("a line", file=pipe, flush=stream == "stderr")

        assert exit_code(main) == 141
        pipe.close()  # what Python does at exit; it would raise BrokenPipeError
        monkeypatch.undo()
    assert (tmp_path / "other").read_text() == ""


@pytest.mark.parametrize("argv", [["--scale=abc"], [], ["--scale=2", "--frobnicate"]])
def test_a_wrong_command_line_is_one_line(argv, capsys):
    parser = ArgumentParser(prog="test")
    parser.add_argument("--scale", type=int, required=True)
    assert exit_code(lambda: parser.parse_args(argv)) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "--scale" in err or "--frobnicate" in err
    assert err.endswith("; --help says more\n")


def test_a_file_that_looks_like_an_option_is_said_to_be_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-dash.jpg").touch()
    with pytest.raises(UserError, match=r"if the file is meant, type \./-dash\.jpg; --help"):
        ArgumentParser().parse_args(["-dash.jpg"])


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_in_a_terminal_is_a_bar_with_rate_and_time_left(monkeypatch):
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(4, "frames", "a.mp4") as progress:
        progress.update()
        time.sleep(0.15)  # tqdm draws every tenth of a second
        progress.update()
    assert re.search(
        r"\ra\.mp4:  50%\|.*\| 2/4 frames \[00:00<00:00, *[\d.]+ frames/s\]", terminal.getvalue()
    )
    assert (progress.done, progress.total) == (2, 4)
    with Progress(2, "frames") as progress:
        for _ in range(5):  # the number that a file gives may be a guess
            progress.update()
            time.sleep(0.11)
    assert re.search(r" (3/3|4/4|5/5) frames \[", terminal.getvalue())


def test_progress_in_a_log_is_a_line_now_and_then(monkeypatch, capfd):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    set_up_logging()
    with Progress(4000, "frames", "a.mp4") as progress:
        for _ in range(4000):
            now[0] += 0.5
            progress.update()
    lines = capfd.readouterr().err.split("\n")[:-1]
    assert lines[0] == "a.mp4: 20 of 4000 frames (0%), 2 frames/s, 33:10 left"
    assert 30 < len(lines) < 90  # 2000 seconds: every 10, later every minute or sooner
    assert not any("\r" in line for line in lines)
    with Progress(4, "steps", "training", initial=2, keep=True) as progress:
        now[0] += 4
        progress.note = "loss 0.5"
        progress.update(2)
    assert capfd.readouterr().err == "training: 4 of 4 steps (100%), 0.5 steps/s, 00:00 left, loss 0.5\n"
    with Progress(None, "frames") as progress:
        now[0] += 11
        progress.update(5.5)
    assert capfd.readouterr().err == "6 frames, 0.5 frames/s\n"
    with Progress(0, "MP") as progress:
        now[0] += 11
        progress.update(1)
    assert capfd.readouterr().err == ""
