import numpy as np
import pytest
from absl import logging

from wdsr_jax.data.folders import load_folders
from wdsr_jax.errors import UserError
from wdsr_jax.image.files import write_image


def write(folder, names, shape=(8, 8)):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        write_image(folder / f"{name}.png", np.full((*shape, 3), i % 256, np.uint8))


@pytest.mark.parametrize(("count", "held_out"), [(2, 1), (10, 1), (30, 2), (50, 2), (500, 20)])
def test_the_last_images_are_held_out_and_named(tmp_path, monkeypatch, count, held_out):
    lines = []
    monkeypatch.setattr(logging, "info", lambda message, *args: lines.append(message % args))
    names = [f"{i:04d}" for i in range(count)]
    write(tmp_path / "data", names)
    train, val = load_folders(str(tmp_path / "data"), "", 2, tmp_path / "cache")
    assert train.names == names[:-held_out] and val.names == names[-held_out:]
    assert val[0][1][0, 0, 0] == (count - held_out) % 256
    assert any(line.startswith(f"held out for validation: {held_out} of {count} images (") for line in lines)


def test_a_folder_to_validate_on(tmp_path):
    write(tmp_path / "a", "123")
    write(tmp_path / "b", "45", (9, 6))
    train, val = load_folders(str(tmp_path / "a"), str(tmp_path / "b"), 3, tmp_path / "cache")
    assert train.names == ["1", "2", "3"] and val.names == ["4", "5"]
    assert train.lr_shapes[0] == (2, 2) and val.lr_shapes[0] == (3, 2)


def test_div2k_folders_keep_their_own_split_and_lr(tmp_path):
    for split, names in (("train", ("0001", "0002")), ("valid", ("0801",))):
        write(tmp_path / "data" / f"DIV2K_{split}_HR", names)
        lr = tmp_path / "data" / f"DIV2K_{split}_LR_bicubic" / "X2"
        write(lr, [f"{name}x2" for name in names], (4, 4))
        write_image(lr / f"{names[-1]}x2.png", np.full((4, 4, 3), 99, np.uint8))
    train, val = load_folders(str(tmp_path / "data"), "", 2, tmp_path / "cache")
    assert train.names == ["0001", "0002"] and val.names == ["0801"]
    assert (train[1][0] == 99).all() and (val[0][0] == 99).all() and (train[0][0] == 0).all()


def test_one_image_cannot_be_split(tmp_path):
    write(tmp_path / "data", "1")
    with pytest.raises(UserError, match=r"a single image; .*--config.data.val_root=DIR"):
        load_folders(str(tmp_path / "data"), "", 2, tmp_path / "cache")


def test_the_root_must_be_given_and_exist(tmp_path):
    with pytest.raises(UserError, match=r"--config\.data\.root=DIR"):
        load_folders("", "", 2, tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        load_folders(str(tmp_path / "none"), "", 2, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_image_does_not_shift_the_split(tmp_path, monkeypatch):
    monkeypatch.setattr(logging, "warning", lambda *args: None)
    write(tmp_path / "data", "123")
    (tmp_path / "data" / "3.png").write_text("broken")
    train, val = load_folders(str(tmp_path / "data"), "", 2, tmp_path / "cache")
    assert train.names == ["1"] and val.names == ["2"]
