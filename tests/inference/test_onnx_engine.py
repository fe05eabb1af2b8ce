"""ONNX Runtime in place of XLA: the same images, when it is taken, and what it cannot do."""

import sys

import flax.linen as nn
import jax
import numpy as np
import pytest

from tests.weights.networks import network, noise
from wdsr_jax.errors import UserError
from wdsr_jax.inference import onnx_engine
from wdsr_jax.inference.onnx_engine import apply_session, find_session
from wdsr_jax.inference.tiles import upscale
from wdsr_jax.models.flow import sampler_of

pytestmark = pytest.mark.usefixtures("compile_cache")


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """No sessions."""
    monkeypatch.setattr(onnx_engine, "_sessions", {})


@pytest.fixture
def runtime():
    pytest.importorskip("onnx", reason="needs the extra onnx")
    return pytest.importorskip("onnxruntime", reason="needs the extra onnx")


@pytest.mark.parametrize("name", ["wdsr_a", "wdsr_b"])
@pytest.mark.parametrize("options", [{}, dict(tile=23), dict(ensemble=True)], ids=str)
def test_images_are_those_of_xla(runtime, name, options):
    module, params = network(name=name, scale=2)
    for size in [(1, 1), (19, 40), (70, 31)]:
        lr = noise(*size, 3)
        expected = upscale(module, params, lr, engine="xla", **options)
        done = []
        sr = upscale(module, params, lr, engine="onnx", on_pixels=done.append, **options)
        np.testing.assert_allclose(sr, expected, atol=1e-5, rtol=0)
        assert sum(done) == size[0] * size[1]


def test_a_network_from_outside_is_left_to_xla(runtime):
    class Outside(nn.Module):
        scale: int = 1
        radius: int = 1

        @nn.compact
        def __call__(self, x):
            return nn.Conv(3, (3, 3))(x)

    module = Outside()
    params = module.init(jax.random.key(0), noise(1, 6, 7, 3))["params"]
    with pytest.raises(UserError, match=r"\(it is from outside wdsr_jax\)$"):
        find_session(module, params, "onnx")
    assert find_session(module, params, None) is None


def test_by_default_it_is_taken_on_cpus_where_it_is_installed(runtime, monkeypatch):
    module, params = network(name="wdsr_a", scale=2)
    assert find_session(module, params, "xla") is None
    session = find_session(module, params, None)
    assert session is not None and find_session(module, params, "onnx") is session
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert find_session(module, params, None) is None


def test_few_sessions_are_kept(runtime, monkeypatch):
    monkeypatch.setattr(onnx_engine, "_MOST_SESSIONS", 2)
    for filters in (1, 2, 3):
        find_session(*network(name="wdsr_a", scale=2, filters=filters), "onnx")
    assert len(onnx_engine._sessions) == 1


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    module, params = network(name="wdsr_a", scale=2)
    assert find_session(module, params, None) is None
    with pytest.raises(UserError, match=r"^engine onnx needs pip install 'wdsr_jax\[onnx\]'"):
        find_session(module, params, "onnx")
    with pytest.raises(ValueError, match="engine must be one of xla, onnx, not 'tpu'"):
        find_session(module, params, "tpu")


@pytest.mark.parametrize(
    "config, reason",
    [
        (dict(name="srcnn_915"), r"no ONNX for what .* does \(slice\)"),
        (dict(name="edrn", blocks=1), "means over the whole image"),
        (dict(name="wdsr_flow"), "or draws samples"),
    ],
    ids=lambda value: value.get("name") if isinstance(value, dict) else "",
)
def test_what_it_cannot_compute_is_left_to_xla(runtime, config, reason):
    module, params = network(scale=1 if config["name"] == "edrn" else 2, **config)
    module = sampler_of(module) if config["name"] == "wdsr_flow" else module
    assert find_session(module, params, None) is None
    with pytest.raises(UserError, match=rf"^engine onnx cannot .*, engine xla can \(.*{reason}.*\)$"):
        find_session(module, params, "onnx")


def test_a_caller_that_stops_early_waits_for_nothing_more(runtime):
    module, params = network(name="wdsr_a", scale=2)
    drawn = []

    def images():
        for image in [noise(5, 6, 3)] * 9:
            drawn.append(image)
            yield image

    outputs = apply_session(find_session(module, params, "onnx"), images())
    assert next(outputs).shape == (10, 12, 3)
    outputs.close()
    assert len(drawn) == 2
    assert list(apply_session(find_session(module, params, "onnx"), [])) == []
