"""Conversion: a converted network computes what its source does, and what cannot be converted is named."""

import functools

import h5py
import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict

from tests import numpy_wdsr
from tests.numpy_wdsr import random_params
from tests.weights.torch_writer import NEEDS_TORCH, Bomb, torch_bytes
from wdsr_jax.data.sample import sample_files
from wdsr_jax.errors import UserError
from wdsr_jax.evaluation.benchmark import evaluate
from wdsr_jax.evaluation.examples import examples_of_folder
from wdsr_jax.image.files import read_image
from wdsr_jax.models import create_model, fold_weight_norm
from wdsr_jax.models.layers import DIV2K_MEAN
from wdsr_jax.weights.conversion import _low_rank_ratio, convert, convert_to_torch
from wdsr_jax.weights.store import load_pretrained, save_weights

HALF = (0.5, 0.5, 0.5)

pytestmark = [
    pytest.mark.usefixtures("compile_cache"),
    # torch.nn.utils.weight_norm, which the projects use, is deprecated.
    pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated"),
]


@functools.cache
def photograph():
    """A part of a photograph, uint8 (20, 24, 3), odd in nothing but its content."""
    return read_image(sample_files()[1][0])[60:120:3, 200:272:3]


def converted(path, **hints):
    """The network of a file after conversion, and what it makes of the photograph, in [0, 1]."""
    weights = path.with_name("converted.safetensors")
    convert(path, weights, **hints)
    return apply(*load_pretrained(weights))


def apply(module, params):
    """The network, and what it makes of the photograph: in NumPy, which needs no compilation."""
    return module, numpy_wdsr.forward(module, params, photograph()[None] / 255)[0]


def apply_jitted(module, params):
    lr = photograph().astype(np.float32)[None] / 255
    return np.asarray(jax.jit(module.apply)({"params": params}, lr))[0]


# --- the projects' networks in PyTorch ------------------------------------------------------------


