import errno
import fcntl
import subprocess
import sys

import pytest

from wdsr_jax.errors import UserError
from wdsr_jax.system.locks import lock_folder

HOLD = """
import sys, time
from wdsr_jax.system.locks import lock_folder

with lock_folder(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path`."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def refuse():
    raise UserError("busy")


def test_one_process_at_a_time(tmp_path, holder):
    with pytest.raises(UserError, match="busy"), lock_folder(tmp_path, on_busy=refuse):
        raise AssertionError("two hold the lock")
    with lock_folder(tmp_path, "another.lock", on_busy=refuse) as locked:
        assert locked


def test_waits_for_another_process_and_ends_with_it(tmp_path, holder):
    said = []

    def kill_holder():
        said.append("waiting")
        holder.kill()

    with lock_folder(tmp_path, on_busy=kill_holder) as locked:
        assert locked and holder.wait(10) != 0
    assert said == ["waiting"]


@pytest.mark.parametrize("name", [None, "name.lock"])
def test_ends_with_the_block(tmp_path, name):
    for error in (None, ValueError):
        try:
            with lock_folder(tmp_path, name, on_busy=refuse) as locked:
                assert locked
                if error:
                    raise error
        except ValueError:
            assert error
    assert [path.name for path in tmp_path.iterdir()] == [name][: name is not None]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL])
def test_works_where_the_file_system_has_no_locks(tmp_path, monkeypatch, number):
    def flock(handle, flags):
        raise OSError(number, "no locks")

    monkeypatch.setattr(fcntl, "flock", flock)
    with lock_folder(tmp_path, on_busy=refuse) as locked:
        assert not locked


def test_passes_on_other_errors(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError), lock_folder(tmp_path / "missing"):
        pass

    def flock(handle, flags):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="broken"), lock_folder(tmp_path):
        pass
