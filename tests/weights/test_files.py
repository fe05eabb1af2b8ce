"""Places of weights files; what loading and exporting them say of it is tested with these."""

import subprocess
import sys

import pytest

from wdsr_jax.errors import UserError
from wdsr_jax.weights import files
from wdsr_jax.weights.files import check_model, find_weights, list_pretrained, pretrained_for


def test_a_shipped_name_a_workdir_and_a_file(tmp_path, monkeypatch):
    assert find_weights(list_pretrained()[0]).name == f"{list_pretrained()[0]}.safetensors"
    with pytest.raises(UserError, match=rf"^{tmp_path}: no model.safetensors here"):
        find_weights(tmp_path)
    with pytest.raises(UserError, match=r"model.safetensors: no such file or workdir"):
        find_weights(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").touch()
    assert (
        find_weights(tmp_path)
        == find_weights(f"{tmp_path}/model.safetensors")
        == tmp_path / "model.safetensors"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_weights("~") == tmp_path / "model.safetensors"


def test_no_jax_is_imported():
    code = "import sys, wdsr_jax.weights.files; assert not {'jax', 'flax', 'numpy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_families_do_not_mix(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_SHIPPED", tmp_path)
    assert pretrained_for(2) is None
    for name in ("wdsr-a-16-x2", "wdsr-a-16-x3", "wdsr-a-16-photo-x4", "wdsr-a-4-x2"):
        (tmp_path / f"{name}.safetensors").touch()
    assert pretrained_for(2) == pretrained_for(1.5, "clean") == "wdsr-a-16-x2"
    assert pretrained_for(8) == "wdsr-a-16-x3"
    assert pretrained_for(2, "photo") == "wdsr-a-16-photo-x4"
    assert pretrained_for(4, "fast") == "wdsr-a-4-x2"


def test_a_model_is_a_family_that_ships_or_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_SHIPPED", tmp_path)
    (tmp_path / "wdsr-a-4-x2.safetensors").touch()
    check_model(None)
    check_model("fast")
    check_model("wdsr-a-4-x2")
    with pytest.raises(UserError, match=r"^--model=photo: no network of that kind is shipped"):
        check_model("photo")
    with pytest.raises(UserError, match=r"^--model: nothing: no such file.*; or clean, photo, fast$"):
        check_model("nothing")
