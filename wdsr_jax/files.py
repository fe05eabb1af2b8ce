"""Writing files whole."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wdsr_jax.errors import UserError


def write_whole(path: str | os.PathLike, data: bytes) -> None:
    """Writes `data` to `path`; the file appears whole or not at all.

    Raises:
        UserError: the folder is missing, read-only or full, or `path` is a folder.
    """
    try:
        replace_file(path, data)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None


def replace_file(path: str | os.PathLike, data: bytes) -> None:
    """`write_whole` for callers with words of their own for an OSError."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Gives an empty file beside `path` that takes its place at the end, or is removed after an exception.

    Raises:
        OSError: the folder is missing, read-only or full, or `path` is a folder.
    """
    # mkstemp, not a fixed name: two processes may write the same file.
    handle, name = tempfile.mkstemp(dir=Path(path).parent, suffix=".tmp")
    temporary = Path(name)
    try:
        os.close(handle)
        yield temporary
        temporary.chmod(0o644)  # mkstemp makes it private
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
