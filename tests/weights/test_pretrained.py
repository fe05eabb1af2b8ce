"""Each shipped file is what was measured: its checksum, and its PSNR on a photograph not trained on."""

import hashlib
import json

import jax
import pytest

import wdsr_jax
from benchmarks.ship import SHIPPED, STATED, SUMS, chelsea, largest, part_of, psnr_of
from wdsr_jax.weights.safetensors_files import open_safetensors

# PSNR-Y on chelsea.png and on a part of it, measured when the weights were added.
TABLE = json.loads(STATED.read_text())

pytestmark = pytest.mark.usefixtures("compile_cache")


def test_tables_are_complete():
    assert sorted(TABLE) == wdsr_jax.list_pretrained()


def test_checksums():
    sums = dict(reversed(line.split()) for line in SUMS.read_text().splitlines())
    files = {path.name: path.read_bytes() for path in SHIPPED.glob("*.safetensors")}
    assert sums == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert all(len(content) <= largest(name) for name, content in files.items())


@pytest.mark.parametrize("name", TABLE)
def test_kernels_are_small_and_the_network_is_of_its_name(name):
    with open_safetensors(SHIPPED / f"{name}.safetensors") as file:
        assert {head.dtype.name for key, head in file.heads.items() if key.endswith("kernel")} == {"float16"}
        if not name.startswith("wdsr-a-16-x"):  # the first ones say nothing of their training
            assert file.metadata["licence"] == "Apache-2.0" and "photographs" in file.metadata["trained_on"]
            assert int(file.metadata["steps"]) > 0 and "Set5" in json.loads(file.metadata["scores"])
    model, params = wdsr_jax.load_pretrained(name)
    assert name.endswith(f"-x{model.scale}")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}


@pytest.mark.parametrize(
    "name", [name if name.endswith("x4") else pytest.param(name, marks=pytest.mark.ci) for name in TABLE]
)
def test_psnr_of_a_part(name):
    assert psnr_of(name, part_of(chelsea())) == pytest.approx(TABLE[name]["part"], abs=0.005)


@pytest.mark.ci
@pytest.mark.parametrize("name", TABLE)
def test_stated_psnr(name):
    assert psnr_of(name, chelsea()) == pytest.approx(TABLE[name]["chelsea"], abs=0.005)
