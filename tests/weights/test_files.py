"""Places of weights files; what loading and exporting them say of it is tested with these."""

import subprocess
import sys

import pytest

from wdsr_jax.errors import UserError
from wdsr_jax.weights.files import find_weights, list_pretrained


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