def torch_network(project, block, scale, filters=8, blocks=2, expansion=3, rank=5, res_scale=1.0):
    """A network of random weights with the state dict of the project's, and its forward pass.

    The latter takes and gives what the project's does: (B, 3, H, W), in [0, 1] for the official code of 2020,
    otherwise in [0, 255].
    """
    torch = pytest.importorskip("torch", reason=NEEDS_TORCH)
    torch.manual_seed(scale)
    nn = torch.nn

    def conv(inputs, outputs, size):
        layer = nn.utils.weight_norm(nn.Conv2d(inputs, outputs, size, padding=size // 2))
        with torch.no_grad():  # else it would not be seen whether they are read
            layer.weight_g *= torch.rand_like(layer.weight_g) + 0.5
            layer.bias += torch.rand_like(layer.bias) * 0.1
        return layer

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            wide = expansion * filters
            if block == "a":
                layers = [conv(filters, wide, 3), nn.ReLU(), conv(wide, filters, 3)]
            else:
                layers = [conv(filters, wide, 1), nn.ReLU(), conv(wide, rank, 1), conv(rank, filters, 3)]
            self.inner = "module" if project == "WDSR-pytorch" else "body"
            setattr(self, self.inner, nn.Sequential(*layers))

        def forward(self, x):
            return x + res_scale * getattr(self, self.inner)(x)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            head, tail, skip = conv(3, filters, 3), conv(filters, cell, 3), conv(3, cell, 5)
            body = [Block() for _ in range(blocks)]
            self.skip = nn.Sequential(skip)
            if project == "2020":
                self.body = nn.Sequential(head, *body, tail)
            else:
                self.head, self.body, self.tail = (
                    nn.Sequential(head),
                    nn.Sequential(*body),
                    nn.Sequential(tail),
                )

        def forward(self, x):
            if project == "2020":
                x = x - 0.5
                return nn.functional.pixel_shuffle(self.body(x) + self.skip(x), scale) + 0.5
            mean = torch.tensor(DIV2K_MEAN, dtype=x.dtype).view(1, 3, 1, 1) * 255
            x = (x - mean) / 127.5
            main, skip = self.tail(self.body(self.head(x))), self.skip(x)
            shuffle = nn.PixelShuffle(scale)
            return (shuffle(main) + shuffle(skip)) * 127.5 + mean

    cell = 3 * scale**2
    return Network()


def torch_output(network, project):
    """What a network makes of the photograph, computed in float64, in [0, 1]."""
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(photograph().astype(np.float64).transpose(2, 0, 1)[None].copy())
    top = 255 if project == "2020" else 1
    with torch.no_grad():
        y = network.double()(x / top)
    network.float()
    return y[0].numpy().transpose(1, 2, 0) * top / 255


def save_torch(network, project, path, new=True):
    import torch

    state = network.state_dict()
    if project == "2020":
        adam = torch.optim.Adam(network.parameters(), 1e-3)
        schedule = torch.optim.lr_scheduler.MultiStepLR(adam, (20, 25), 0.2)
        state = {
            "model_state_dict": state,
            "optimizer_state_dict": adam.state_dict(),
            "lr_scheduler_state_dict": schedule.state_dict(),
            "epoch": 1,
        }
    elif project == "WDSR-pytorch":
        state = {"epoch": 204, "valid_psnr": torch.tensor(41.6), "state_dict": state, "optimizer": {}}
    torch.save(state, path, _use_new_zipfile_serialization=new)


@pytest.mark.parametrize(
    "project, block, scale",
    [
        ("2020", "a", 2),
        ("2018", "a", 3),
        ("2018", "b", 4),
        ("WDSR-pytorch", "a", 4),
        ("WDSR-pytorch", "b", 2),
    ],
)
def test_torch_networks_compute_the_same(tmp_path, project, block, scale):
    network = torch_network(project, block, scale)
    save_torch(network, project, tmp_path / "new.pth")
    module, sr = converted(tmp_path / "new.pth")
    np.testing.assert_allclose(sr, torch_output(network, project), atol=1e-4, rtol=0)
    assert (module.block, module.scale, module.filters, module.blocks, module.expansion) == (
        block,
        scale,
        8,
        2,
        3,
    )
    assert module.norm == "weight" and module.res_scale == 1
    assert module.mean == (HALF if project == "2020" else DIV2K_MEAN)
    if block == "b":
        assert int(module.low_rank_ratio * 8) == 5

    save_torch(network, project, tmp_path / "legacy.pth", new=False)
    convert(tmp_path / "legacy.pth", tmp_path / "legacy.safetensors")
    legacy, new = (tmp_path / f"{name}.safetensors" for name in ("legacy", "converted"))
    assert legacy.read_bytes() == new.read_bytes()


def test_what_a_file_does_not_say_is_an_option(tmp_path):
    network = torch_network("2018", "b", 2, res_scale=0.3)
    save_torch(network, "2018", tmp_path / "w.pth")
    module, sr = converted(tmp_path / "w.pth", res_scale=0.3)
    np.testing.assert_allclose(sr, torch_output(network, "2018"), atol=1e-4, rtol=0)
    assert module.res_scale == 0.3
    module, other = converted(tmp_path / "w.pth", res_scale=0.3, mean=(0.4, 0.5, 0.6))
    assert module.mean == (0.4, 0.5, 0.6) and np.abs(other - sr).max() > 1e-3


def test_networks_without_weight_norm_or_saved_by_dataparallel_in_half_precision(tmp_path):
    torch = pytest.importorskip("torch", reason=NEEDS_TORCH)
    network = torch_network("2018", "a", 2).half().float()
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.utils.remove_weight_norm(layer)
    network.half().float()
    torch.save(torch.nn.DataParallel(network).half().state_dict(), tmp_path / "w.pth")
    module, sr = converted(tmp_path / "w.pth")
    assert module.norm == "none"
    np.testing.assert_allclose(sr, torch_output(network.float(), "2018"), atol=1e-4, rtol=0)


def test_every_low_rank_width_has_a_ratio():
    for filters in range(1, 130):
        for rank in range(1, 2 * filters):
            assert int(_low_rank_ratio(rank, filters) * filters) == rank
    assert _low_rank_ratio(25, 32) == 0.8


# --- Keras ----------------------------------------------------------------------------------------


def keras_weights(block, scale, filters=8, blocks=2, expansion=3, rank=5):
    """(kernel, bias, g) of head, blocks, tail and skip, in this order."""
    rng = np.random.default_rng(scale)
    wide, cell = expansion * filters, 3 * scale**2
    of_block = {
        "a": [(3, filters, wide), (3, wide, filters)],
        "b": [(1, filters, wide), (1, wide, rank), (3, rank, filters)],
    }
    shapes = [(3, 3, filters), *of_block[block] * blocks, (3, filters, cell), (5, 3, cell)]
    return [
        tuple(
            array.astype(np.float32)
            for array in (
                rng.normal(size=(size, size, inputs, outputs)) / size / inputs**0.5,
                rng.uniform(-0.1, 0.1, outputs),
                rng.uniform(0.5, 1.5, outputs),
            )
        )
        for size, inputs, outputs in shapes
    ]


def save_keras(weights, path, *, norm, root="/"):
    """As `save_weights` does; under `root` = `model_weights` as `save`."""
    # Skip is computed beside the main branch: it may stand anywhere in the order of layers.
    order = [0, len(weights) - 1, *range(1, len(weights) - 1)]
    with h5py.File(path, "w") as file:
        group = file.require_group(root)
        names = ["input_1", "lambda"]
        for i, position in enumerate(order):
            kernel, bias, g = weights[position]
            layer = ("weight_normalization" if norm else "conv2d") + (f"_{i}" if i else "")
            arrays = {"kernel": kernel, "bias": bias}
            if norm:
                arrays = {"g": g, **arrays, "initialized": np.array(True)}
            for name, array in arrays.items():
                group[f"{layer}/{layer}/{name}:0"] = array
            group[layer].attrs["weight_names"] = [f"{layer}/{name}:0".encode() for name in arrays]
            names += [layer, f"add_{i}"]
        for name in names:
            if name not in group:
                group.create_group(name).attrs["weight_names"] = np.zeros(0, "S1")
        group.attrs["layer_names"] = [name.encode() for name in names]


def keras_output(weights, block, scale, *, norm, mean, valid=False):
    """What the network makes of the photograph, in NumPy and float64, in [0, 1]."""

    def conv(x, index, padding="same"):
        kernel, bias, g = (w.astype(np.float64) for w in weights[index])
        if norm:
            kernel = kernel * g / np.sqrt((kernel**2).sum((0, 1, 2)))
        size = kernel.shape[0]
        if padding == "same":
            x = np.pad(x, ((size // 2, size // 2), (size // 2, size // 2), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (0, 1))  # (H, W, I, kh, kw)
        return np.einsum("hwiyx,yxio->hwo", windows, kernel) + bias

    def depth_to_space(x):
        h, w, _ = x.shape
        out = np.zeros((h * scale, w * scale, 3))
        for i in range(scale):
            for j in range(scale):
                first = (i * scale + j) * 3
                out[i::scale, j::scale] = x[..., first : first + 3]
        return out

    outer, steps = "valid" if valid else "same", 2 if block == "a" else 3
    shift = 255 * np.array(mean)
    x = (photograph().astype(np.float64) - shift) / 127.5
    if valid:
        x = np.pad(x, ((2, 2), (2, 2), (0, 0)), mode="symmetric")
    y = conv(x, 0, outer)
    for first in range(1, len(weights) - 2, steps):
        z = np.maximum(conv(y, first), 0)
        for index in range(first + 1, first + steps):
            z = conv(z, index)
        y = y + z
    sr = depth_to_space(conv(y, len(weights) - 2, outer)) + depth_to_space(conv(x, len(weights) - 1, outer))
    return (sr * 127.5 + shift) / 255


@pytest.mark.parametrize("block, scale, root", [("a", 3, "/"), ("b", 4, "model_weights")])
@pytest.mark.parametrize("norm", [True, False], ids=["TF2", "2018"])
def test_keras_networks_compute_the_same(tmp_path, block, scale, root, norm):
    weights = keras_weights(block, scale)
    save_keras(weights, tmp_path / "w.h5", norm=norm, root=root)
    module, sr = converted(tmp_path / "w.h5")
    mean = DIV2K_MEAN if norm else HALF
    expected = keras_output(weights, block, scale, norm=norm, mean=mean)
    np.testing.assert_allclose(sr, expected, atol=1e-4, rtol=0)
    if block == "b" and norm:  # and in JAX
        sr = apply_jitted(*load_pretrained(tmp_path / "converted.safetensors"))
        np.testing.assert_allclose(sr, expected, atol=1e-4, rtol=0)
    assert (module.block, module.scale, module.filters, module.blocks, module.expansion) == (
        block,
        scale,
        8,
        2,
        3,
    )
    assert module.norm == ("weight" if norm else "none") and module.mean == mean


def test_mirrored_edges_of_keras_are_lost_at_the_edge_only(tmp_path):
    weights = keras_weights("b", 2)
    save_keras(weights, tmp_path / "w.h5", norm=False)
    module, sr = converted(tmp_path / "w.h5")
    difference = np.abs(sr - keras_output(weights, "b", 2, norm=False, mean=HALF, valid=True))
    inner = (module.blocks + 2) * 2  # the receptive field, in pixels of SR
    assert difference[inner:-inner, inner:-inner].max() < 1e-4
    assert difference.max() > 1e-2


# --- back to the official code --------------------------------------------------------------------


def saved(path, name="wdsr_a", **config):
    config = dict(name=name, scale=3, filters=8, blocks=2, expansion=3) | config
    module = create_model(config)
    params = random_params(module.clone(norm="batch" if module.norm == "batch" else "weight"))
    if module.norm == "none":
        params = jax.jit(fold_weight_norm)(params)
        # A filter of zeros has no direction that weight norm could scale.
        params["block_0"]["expand"]["kernel"] = params["block_0"]["expand"]["kernel"].at[..., 3].set(0)
    save_weights(path, config, params)
    return module, params


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_to_torch_and_back_is_the_same_to_the_bit(tmp_path, scale):
    module, params = saved(tmp_path / "ours.safetensors", mean=HALF, scale=scale)
    convert_to_torch(tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors")
    convert(tmp_path / "theirs.safetensors", tmp_path / "again.safetensors")
    again, back = load_pretrained(tmp_path / "again.safetensors")
    assert again == module
    back, params = flatten_dict(back), flatten_dict(params)
    assert back.keys() == params.keys()
    for name, array in params.items():
        np.testing.assert_array_equal(back[name], array)


def test_to_torch_writes_the_official_names(tmp_path):
    _, params = saved(tmp_path / "ours.safetensors", mean=HALF)
    convert_to_torch(tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors")
    state = safetensors.numpy.load_file(tmp_path / "theirs.safetensors")
    # ychfan/wdsr of 2020, WDSR-A x3 of 2 blocks, 8 filters and 24 within the blocks.
    shapes = {"body.0": (8, 3, 3), "body.3": (27, 8, 3), "skip.0": (27, 3, 5)}
    for i in (1, 2):
        shapes |= {f"body.{i}.body.0": (24, 8, 3), f"body.{i}.body.2": (8, 24, 3)}
    expected = {}
    for name, (outputs, inputs, size) in shapes.items():
        expected[f"{name}.weight_v"] = (outputs, inputs, size, size)
        expected |= {f"{name}.weight_g": (outputs, 1, 1, 1), f"{name}.bias": (outputs,)}
    assert {name: array.shape for name, array in state.items()} == expected
    assert {array.dtype for array in state.values()} == {np.dtype("float32")}
    with safetensors.safe_open(tmp_path / "theirs.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}  # as other files of PyTorch's tensors have it
    # torch.nn.PixelShuffle wants colour by colour what is pixel by pixel here.
    cells = np.asarray(params["tail"]["bias"]).reshape(9, 3)
    np.testing.assert_array_equal(state["body.3.bias"], cells.T.ravel())
    kernel = np.asarray(params["block_1"]["project"]["kernel"])
    np.testing.assert_array_equal(state["body.2.body.2.weight_v"], kernel.transpose(3, 2, 0, 1))


@pytest.mark.parametrize("norm", ["weight", "none", "batch"])
def test_to_torch_keeps_res_scale_whatever_the_norm(tmp_path, norm, caplog):
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    module, params = saved(ours, mean=HALF, res_scale=0.4, norm=norm)
    convert_to_torch(ours, theirs)
    assert not caplog.records
    _, sr = apply(module, params)
    module, again = converted(theirs)
    np.testing.assert_allclose(again, sr, atol=1e-5, rtol=0)
    assert module.res_scale == 1 and module.norm == "weight"


@pytest.mark.parametrize("norm", ["weight", "none"])
def test_to_torch_runs_in_pytorch(tmp_path, norm):
    network = torch_network("2020", "a", 3)
    import torch
    from safetensors.torch import load_file

    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    module, params = saved(ours, mean=HALF, res_scale=0.4, norm=norm)
    convert_to_torch(ours, theirs)
    network.load_state_dict(load_file(theirs))  # every key, and no other
    _, sr = apply(module, params)
    np.testing.assert_allclose(torch_output(network, "2020"), sr, atol=1e-4, rtol=0)
    adam = torch.optim.Adam(network.parameters(), 1e-3)  # and it can be trained on
    network(torch.ones(1, 3, 8, 8)).sum().backward()
    adam.step()


@pytest.mark.parametrize("project, block", [("2020", "a"), ("2018", "b"), ("WDSR-pytorch", "a")])
def test_a_state_dict_of_pytorch_in_safetensors_is_as_good_as_its_checkpoint(tmp_path, project, block):
    network = torch_network(project, block, 2)
    from safetensors.torch import save_file

    save_torch(network, project, tmp_path / "w.pth")
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    convert(tmp_path / "w.pth", tmp_path / "a.safetensors")
    convert(tmp_path / "w.safetensors", tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_to_torch_says_what_it_cannot(tmp_path, caplog):
    saved(tmp_path / "b.safetensors", "wdsr_b")
    with pytest.raises(UserError, match="not a WDSR-A"):
        convert_to_torch(tmp_path / "b.safetensors", tmp_path / "theirs.safetensors")
    assert not (tmp_path / "theirs.safetensors").exists()
    saved(tmp_path / "a.safetensors")
    caplog.set_level("WARNING")
    convert_to_torch(tmp_path / "a.safetensors", tmp_path / "theirs.safetensors")
    assert "image_mean" in caplog.text and "0.4488" in caplog.text


def test_to_torch_does_not_overwrite_the_workdir_it_reads(tmp_path):
    saved(tmp_path / "model.safetensors")
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match="is the source, which would be overwritten"):
        convert_to_torch(tmp_path, tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes() == before


# --- what cannot be converted ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """The bytes of a state dict of the official code of 2020, x3, 8 filters, 2 blocks, expansion 3."""
    folder = tmp_path_factory.mktemp("official")
    saved(folder / "ours.safetensors")
    convert_to_torch(folder / "ours.safetensors", folder / "theirs.safetensors")
    return (folder / "theirs.safetensors").read_bytes()


@pytest.fixture
def state(official):
    return safetensors.numpy.load(official)


def refusal(path, destination=None, **hints):
    """The message for a file: one line that names it. Nothing is written."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(UserError) as caught:
        convert(path, destination or path.with_name("out.safetensors"), **hints)
    assert sorted(path.parent.iterdir()) == before
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{destination or path}: ")
    return message.removeprefix(f"{destination or path}: ")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"skip.0.bias": None}, "tensor skip.0.bias is missing"),
        ({"body.1.body.2.weight_g": None}, "tensor body.1.body.2.weight_g is missing"),
        ({"body.3.weight_v": None}, "tensor body.3.weight_v is missing"),
        ({"body.9.bias": (8,)}, "tensor body.9.bias does not belong"),
        ({"body.9.body.0.bias": (24,)}, "tensor body.3.body.0.weight_v is missing"),
        ({"body.0.weight_v": (9, 3, 3, 3)}, r"tensor body.0.weight_v is \(9, 3, 3, 3\), not \(8, 3, 3, 3\)"),
        (
            {"body.2.body.0.bias": (23,)},
            r"tensor body.2.body.0.bias is \(23,\), not \(24,\) as in WDSR-A x3, 2",
        ),
        ({"body.2.body.2.weight_g": (8,)}, r"body.2.body.2.weight_g is \(8,\), not \(8, 1, 1, 1\)"),
        ({"skip.0.weight_v": (27, 3, 3, 3)}, r"not \(27, 3, 5, 5\)"),
        ({"skip.0.weight_v": ()}, r"skip.0.weight_v is \(\), not"),
        (
            {"body.3.bias": (28,), "body.3.weight_v": (28, 8, 3, 3), "skip.0.bias": (28,)},
            "28 channels at the end",
        ),
    ],
)
def test_missing_extra_and_misshapen_tensors_are_named(tmp_path, state, change, message):
    for name, shape in change.items():
        state.pop(name, None)
        if shape is not None:
            state[name] = np.ones(shape, np.float32)
    for path, content in (
        (tmp_path / "w.pth", torch_bytes({"model_state_dict": state})),
        (tmp_path / "w.safetensors", safetensors.numpy.save(state)),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"^{path}: .*{message}"):
            convert(path, tmp_path / "out.safetensors")
        assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(tmp_path, state, value):
    state["body.1.body.0.weight_v"] = state["body.1.body.0.weight_v"].copy()
    state["body.1.body.0.weight_v"][2, 1, 0, 0] = value
    (tmp_path / "w.pth").write_bytes(torch_bytes({"model_state_dict": state}))
    assert "tensor body.1.body.0.weight_v holds values that are not finite" in refusal(tmp_path / "w.pth")


def test_a_width_that_is_no_multiple_of_the_filters_is_refused(tmp_path, state):
    for i in (1, 2):  # --width_multiplier=2.5
        for name, cut in {"weight_v": 20, "weight_g": 20, "bias": 20}.items():
            state[f"body.{i}.body.0.{name}"] = state[f"body.{i}.body.0.{name}"][:cut]
        state[f"body.{i}.body.2.weight_v"] = state[f"body.{i}.body.2.weight_v"][:, :20]
    (tmp_path / "w.pth").write_bytes(torch_bytes({"model_state_dict": state}))
    assert "blocks of 20 channels, no multiple of 8" in refusal(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "content", [{"model_state_dict": [1]}, {}, {"head.0.bias": np.ones(3)}, 7, "text", [{}]]
)
def test_a_torch_file_without_a_wdsr_is_refused(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(torch_bytes(content))
    refusal(tmp_path / "w.pth")


def test_a_bomb_is_refused_and_does_not_go_off(tmp_path):
    torch = pytest.importorskip("torch", reason=NEEDS_TORCH)
    for new in (True, False):
        content = {"state_dict": torch_network("2018", "a", 2).state_dict(), "x": Bomb(tmp_path / "crater")}
        torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=new)
        assert refusal(tmp_path / "w.pth").startswith(
            "refused, and nothing was run: it refers to posix.mkdir"
        )
    torch.load(tmp_path / "w.pth", weights_only=False)
    assert (tmp_path / "crater").exists()  # it was a live one


def test_what_is_no_file_of_weights_is_named(tmp_path, state):
    whole, theirs = torch_bytes({"model_state_dict": state}), safetensors.numpy.save(state)
    save_keras(keras_weights("a", 2), tmp_path / "w.h5", norm=True)
    keras = (tmp_path / "w.h5").read_bytes()
    saved(tmp_path / "ours.safetensors")
    for content, message in (
        (b"", "empty; files of torch.save and of Keras (.h5) can be converted"),
        (b"a text\n" * 9, "of unknown format"),
        ((tmp_path / "ours.safetensors").read_bytes(), "a safetensors file of this package"),
        (safetensors.numpy.save({"head.kernel": np.ones(3, np.float32)}), "not a WDSR"),
        (theirs[:-1], "not a safetensors file that can be read"),
        (whole[: len(whole) // 2], "damaged"),
        (keras[: len(keras) // 2], "damaged"),
        (keras[:9], "damaged"),
    ):
        (tmp_path / "w").write_bytes(content)
        assert message in refusal(tmp_path / "w")
    assert "Is a directory" in refusal(tmp_path)
    assert "No such file" in refusal(tmp_path / "none.pth")


def test_an_h5_file_that_is_no_wdsr_is_named_so(tmp_path):
    path, weights = tmp_path / "w.h5", keras_weights("b", 2)

    def changed(change):
        save_keras(weights, path, norm=True)
        with h5py.File(path, "a") as file:
            change(file)
        return refusal(path)

    def replace(name, array):
        def change(file):
            del file[name]
            file[name] = array

        return change

    with h5py.File(path, "w") as file:
        file["x"] = np.ones(3)
    assert "not weights that Keras saved" in refusal(path)
    save_keras(weights[:-1], path, norm=True)  # without the skip
    assert "not a WDSR; it has 0 convolutions of 5x5 on RGB" in refusal(path)
    save_keras(weights[:2] + weights[3:], path, norm=True)
    assert "not a WDSR; it has 1 convolutions of 5x5 on RGB, 7 other layers" in refusal(path)

    layer = "weight_normalization_3/weight_normalization_3"
    assert "not weights that Keras saved" in changed(lambda file: file.pop(f"{layer}/g:0"))
    kept = [b"weight_normalization_3/kernel:0", b"weight_normalization_3/bias:0"]
    assert "tensor weight_normalization_3/g is missing" in changed(
        lambda file: file["weight_normalization_3"].attrs.create("weight_names", kept)
    )

    def add(file):
        file[f"{layer}/gamma:0"] = np.ones(5)
        names = [b"weight_normalization_3/%s:0" % leaf for leaf in (b"g", b"kernel", b"bias", b"gamma")]
        file["weight_normalization_3"].attrs["weight_names"] = names

    assert "tensor weight_normalization_3/gamma does not belong" in changed(add)
    assert r"tensor weight_normalization_3/g is (4,), not (5,)" in changed(
        replace(f"{layer}/g:0", np.ones(4))
    )
    assert "weight_normalization_3/g holds values that are not finite" in changed(
        replace(f"{layer}/g:0", np.full(5, np.nan))
    )

    def claim(file):  # 8 TB of zeros that are nowhere
        del file[f"{layer}/g:0"]
        file.create_dataset(f"{layer}/g:0", (10**12,), "f4", chunks=(10**6,))

    assert "larger than the file" in changed(claim)


def test_the_destination_is_checked_and_nothing_is_half_written(tmp_path, state):
    source = tmp_path / "w.pth"
    source.write_bytes(torch_bytes({"model_state_dict": state}))
    assert refusal(source, tmp_path / "none" / "out.safetensors") == "no such folder"
    assert refusal(source, source) == "is the source, which would be overwritten"
    (tmp_path / "link.safetensors").symlink_to(source)
    assert "is the source" in refusal(source, tmp_path / "link.safetensors")
    (tmp_path / "folder").mkdir()
    assert "cannot be written (Is a directory)" in refusal(source, tmp_path / "folder")
    with pytest.raises(UserError, match=r"model\.res_scale must be a number"):
        convert(source, tmp_path / "out.safetensors", res_scale=float("nan"))
    with pytest.raises(UserError, match="is the source"):
        convert_to_torch(source, source)


# --- real files -----------------------------------------------------------------------------------


def read_keras_as_is(path, norm):
    """(kernel, bias, g) as `keras_weights`, by the names that Keras gave these networks."""
    with h5py.File(path) as file:

        def layer(name):
            group = file[name][name]
            return group["kernel:0"][()], group["bias:0"][()], group["g:0"][()] if norm else np.zeros(0)

        if norm:
            return [layer("weight_normalization" + (f"_{i}" if i else "")) for i in range(99)]
        names = [f"conv2d_{i}" for i in range(1, 98)] + ["conv2d_main_scale_4", "conv2d_skip_scale_4"]
        return [layer(name) for name in names]


REAL = {
    "keras-tf2-wdsr-b-32-x4.h5": 32.09,
    "keras-old-wdsr-b-32-x4.h5": 30.77,
    "wdsr-pytorch-b-16-x4.pth.tar": 28.53,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_files_compute_the_same(tmp_path, shared, name):
    path = shared / "weights" / name
    convert(path, tmp_path / "converted.safetensors")
    sr = apply_jitted(*load_pretrained(tmp_path / "converted.safetensors"))
    if name.endswith(".h5"):
        norm = "tf2" in name
        weights = read_keras_as_is(path, norm)
        expected = keras_output(weights, "b", 4, norm=norm, mean=DIV2K_MEAN if norm else HALF)
    else:
        torch = pytest.importorskip("torch", reason=NEEDS_TORCH)
        network = torch_network("WDSR-pytorch", "b", 4, filters=32, blocks=16, expansion=6, rank=25)
        network.load_state_dict(torch.load(path, weights_only=True, map_location="cpu")["state_dict"])
        expected = torch_output(network, "WDSR-pytorch")
    assert expected.std() > 0.05
    np.testing.assert_allclose(sr, expected, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_files_reach_their_psnr_on_set5(tmp_path, shared, name):
    convert(shared / "weights" / name, tmp_path / "converted.safetensors")
    examples = examples_of_folder(shared / "benchmarks/Set5/image_SRF_4", 4)
    result = evaluate(examples, 4, *load_pretrained(tmp_path / "converted.safetensors"), bicubic=False)
    assert result["model"]["psnr_y"] == pytest.approx(REAL[name], abs=0.005)
