"""Files opened, written whole or not at all, errors that name their path, and the folder of caches."""

import errno
import fcntl
import functools
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from wdsr_jax.errors import UserError

_JUST_NOW = 60  # seconds


def default_cache_dir() -> Path:
    """`$XDG_CACHE_HOME/wdsr_jax`, or `~/.cache/wdsr_jax` where that is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wdsr_jax"


@contextmanager
def path_errors(path: str | os.PathLike, what: str = "cannot be written", advice: str = "") -> Iterator[None]:
    """Turns an OSError in the `with` block into a UserError: `PATH: WHAT (No space left on device); ADVICE`.

    Args:
        path: the file or folder that the block works on, or the argument that names it (`--out=FILE`).
        what: what then cannot be done.
        advice: what the user may do about it; empty to say nothing.

    Raises:
        UserError: the block raised an OSError. Other exceptions pass.
    """
    try:
        yield
    except OSError as error:
        reason = f"{path}: {what} ({error.strerror or error})"
        raise UserError(f"{reason}; {advice}" if advice else reason) from None


def open_regular(path: str | os.PathLike) -> BufferedReader:
    """Opens a regular file for reading; all that users name is opened here.

    A pipe would wait for its writer, a device may never end, and opening one can have effects. So what is no
    regular file is refused before it is opened, and what has taken its place since, before it is read.

    Raises:
        OSError: there is no such file, or none that may be read, or it is a folder, pipe, socket or device.
    """
    try:
        _check_regular(os.stat(path))
        # O_NONBLOCK: does not wait for a pipe's writer. It means nothing for a regular file.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except ValueError:  # a NUL in the name
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None
    try:
        _check_regular(os.fstat(descriptor))
        return open(path, "rb", opener=lambda *_: descriptor)  # which so has the path as its name
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | os.PathLike) -> bytes:
    """The content of a regular file; OSError as `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a regular file")


def write_whole(path: str | os.PathLike, data: bytes) -> None:
    """Writes `data` to `path`; the file appears whole or not at all.

    Raises:
        UserError: the folder is missing, read-only or full, or `path` is a folder.
    """
    with path_errors(path), replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file to write in the `with` block, which takes the place of `path` once the block has ended well.

    Whatever ends the block early, Ctrl-C too, leaves `path` as it was and nothing beside it. What SIGKILL
    leaves, the next process that writes there removes. A link is written through. The umask decides who may
    read the file, as for any new file. What a file system does not have (CIFS and exFAT know neither modes
    nor fsync) is done without.

    Raises:
        OSError: the folder is missing, read-only or full, or `path` is a folder.
    """
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    _remove_leftovers(folder)
    # Not a fixed name: two processes may write the same file.
    temporary = os.path.join(folder, f"tmp{secrets.token_hex(8)}.tmp")
    with open(temporary, "xb") as file:  # of the name given, for writers that open it by themselves
        try:
            with suppress(OSError):  # for `_remove_leftovers`
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file
            file.flush()
            with suppress(OSError):  # a power cut could leave an empty file otherwise, which looks done
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


@functools.cache
def _remove_leftovers(folder: str) -> None:
    """Removes what killed runs have left of `replacing` in a folder; once in a process.

    That is what nobody holds the lock of, and was not made just now, before its maker locks it.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if re.fullmatch(r"tmp[0-9a-f]{16}\.tmp", entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError), open(entry.path, "r+b") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if time.time() - os.fstat(file.fileno()).st_mtime > _JUST_NOW:
                        os.unlink(entry.path)


def check_writable(path: Path, argument: str) -> None:
    """Finds out before an hour's work, not after it, that its results could not be written.

    Args:
        path: of the file to be written.
        argument: what to call it in the message, such as `--out=FILE`.

    Raises:
        UserError: there is no such folder or it is read-only, or `path` is a folder.
    """
    with path_errors(argument):
        if path.is_dir():
            raise UserError(f"{argument}: is a folder; give the name of a file")
        if not path.absolute().parent.is_dir():
            raise UserError(f"{argument}: no such folder")
        with tempfile.TemporaryFile(dir=path.absolute().parent):
            pass
