"""Which network upscales by a factor."""

import subprocess
import sys

import numpy as np
import pytest

from tests.numpy_wdsr import random_params
from tests.photo.conftest import MODEL
from tests.photo.samples import photo_file
from tests.photo.shipped import CLEAN, FAST, ship
from wdsr_jax.errors import UserError
from wdsr_jax.models import create_model
from wdsr_jax.photo import network
from wdsr_jax.photo.network import choose_network
from wdsr_jax.weights.store import save_weights


@pytest.mark.parametrize(
    "factor, scale", [(0.5, None), (1, None), (1.1, 2), (2, 2), (2.0001, 2), (2.5, 3), (3.4, 4), (9, 4)]
)
def test_the_shipped_network_of_the_next_larger_scale_is_taken(factor, scale):
    chosen = choose_network(None, factor)
    assert (chosen and chosen.scale) == scale


def test_a_family_is_taken_by_its_word(monkeypatch, tmp_path):
    ship(monkeypatch, tmp_path / "shipped", CLEAN, FAST, "wdsr-a-4-x4")
    for model, factor, name in (("clean", 3, CLEAN), ("fast", 2, FAST), ("fast", 3, "wdsr-a-4-x4")):
        assert choose_network(model, factor) is network.load_network(name, None, None, samples=False)
    assert choose_network("fast", 1) is None
    with pytest.raises(UserError, match=r"^no photo network is shipped with this package; name yours with"):
        choose_network("photo", 2)


def test_without_shipped_weights_it_says_how_to_get_some(upscale, monkeypatch, tmp_path):
    photo_file("a.png")
    ship(monkeypatch, tmp_path / "shipped")
    with pytest.raises(
        UserError, match=r"^no weights are shipped with this package; name yours with --model="
    ):
        upscale("a.png", "--out=b.png", model=None)


@pytest.fixture
def load(monkeypatch, tmp_path):
    """`load_network` by ONNX Runtime as in a new process, with a cache folder of its own."""
    pytest.importorskip("onnx", reason="needs the extra onnx")
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(network, "enable_compilation_cache", lambda: None)
    return lambda path, engine="onnx": network.load_network.__wrapped__(str(path), engine=engine)


LR = np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8)


def test_a_second_process_takes_the_graph_from_disk(load, weights, monkeypatch, tmp_path):
    first = load(weights)
    (kept,) = (tmp_path / "cache/wdsr_jax/onnx").iterdir()
    others = tmp_path / "others.safetensors"  # which are not in the cache
    save_weights(others, MODEL, random_params(create_model(MODEL), seed=1))
    monkeypatch.setitem(sys.modules, "wdsr_jax.inference.onnx_graph", None)
    monkeypatch.setitem(sys.modules, "wdsr_jax.weights.store", None)
    second = load(weights)
    assert second[:2] == first[:2] == (2, create_model(MODEL).radius) and second.module is None
    np.testing.assert_array_equal(second.upscale(LR, noise=None, tilings=None), first.upscale(LR))
    with pytest.raises(ImportError):
        load(others)
    assert [*kept.parent.iterdir()] == [kept]


def test_a_second_command_imports_little(load, weights, tmp_path):
    photo_file(tmp_path / "a.png")
    command = ["-m", "wdsr_jax.upscale", str(tmp_path / "a.png"), f"--model={weights}", "--overwrite"]
    for options in ([], ["-X", "importtime"]):  # the cache folder is that of `load`
        done = subprocess.run([sys.executable, *options, *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert {"numpy", "onnxruntime"} <= imported
    assert not imported & {
        "jax",
        "jaxlib",
        "flax",
        "jaxtyping",
        "scipy",
        "av",
        "onnx",
        "orbax",
        "optax",
        "grain",
    }


@pytest.mark.parametrize("damaged", [slice(-100), slice(0)], ids=["cut", "empty"])
def test_a_damaged_graph_is_made_anew(load, weights, tmp_path, damaged):
    before = load(weights).upscale(LR)
    (kept,) = (tmp_path / "cache/wdsr_jax/onnx").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[damaged])
    np.testing.assert_array_equal(load(weights).upscale(LR), before)
    assert kept.read_bytes() == whole


def test_the_oldest_graphs_go(load, weights, monkeypatch, tmp_path):
    monkeypatch.setattr(network, "_MOST_KEPT", 2)
    for seed in range(3):
        path = tmp_path / f"{seed}.safetensors"
        save_weights(path, MODEL, random_params(create_model(MODEL), seed=seed))
        load(path)
    assert len([*(tmp_path / "cache/wdsr_jax/onnx").iterdir()]) == 2


def test_without_a_cache_folder_it_computes_as_well(load, weights, monkeypatch, tmp_path):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert load(weights).module is None
    monkeypatch.setattr(network, "default_cache_dir", homeless)
    assert load(weights).module is None


def test_what_onnx_cannot_express_is_left_to_xla(load, tmp_path):
    fields = dict(name="srcnn_915", scale=2)
    save_weights(tmp_path / "srcnn.safetensors", fields, random_params(create_model(fields)))
    assert load(tmp_path / "srcnn.safetensors", engine=None).module is not None
    with pytest.raises(UserError, match=r"^engine onnx cannot compute this network, engine xla can"):
        load(tmp_path / "srcnn.safetensors")


def test_damaged_weights_are_refused_by_each_engine(load, tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    for engine in ("onnx", None, "xla"):
        with pytest.raises(UserError, match=r"bad\.safetensors"):
            load(tmp_path / "bad.safetensors", engine)
