"""Exported networks compute the same in programs that do not know this package."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jax
import jax.export
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests import numpy_wdsr
from tests.weights.networks import network, noise, run_onnx, write_weights
from wdsr_jax.data.sample import sample_files
from wdsr_jax.errors import UserError
from wdsr_jax.image.files import read_image
from wdsr_jax.image.pixels import to_float
from wdsr_jax.weights.conversion import convert
from wdsr_jax.weights.exports import export, to_onnx, to_stablehlo
from wdsr_jax.weights.store import load_pretrained

SIZES = [(1, 1, 1), (3, 5, 7), (1, 12, 4)]  # of LR: batch, height, width
NETWORKS = [
    dict(name="wdsr_a", scale=2),
    dict(name="wdsr_a", scale=3),
    dict(name="wdsr_b", scale=4),
    dict(name="edsr", scale=4, norm="batch"),
    dict(name="wdsr_a", scale=1, dtype="bfloat16"),
]
OTHERS = [dict(name="wdsr_a", scale=4), dict(name="wdsr_b", scale=2), dict(name="wdsr_b", scale=3)]

pytestmark = pytest.mark.usefixtures("compile_cache")


# --- StableHLO ------------------------------------------------------------------------------------

ELSEWHERE = """
import sys
import jax
import jax.export
import numpy as np

for path in sys.argv[1:]:
    network = jax.export.deserialize(open(path, "rb").read())
    with np.load("inputs.npz") as inputs:
        np.savez(path + ".npz", **{name: network.call(lr) for name, lr in inputs.items()})
