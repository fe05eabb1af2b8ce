"""A state dict of the official code, and ONNX."""

import pytest
import safetensors.numpy

from tests.weights.other_projects import saved
from wdsr_jax.weights.conversion import convert_to_torch


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """The bytes of a state dict of the official code of 2020, x3, 8 filters, 2 blocks, expansion 3."""
    folder = tmp_path_factory.mktemp("official")
    saved(folder / "ours.safetensors")
    convert_to_torch(folder / "ours.safetensors", folder / "theirs.safetensors")
    return (folder / "theirs.safetensors").read_bytes()


@pytest.fixture
def state(official):
    """Its tensors by name."""
    return safetensors.numpy.load(official)


@pytest.fixture
def onnx():
    """The package; skips the test where it or its runtime is missing."""
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    return pytest.importorskip("onnx", reason="needs the extra onnx")
