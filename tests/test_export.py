"""Exported networks compute the same in programs that do not know this package."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests import numpy_wdsr
from tests.numpy_wdsr import random_params
from tests.tiny import compile_cache  # noqa: F401 (a fixture)
from wdsr_jax.convert import convert
from wdsr_jax.data.sample import sample_files
from wdsr_jax.errors import UserError
from wdsr_jax.export import export, main, to_onnx, to_stablehlo
from wdsr_jax.image.files import read_image
from wdsr_jax.image.pixels import to_float
from wdsr_jax.models import create_model
from wdsr_jax.models.layers import pixel_shuffle
from wdsr_jax.weights.store import load_pretrained, save_weights

SHARED = Path(__file__).parents[2] / "shared/data"
SIZES = [(1, 1, 1), (3, 5, 7), (1, 12, 4)]  # of LR: batch, height, width
TINY = dict(filters=5, blocks=2, expansion=2, res_scale=0.3)
NETWORKS = [
    *(dict(name=name, scale=scale) for name in ("wdsr_a", "wdsr_b") for scale in (2, 3, 4)),
    dict(name="edsr", scale=4, norm="batch"),
    dict(name="wdsr_a", scale=1, dtype="bfloat16"),
]

pytestmark = pytest.mark.usefixtures("compile_cache")


@pytest.fixture
def onnx():
    pytest.importorskip("onnxruntime", reason="needs the extra export")
    return pytest.importorskip("onnx", reason="needs the extra export")


def network(**config):
    module = create_model(TINY | config)
    return module, random_params(module)


def noise(*shape):
    return np.random.default_rng(0).uniform(size=shape).astype(np.float32)


def run_onnx(model, lr):
    """The output for (B, H, W, 3), as (B, H', W', C)."""
    import onnxruntime

    data = model if isinstance(model, bytes) else model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (sr,) = session.run(["sr"], {"lr": lr.transpose(0, 3, 1, 2)})
    return sr.transpose(0, 2, 3, 1)


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


def test_stablehlo_runs_in_a_process_without_this_package(tmp_path):
    inputs = {"x".join(map(str, size)): noise(*size, 3) for size in SIZES}
    np.savez(tmp_path / "inputs.npz", **inputs)
    networks = NETWORKS[::2]
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


@pytest.mark.parametrize("config", NETWORKS, ids=lambda config: f"{config['name']}-x{config['scale']}")
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
        dict(name="srresnet", scale=4, norm="batch"),
        dict(name="rdn", scale=3, layers=2, growth=3),
        dict(name="edsr", scale=2, norm="weight", upsampler="deconvolution"),
        dict(name="edsr", scale=3, norm="none", upsampler="deconvolution"),
    ],
    ids=lambda config: config["name"],
)
def test_onnx_runtime_computes_the_same_for_other_networks(onnx, config):
    module, params = network(**config)
    data = to_onnx(module, params, "n")
    for size in SIZES:
        lr = noise(*size, 3)
        expected = jax.jit(module.apply)({"params": params}, lr)
        np.testing.assert_allclose(run_onnx(data, lr), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("config", [dict(name="srcnn_915", scale=2), dict(name="edrn", scale=1)])
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


class Strided(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), strides=2)(x)  # "SAME": its padding depends on the image's size
        x = nn.Conv(4, (3, 3), strides=2, padding=[(1, 1), (0, 2)], use_bias=False)(x)
        return nn.Conv(6, (3, 3), kernel_dilation=2, feature_group_count=2)(x)


class Transposed(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.ConvTranspose(4, (4, 4), strides=(2, 2))(x)
        x = nn.ConvTranspose(5, (3, 2), strides=(3, 2), padding="VALID")(x)
        return 0.3 * nn.ConvTranspose(3, (6, 6), strides=(2, 2), transpose_kernel=True)(x) - 0.1


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3))(x)
        y = jnp.concatenate([x, nn.relu(nn.Conv(2, (3, 3))(x))], axis=-1)  # RDN
        y = nn.Conv(4, (1, 1))(y)
        squeezed = nn.relu(nn.Conv(2, (1, 1))(y.mean((1, 2), keepdims=True)))
        return x + y * nn.sigmoid(nn.Conv(4, (1, 1))(squeezed))  # RCAN


class Activations(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True)(nn.Conv(12, (3, 3))(x))
        x = nn.PReLU()(pixel_shuffle(x, 2))
        x = nn.leaky_relu(nn.Conv(27, (3, 3))(x), 0.2)
        x = nn.gelu(pixel_shuffle(x, 3))
        x = x + x.mean((1, 2, 3), keepdims=True)
        return jnp.clip(nn.silu(x), -0.1, 0.7) * jnp.where(x > 0.2, x, 0.0) - jnp.tanh(1 - x)


class Moved(nn.Module):
    """Axes elsewhere and those of length 1: neither costs a node."""

    @nn.compact
    def __call__(self, x):
        y = jnp.transpose(x, (3, 0, 1, 2)) * jnp.arange(3.0)[:, None, None, None]  # (3, B, H, W)
        y = nn.relu(jnp.transpose(y - 1, (1, 2, 3, 0)))
        brightness = y.sum(-1)[..., None]  # (B, H, W, 1)
        return jnp.sqrt(jnp.abs(y)) / (1 + brightness**2)


class Twice(nn.Module):
    """A convolution that is used before and after what could be folded into it."""

    @nn.compact
    def __call__(self, x):
        y = nn.Conv(3, (3, 3))(x)
        z = 2 * y
        return z * y + jax.jit(lambda y: (3 * y) * y)(y) + nn.Conv(3, (1, 1))(z)


@pytest.mark.parametrize("network", [Strided, Transposed, Attention, Activations, Moved, Twice])
def test_the_parts_of_other_networks_have_a_translation(onnx, network):
    from wdsr_jax.weights.onnx_graph import onnx_model

    module, rng = network(), np.random.default_rng(0)
    shapes = jax.eval_shape(module.init, jax.random.key(0), noise(1, 8, 8, 3))
    variables = jax.tree.map(lambda leaf: rng.uniform(-0.5, 0.9, leaf.shape).astype(np.float32), shapes)
    variables = jax.tree.map_with_path(lambda path, x: abs(x) if "var" in str(path) else x, variables)
    apply = jax.jit(lambda lr: module.apply(variables, lr))
    model = onnx_model(apply, "parts", {})
    assert not {"Transpose", "Reshape"} & {node.op_type for node in model.graph.node}
    assert sum(node.op_type == "Conv" for node in model.graph.node) <= 5
    for size in SIZES:
        lr = noise(*size, 3)
        expected = np.asarray(apply(lr))
        np.testing.assert_allclose(run_onnx(model, lr), expected, atol=2e-5 * abs(expected).max(), rtol=0)


class Sorting(nn.Module):
    scale = 1

    @nn.compact
    def __call__(self, x):
        return Sorter(name="sorter")(nn.Conv(3, (1, 1))(x))


class Sorter(nn.Module):
    @nn.compact
    def __call__(self, x):
        return jnp.sort(x, axis=-1)


def conv(x, kernel, layout="NHWC"):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=(layout, "HWIO", layout))


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda x: x.reshape(x.shape[0], -1), "the network does .reshape."),
        (lambda x: x.reshape(*x.shape[:2], -1, 3, 1, 1), "the network does .reshape."),
        (lambda x: pixel_shuffle(jnp.concatenate([x] * 4, axis=-1), 2).reshape(-1), "does .reshape."),
        (lambda x: x * x.shape[1], "the network does .mul."),
        (lambda x: x.transpose(0, 1, 3, 2) + x.sum((1, 2, 3), keepdims=True), "does .add."),
        (lambda x: jnp.concatenate([jnp.ones((1, 1, 1, 3)), x.sum((0, 1, 2), keepdims=True)]), "concatenate"),
        (lambda x: conv(x, x.mean() * jnp.ones((3, 3, 3, 3))), "does .mul."),
        (lambda x: conv(jnp.ones((1, 8, 8, 3)), x.sum((0, 1, 2))[None, None, :, None]), "does .conv_gen"),
        (lambda x: conv(x, jnp.ones((3, 3, 3, 3)), "WNHC"), "does .conv_general_dilated."),
        (lambda x: jax.lax.pad(x, 0.0, [(0, 0, 0), (1, 1, 0), (1, 1, 0), (0, 0, 0)]), "does .pad."),
        (lambda x: (x > 0).astype(jnp.float32), "does .convert_element_type."),
        (lambda x: x.sum(-1), r"no \(B, H, W, C\) made from its input"),
        (lambda x: x.transpose(0, 3, 1, 2), r"no \(B, H, W, C\) made from its input"),
        (lambda x: jnp.ones((1, 2, 3, 3)), r"no \(B, H, W, C\) made from its input"),
    ],
)
def test_what_has_no_translation_is_named(onnx, function, message):
    from wdsr_jax.weights.onnx_graph import onnx_model

    with pytest.raises(UserError, match=message) as caught:
        onnx_model(function, "parts", {})
    assert "\n" not in str(caught.value)


def test_the_module_that_has_no_translation_is_named(onnx):
    from wdsr_jax.weights.onnx_graph import onnx_model

    module = Sorting()
    variables = module.init(jax.random.key(0), noise(1, 3, 3, 3))
    with pytest.raises(UserError, match=r"no ONNX for what sorter does \(sort\)"):
        onnx_model(lambda lr: module.apply(variables, lr), "parts", {})


def test_a_model_that_computes_something_else_is_refused(onnx, monkeypatch):
    monkeypatch.setattr(
        "wdsr_jax.weights.onnx_graph._fold", lambda kind, x, constant: x
    )  # loses what it should fold
    with pytest.raises(UserError, match=r"^m: as ONNX it would compute something else, by "):
        to_onnx(*network(name="wdsr_a", scale=2), "m")


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture
def around(tmp_path, monkeypatch):
    """A working directory with a weights file, one with NaN, and a workdir."""
    config = TINY | dict(name="wdsr_a", scale=2)
    _, params = network(**config)
    (tmp_path / "run").mkdir()
    save_weights(tmp_path / "a.b.safetensors", config, params)
    save_weights(tmp_path / "run/model.safetensors", config, params)
    params = jax.tree.map(lambda x: x * np.nan, params)
    save_weights(tmp_path / "nan.safetensors", config, params)
    (tmp_path / "text.safetensors").write_text("weights")
    monkeypatch.chdir(tmp_path)


def contents():
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize("source, name", [("a.b.safetensors", "a.b"), ("run", "run"), ("./run/.", "run")])
def test_a_file_bears_the_name_of_its_source(around, onnx, source, name):
    export(source, "onnx", "out")
    assert onnx.load("out").metadata_props[0].value == name
    export(source, "stablehlo", "out")
    assert jax.export.deserialize(bytearray(Path("out").read_bytes())).fun_name == name


COMMAND = """
import runpy, sys

