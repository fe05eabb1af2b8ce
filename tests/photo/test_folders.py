"""What is taken from a folder, and what is said of the rest."""

import os

import pytest

from wdsr_jax.photo import folders
from wdsr_jax.photo.folders import is_taken, kind_left_out, pictures_in


def search(folder, out=""):
    """(pictures, failures, left out) of a folder, by names in it."""
    failures, left_out = [], []
    found = pictures_in(
        folder,
        str(out),
        lambda path, reason: failures.append((os.path.relpath(path, folder), reason)),
        lambda path, kind, is_picture: left_out.append((os.path.relpath(path, folder), kind, is_picture)),
    )
    return [os.path.relpath(path, folder) for path in found], failures, left_out


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_files_come_in_order_and_hidden_ones_not_at_all(tmp_path):
    touch(
        tmp_path, "b.jpe", "a.PNG", "sub/c.mpo", "sub/deeper/d.jfif", ".hidden/e.png", "._a.png", "clip.mp4"
    )
    assert search(tmp_path) == (["a.PNG", "b.jpe", "clip.mp4", "sub/c.mpo", "sub/deeper/d.jfif"], [], [])


def test_what_is_left_out_is_named_by_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "find_spec", lambda name: None)  # no plug-in is installed
    touch(tmp_path, "a.png", "b.HEIC", "c.jxl", "d.cr2", "e.txt", "README")
    found, failures, left_out = search(tmp_path)
    assert (found, failures) == (["a.png"], [])
    assert left_out == [
        ("README", "without an ending", False),
        ("b.HEIC", "HEIC, which pip install 'wdsr_jax[heif]' reads", True),
        ("c.jxl", "JPEG XL, which pip install 'wdsr_jax[jxl]' reads", True),
        ("d.cr2", "camera raw", True),
        ("e.txt", ".txt", False),
    ]


def test_a_plug_in_is_used_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(folders, "find_spec", lambda name: name == "pillow_heif" or None)
    assert is_taken("a.heic") and is_taken("A.HIF") and not is_taken("a.jxl")
    assert kind_left_out("a.jxl")[1]


def test_linked_folders_are_followed_once(tmp_path):
    touch(tmp_path, "in/a.png", "elsewhere/b.png")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/twice").symlink_to(tmp_path / "elsewhere")
    assert search(tmp_path / "in") == (["a.png", "link/b.png"], [], [])


def test_the_folder_of_results_is_not_searched(tmp_path):
    touch(tmp_path, "a.png", "sub/big/a.png", "sub/b.png")
    assert search(tmp_path, tmp_path / "sub/big")[0] == ["a.png", "sub/b.png"]


def test_what_is_no_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nothing")
    (tmp_path / "circle.jpg").symlink_to(tmp_path / "circle.jpg")
    touch(tmp_path, "a.png")
    found, failures, left_out = search(tmp_path)
    assert (found, left_out) == (["a.png"], [])
    assert [name for name, _ in failures] == ["broken.jpg", "circle.jpg", "pipe.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    touch(tmp_path, "a.png", "closed/b.png")
    (tmp_path / "closed").chmod(0)
    try:
        assert search(tmp_path)[:2] == (["a.png"], [("closed", "cannot be read (Permission denied)")])
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_a_folder_that_is_gone_is_named(tmp_path, monkeypatch):
    touch(tmp_path, "a.png", "gone/b.png")
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("gone"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert search(tmp_path)[:2] == (["a.png"], [("gone", "cannot be read (Permission denied)")])
