"""The lock of a folder, which one process at a time holds."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# What flock says where the file system has no locks (EBADF: NFS, of a folder itself).
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL, errno.EBADF}


@contextmanager
def lock_folder(
    folder: str | os.PathLike,
    name: str | None = None,
    *,
    on_busy: Callable[[], None] | None = None,
) -> Iterator[bool]:
    """Holds the lock of a folder in the `with` block; waits for it where another process holds it.

    The lock ends with the block, or with the process, however that ends.

    Args:
        folder: a folder that exists.
        name: the empty file in it that is locked, and stays; None locks the folder itself, which NFS cannot.
        on_busy: called before waiting for another process; may raise instead of waiting.

    Yields:
        True; False where the file system has no locks, and nothing keeps other processes out.

    Raises:
        OSError: the folder is missing, or the file cannot be made.
    """
    if name is None:
        handle = os.open(folder, os.O_RDONLY)
    else:  # for writing: NFS has no exclusive lock of a file that is open for reading alone
        handle = os.open(Path(folder, name), os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        yield _lock(handle, on_busy)
    finally:
        os.close(handle)  # which unlocks it


def _lock(handle: int, on_busy: Callable[[], None] | None) -> bool:
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_busy:
                on_busy()
            fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True