sys.argv[0] = "export"
try:
    runpy.run_module("wdsr_jax.export", run_name="__main__")
finally:
    assert not {"tensorflow", "torch"} & sys.modules.keys()
"""


def run_command(*arguments):
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", COMMAND, *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True)


def test_the_command_line(around, onnx):
    done = run_command("--model=wdsr-a-16-x4", "--format=onnx", "x4.onnx")
    assert done.returncode == 0, done.stderr
    # ONNX Runtime says on some machines what it misses there.
    first, second = [line for line in done.stderr.splitlines() if "onnxruntime" not in line]
    assert re.fullmatch(r"opset 17, IR version 8; ONNX Runtime differs from JAX by at most \d[.e\d-]+", first)
    assert second == "x4.onnx: wdsr-a-16-x4 x4, 4.8 MB"
    lr = to_float(read_image(sample_files()[1][0])[None, 60:76, 200:230])
    sr = numpy_wdsr.forward(*load_pretrained("wdsr-a-16-x4"), lr)
    np.testing.assert_allclose(run_onnx(Path("x4.onnx").read_bytes(), lr), sr, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "argv, message",
    [
        ("--model=run --format=tflite out", "--format=tflite: there are stablehlo and onnx"),
        ("--model=run --format=onnx", "arguments are required: OUT"),
        ("--format=onnx out", "arguments are required: --model"),
        ("--model=run out", "arguments are required: --format"),
        ("--model=run --format=FORMAT run", "run: is a folder, not a file to write"),
        ("--model=run --format=FORMAT nowhere/out", "nowhere/out: no such folder"),
        ("--model=run --format=FORMAT /proc/out", "/proc/out: cannot be written"),
        (f"--model=run --format=FORMAT {'o' * 300}", "cannot be written (File name too long)"),
        (
            "--model=run --format=FORMAT run/model.safetensors",
            "holds the network, which would be overwritten",
        ),
        ("--model=a.b.safetensors --format=FORMAT ./a.b.safetensors", "holds the network, which would be"),
        ("--model=nowhere --format=FORMAT out", "nowhere: no such file or workdir"),
        ("--model=. --format=FORMAT out", "no model.safetensors here"),
        ("--model=text.safetensors --format=FORMAT out", "text.safetensors: not a safetensors file"),
        ("--model=nan.safetensors --format=FORMAT out", "nan.safetensors: tensor block_0.expand.bias holds"),
    ],
)
@pytest.mark.parametrize("file_format", ["stablehlo", "onnx"])
def test_mistakes(around, monkeypatch, capsys, argv, message, file_format):
    if file_format == "onnx":
        pytest.importorskip("onnxruntime", reason="needs the extra export")
    before = contents()
    monkeypatch.setattr("sys.argv", ["export", *argv.replace("FORMAT", file_format).split()])
    with pytest.raises(UserError) as caught:
        main()
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert contents() == before


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_the_extra_one_line_says_how_to_get_it(around, monkeypatch, package):
    monkeypatch.delitem(sys.modules, "wdsr_jax.weights.onnx_graph", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"^--format=onnx needs pip install 'wdsr_jax\[export\]'"):
        export("run", "onnx", "out")
    assert not Path("out").exists()
    export("run", "stablehlo", "out")


@pytest.mark.parametrize(
    "name",
    ["wdsr-pytorch-b-16-x4.pth.tar", pytest.param("keras-tf2-wdsr-b-32-x4.h5", marks=pytest.mark.slow)],
)
def test_weights_of_other_projects(tmp_path, onnx, name):
    if not (SHARED / "weights" / name).exists():
        pytest.skip("needs the weights of other projects")
    convert(SHARED / "weights" / name, tmp_path / "w.safetensors")
    module, params = load_pretrained(tmp_path / "w.safetensors")
    lr = to_float(read_image(sample_files()[1][0])[None, 60:76, 200:230])
    sr = numpy_wdsr.forward(module, params, lr)
    np.testing.assert_allclose(run_onnx(to_onnx(module, params, name), lr), sr, atol=1e-5, rtol=0)
    there = jax.export.deserialize(bytearray(to_stablehlo(module, params, name)))
    np.testing.assert_allclose(there.call(lr), sr, atol=1e-5, rtol=0)
