import fcntl
import os
import socket
import threading

import pytest

from wdsr_jax.errors import UserError
from wdsr_jax.system.files import (
    default_cache_dir,
    open_regular,
    path_errors,
    read_regular,
    replacing,
    write_whole,
)


def test_path_errors_name_the_path_and_the_reason():
    with pytest.raises(UserError) as caught, path_errors("some/file"):
        raise OSError(28, "No space left on device")
    assert str(caught.value) == "some/file: cannot be written (No space left on device)"
    with pytest.raises(UserError) as caught, path_errors("--out=x", "cannot be read", "take another"):
        raise OSError("without a number")
    assert str(caught.value) == "--out=x: cannot be read (without a number); take another"


def test_path_errors_let_other_exceptions_pass():
    for error in (UserError("of the block"), ValueError("of the block"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, path_errors("some/file"):
            raise error
        assert caught.value is error


def test_writes_whole_files(tmp_path):
    path = tmp_path / "file"
    for data in (b"first", b"", b"second" * 1000):
        write_whole(path, data)
        assert path.read_bytes() == data
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("missing", ["folder/file", "."])
def test_says_which_file_cannot_be_written(tmp_path, missing):
    with pytest.raises(UserError, match=f"^{tmp_path / missing}: cannot be written \\(.+\\)$"):
        write_whole(tmp_path / missing, b"data")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_ends_the_writing_early_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with pytest.raises(error), replacing(path) as file:
        file.write(b"half of")
        raise error
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["file"]


def test_cache_dir_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "wdsr_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache_dir() == tmp_path / "home" / ".cache" / "wdsr_jax"


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path):
    left, fresh, written, other = (
        tmp_path / name
        for name in (
            "tmp0123456789abcdef.tmp",
            "tmp1123456789abcdef.tmp",
            "tmp2123456789abcdef.tmp",
            "tmpfile.tmp",
        )
    )
    for path in (left, fresh, written, other):
        path.write_bytes(b"half of")
    for path in (left, written, other):
        os.utime(path, (0, 0))
    with open(written, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as a process that is writing does
        write_whole(tmp_path / "file", b"data")
    assert {path.name for path in tmp_path.iterdir()} == {fresh.name, written.name, other.name, "file"}


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere/file")
    write_whole(tmp_path / "link", b"data")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "elsewhere/file").read_bytes() == b"data"
    assert os.listdir(tmp_path / "elsewhere") == ["file"]


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_decides_who_may_read(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "file", b"data")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_a_file_system_without_modes_locks_and_fsync_will_do(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(1, "Operation not permitted")

    for module, name in ((os, "fsync"), (os, "chmod"), (os, "utime"), (os, "link"), (fcntl, "flock")):
        monkeypatch.setattr(module, name, refuse)
    write_whole(tmp_path / "file", b"data")
    assert (tmp_path / "file").read_bytes() == b"data"


def test_a_regular_file_is_opened_and_read(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with open_regular(tmp_path / "link") as file:
        assert file.read(3) == b"con" and os.fstat(file.fileno()).st_size == 7
    assert read_regular(str(tmp_path / "file")) == b"content"


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder", "link", "nothing", "null"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "it"
    said = "not a regular file"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        server.bind(os.path.relpath(path))  # a long path would not fit
        server.close()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
        said = "Is a directory"
    elif kind == "link":
        path.symlink_to(path)
        said = "Too many levels of symbolic links"
    else:
        path = path if kind == "nothing" else "nul\0byte"
        said = "No such file or directory"
    with pytest.raises(OSError, match=said):
        open_regular(path)
    with (
        pytest.raises(UserError, match=rf"it: cannot be read \({said}\)$"),
        path_errors("it", "cannot be read"),
    ):
        read_regular(path)


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path, monkeypatch):
    """Between looking and opening: the look is told of another file, the descriptor tells the truth."""
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    status, ended = os.stat(tmp_path / "file"), threading.Event()
    monkeypatch.setattr(os, "stat", lambda path: status)
    opened = len(os.listdir("/proc/self/fd"))

    def attempt():
        with pytest.raises(OSError, match="not a regular file"):
            open_regular(tmp_path / "pipe")
        ended.set()

    threading.Thread(target=attempt, daemon=True).start()
    assert ended.wait(10)
    assert len(os.listdir("/proc/self/fd")) == opened