strangers = {"wdsr_jax", "flax", "onnx", "tensorflow"} & sys.modules.keys()
assert not strangers, strangers
"""


@pytest.mark.ci
def test_stablehlo_runs_in_a_process_without_this_package(tmp_path):
    inputs = {"x".join(map(str, size)): noise(*size, 3) for size in SIZES[:2]}
    np.savez(tmp_path / "inputs.npz", **inputs)
    networks = [config | {"blocks": 1} for config in NETWORKS[2:4]]  # one of each family
    for i, config in enumerate(networks):
        (tmp_path / f"{i}").write_bytes(to_stablehlo(*network(**config), name=f"n{i}"))
    command = [sys.executable, "-c", ELSEWHERE, *map(str, range(len(networks)))]
    environ = os.environ | {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    subprocess.run(command, cwd=tmp_path, env=environ, check=True)
    for i, config in enumerate(networks):
        module, params = network(**config)
        with np.load(tmp_path / f"{i}.npz") as outputs:
            for name, lr in inputs.items():
                expected = numpy_wdsr.forward(module, params, lr)
                assert outputs[name].dtype == np.float32
                np.testing.assert_allclose(outputs[name], expected, atol=2e-5, rtol=0)


def test_what_is_in_stablehlo():
    exported = jax.export.deserialize(to_stablehlo(*network(name="wdsr_a", scale=3), name="wdsr-a-2-x3"))
    assert exported.fun_name == "wdsr-a-2-x3"
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert [str(aval) for aval in exported.in_avals] == ["float32[b,h,w,3]"]
    assert [str(aval) for aval in exported.out_avals] == ["float32[b,3*h,3*w,3]"]
    # What has no promise of compatibility.
    assert not exported.disabled_safety_checks
    text = exported.mlir_module()
    assert set(re.findall(r"custom_call @(\w+)", text)) <= {"shape_assertion"}
    # Every convolution in full float32, and no norm left to compute.
    convolutions = re.findall(r"stablehlo\.(?:dynamic_conv|convolution)\(.*", text)
    assert convolutions and all(line.count("HIGHEST") == 2 for line in convolutions)
    assert "sqrt" not in text


# --- ONNX -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    NETWORKS + [pytest.param(config, marks=pytest.mark.ci) for config in OTHERS],
    ids=lambda config: f"{config['name']}-x{config['scale']}",
)
def test_onnx_runtime_computes_the_same(onnx, config):
    module, params = network(**config)
    data = to_onnx(module, params, "some name")
    for size in SIZES:
        lr = noise(*size, 3)
        expected = numpy_wdsr.forward(module, params, lr)
        np.testing.assert_allclose(run_onnx(data, lr), expected, atol=2e-5, rtol=0)

    model = onnx.load_from_string(data)
    assert {prop.key: prop.value for prop in model.metadata_props} == {
        "model": "some name",
        "scale": str(module.scale),
        "channel_order": "RGB",
        "layout": "NCHW",
        "range": "[0, 1]",
        "clipped": "no",
    }
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    assert model.ir_version == 8


@pytest.mark.parametrize(
    "config",
    [
        dict(name="srresnet", scale=2, norm="batch", blocks=1),
        dict(name="rdn", scale=3, layers=2, growth=3),
        dict(name="edsr", scale=2, norm="weight", upsampler="deconvolution", blocks=1),
        dict(name="edsr", scale=3, norm="none", upsampler="deconvolution", blocks=1),
    ],
    ids=lambda config: config["name"],
)
def test_onnx_runtime_computes_the_same_for_other_networks(onnx, config):
    module, params = network(**config)
    lr = noise(*SIZES[-1], 3)  # beside the size that `to_onnx` compares with JAX
    expected = jax.jit(module.apply)({"params": params}, lr)
    np.testing.assert_allclose(run_onnx(to_onnx(module, params, "n"), lr), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    "config",
    [
        dict(name="srcnn_915", scale=2),
        pytest.param(dict(name="edrn", scale=1, blocks=1), marks=pytest.mark.ci),
    ],
)
def test_what_has_no_onnx_is_refused(onnx, config):
    with pytest.raises(UserError, match=r"no ONNX for what .* does \(slice\); StableHLO takes any network"):
        to_onnx(*network(**config), "n")


def test_the_graph_is_what_one_would_write_by_hand(onnx):
    graphs = {name: written(onnx, name) for name in ("wdsr_a", "wdsr_b", "edsr")}
    # Head, tail and skip or body and upsampler; mean away, residuals, skip, mean back.
    assert graphs["wdsr_a"] == {"Conv": 3 + 2 * 2, "Relu": 2, "Add": 1 + 2 + 1 + 1, "DepthToSpace": 1}
    assert graphs["wdsr_b"] == {"Conv": 3 + 2 * 3, "Relu": 2, "Add": 1 + 2 + 1 + 1, "DepthToSpace": 1}
    assert graphs["edsr"] == {"Conv": 5 + 2 * 2, "Relu": 2, "Add": 1 + 2 + 1, "DepthToSpace": 2}


def written(onnx, name):
    module, params = network(name=name, scale=4, norm="weight")
    graph = onnx.load_from_string(to_onnx(module, params, "m")).graph
    # Each parameter once, the mean besides, in the names that people know from the weights file.
    leaves = {"/".join(path) for path in flatten_dict(params) if path[-1] != "scale"}
    if name == "edsr":  # the mean goes into the last convolution, tail
        leaves.add("constant")
    else:
        leaves |= {"constant", "constant_2"}
    assert {constant.name for constant in graph.initializer} == leaves
    return Counter(node.op_type for node in graph.node)


def test_a_model_that_computes_something_else_is_refused(onnx, monkeypatch):
    monkeypatch.setattr(
        "wdsr_jax.inference.onnx_graph._fold", lambda kind, x, constant: x
    )  # loses what it should fold
    with pytest.raises(UserError, match=r"^m: as ONNX it would compute something else, by "):
        to_onnx(*network(name="wdsr_a", scale=2), "m")


# --- files ------------------------------------------------------------------------------------------


@pytest.fixture
def around(tmp_path, monkeypatch):
    """The working directory, with what `write_weights` writes."""
    write_weights(tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("source, name", [("a.b.safetensors", "a.b"), ("run", "run"), ("./run/.", "run")])
def test_a_file_bears_the_name_of_its_source(around, onnx, source, name):
    if source != "./run/.":
        export(source, "onnx", "out")
        assert onnx.load("out").metadata_props[0].value == name
    export(source, "stablehlo", "out")
    assert jax.export.deserialize(bytearray(Path("out").read_bytes())).fun_name == name


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_the_extra_one_line_says_how_to_get_it(around, monkeypatch, package):
    monkeypatch.delitem(sys.modules, "wdsr_jax.inference.onnx_graph", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"^--format=onnx needs pip install 'wdsr_jax\[onnx\]'"):
        export("run", "onnx", "out")
    assert not Path("out").exists()
    export("run", "stablehlo", "out")


@pytest.mark.parametrize(
    "name",
    ["wdsr-pytorch-b-16-x4.pth.tar", pytest.param("keras-tf2-wdsr-b-32-x4.h5", marks=pytest.mark.slow)],
)
def test_weights_of_other_projects(tmp_path, onnx, shared, name):
    convert(shared / "weights" / name, tmp_path / "w.safetensors")
    module, params = load_pretrained(tmp_path / "w.safetensors")
    lr = to_float(read_image(sample_files()[1][0])[None, 60:76, 200:230])
    sr = numpy_wdsr.forward(module, params, lr)
    np.testing.assert_allclose(run_onnx(to_onnx(module, params, name), lr), sr, atol=1e-5, rtol=0)
    there = jax.export.deserialize(bytearray(to_stablehlo(module, params, name)))
    np.testing.assert_allclose(there.call(lr), sr, atol=1e-5, rtol=0)
