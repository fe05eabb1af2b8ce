"""What is read back from TensorBoard's files, against a reader of the tests' own."""

import subprocess

import numpy as np
import pytest

from tests.tiny import read_points
from wdsr_jax.errors import UserError
from wdsr_jax.training.event_files import open_event_file, read_scalars


def write(workdir, first, last):
    with open_event_file(workdir, first) as write_points:
        for step in range(first, last + 1):
            write_points(step, {"train/loss": 1 / step, "val/psnr": float(step)})
        write_points(last, {}, {"val/image": np.zeros((4, 4, 3), np.uint8)})


def test_a_silent_writer_writes_nothing(tmp_path):
    with open_event_file(tmp_path, 1, silent=True) as write_points:
        write_points(1, {"train/loss": 1.0}, {"val/image": np.zeros((4, 4, 3), np.uint8)})
    assert not list(tmp_path.iterdir())


def test_reads_what_was_written(tmp_path):
    write(tmp_path, 1, 3)
    assert read_scalars(tmp_path) == {
        "train/loss": [(1, 1.0), (2, 0.5), (3, float(np.float32(1 / 3)))],
        "val/psnr": [(1, 1.0), (2, 2.0), (3, 3.0)],
    }
    assert read_scalars(tmp_path / "none") == {}


def test_a_later_start_replaces_what_it_has_written_anew(tmp_path):
    write(tmp_path, 1, 5)
    write(tmp_path, 4, 7)
    points = read_scalars(tmp_path)
    assert [step for step, _ in points["train/loss"]] == [1, 2, 3, 4, 5, 6, 7]
    images = {"val/image"}
    assert points == {tag: values for tag, values in read_points(tmp_path).items() if tag not in images}


def test_a_record_cut_short_is_left_out(tmp_path):
    write(tmp_path, 1, 3)
    (file,) = tmp_path.glob("events.*")
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        for values in read_scalars(tmp_path).values():
            assert [step for step, _ in values] == list(range(1, len(values) + 1))


def test_a_full_disk_is_one_line_and_what_was_written_stands(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        step = 0
        with (
            pytest.raises(
                UserError, match=r"TensorBoard's file cannot be written \(No space left on device\)$"
            ),
            open_event_file(disk, 1) as write_points,
        ):
            for step in range(1, 10_000):
                write_points(step, {"train/loss": float(step)})
        points = read_scalars(disk)["train/loss"]
        assert points == [(i, float(i)) for i in range(1, len(points) + 1)]
        assert step - 2 <= len(points) < step  # the last record is cut short
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)  # the file may be open still
