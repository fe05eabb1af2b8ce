"""Conversion: a converted network computes what its source does, and what cannot be converted is named."""

import functools

import h5py
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict
from PIL import Image, ImageFilter

from tests.weights import other_networks as other
from tests.weights.other_projects import (
    HALF,
    apply,
    apply_jitted,
    converted,
    keras_output,
    keras_weights,
    photograph,
    refusal,
    save_keras,
    save_torch,
    saved,
    torch_network,
    torch_output,
)
from tests.weights.torch_writer import NEEDS_TORCH, Bomb, old_torch_bytes, torch_bytes
from wdsr_jax.errors import UserError
from wdsr_jax.evaluation.benchmark import evaluate
from wdsr_jax.evaluation.examples import examples_of_folder
from wdsr_jax.image.resize import imresize
from wdsr_jax.models.layers import DIV2K_MEAN
from wdsr_jax.weights.conversion import convert, convert_to_torch
from wdsr_jax.weights.store import load_pretrained
from wdsr_jax.weights.torch_files import open_torch

pytestmark = [
    pytest.mark.usefixtures("compile_cache"),
    # torch.nn.utils.weight_norm, which the projects use, is deprecated.
    pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated"),
]


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


# --- other networks ---------------------------------------------------------------------------------------


def in_numpy(forward, *args, **fields):
    """The random weights of a network, and what it makes of the photograph, (H, W, 3)."""
    weights = other.Weights()
    sr = forward(weights, *args, **fields)
    return dict(weights), sr.transpose(1, 2, 0)


def check(path, expected, **hints):
    """The network of a file, which computes in JAX what is expected of it."""
    convert(path, path.with_name("ours.safetensors"), **hints)
    module, params = load_pretrained(path.with_name("ours.safetensors"))
    np.testing.assert_allclose(apply_jitted(module, params), expected, atol=1e-4, rtol=0)
    return module


def save(path, weights, kind):
    """The state dict as it is, in a checkpoint, or as safetensors."""
    weights = dict(weights)
    if kind == "safetensors":
        path.write_bytes(safetensors.numpy.save({k: np.ascontiguousarray(v) for k, v in weights.items()}))
    else:
        path.write_bytes(torch_bytes(weights if kind == "bare" else {kind: weights, "iter": 5}))


TORCH = {
    "official 2020 x2": (other.wdsr, (2, "2020"), "model_state_dict", {}),
    "official 2018 x3": (other.wdsr, (3, "2018"), "bare", {}),
    "official 2018, WDSR-B x4": (other.wdsr, (4, "2018", "b"), "safetensors", {}),
    "WDSR-pytorch x4": (other.wdsr, (4, "module"), "state_dict", {}),
    "WDSR-pytorch, WDSR-B x2": (other.wdsr, (2, "module", "b"), "state_dict", {}),
    "EDSR-PyTorch x2": (other.edsr_pytorch, (2,), "bare", {}),
    "EDSR-PyTorch x3": (other.edsr_pytorch, (3,), "model", {}),
    "torchSR EDSR x4": (other.edsr_pytorch, (4,), "safetensors", {}),
    "EDSR-PyTorch, res_scale": (other.edsr_pytorch, (2, 2, 6, 0.3), "state_dict", dict(res_scale=0.3)),
    "BasicSR EDSR x3": (other.edsr_basicsr, (3,), "params", {}),
    "BasicSR EDSR x4": (other.edsr_basicsr, (4,), "params_ema", {}),
    "MSRResNet x2": (other.msrresnet, (2,), "params_ema", {}),
    "MSRResNet x3": (other.msrresnet, (3,), "safetensors", {}),
    "MSRResNet x4": (other.msrresnet, (4,), "params", {}),
    "yjn870 RDN x2": (other.rdn, (2, other.YJN870), "bare", {}),
    "torchSR RDN x4": (other.rdn, (4, other.YJN870), "safetensors", {}),
    "EDSR-PyTorch RDN x3": (functools.partial(other.rdn, top=255), (3, other.EDSR_PYTORCH), "bare", {}),
}


@pytest.mark.parametrize("case", TORCH)
def test_other_networks_of_pytorch_compute_the_same(tmp_path, case):
    forward, arguments, kind, hints = TORCH[case]
    weights, expected = in_numpy(forward, *arguments)
    save(tmp_path / "w.pth", weights, kind)
    module = check(tmp_path / "w.pth", expected, **hints)
    assert module.scale == arguments[0] and module.blocks == 2 and module.filters == 6


def y_of(rgb, channels):
    """Luma in [0, 1] of (3, H, W), by JFIF 1.02 or, from 16 to 235, by ITU-R BT.601."""
    y = np.tensordot([0.299, 0.587, 0.114], rgb, 1)[None]
    return y if channels == "luma_full" else (16 + 219 * y) / 255


@pytest.mark.parametrize(
    "names, sizes, channels",
    [
        (("conv1", "conv2", "conv3"), (9, 5, 5), "rgb"),
        (("conv1", "conv2", "conv3"), (9, 5, 5), "luma_studio"),  # yjn870
        (("patch_ex", "nl_mapping", "reconstruction"), (9, 1, 5), "luma_full"),  # khanu263
    ],
)
def test_srcnn_computes_the_same(tmp_path, names, sizes, channels):
    enlarged = imresize(photograph().astype(np.float64) / 255, 3).transpose(2, 0, 1)
    seen = enlarged if channels == "rgb" else y_of(enlarged, channels)
    weights = other.Weights()
    sr = other.srcnn(weights, seen, names, sizes)
    if channels != "rgb":  # the same chroma and another luma: R, G and B change alike
        sr = enlarged + (sr - seen) * (1 if channels == "luma_full" else 255 / 219)
    save(tmp_path / "w.pth", weights, "bare")
    module = check(tmp_path / "w.pth", sr.transpose(1, 2, 0), scale=3)
    assert module.channels == channels and module.middle == sizes[1]
    assert "which does not say for which scale" in refusal(tmp_path / "w.pth")


KERAS = {
    "EDSR x2": (other.edsr_keras, (2,)),
    "EDSR x4": (other.edsr_keras, (4,)),
    "RDN x2": (other.rdn_keras, (2,)),
    "RDN x4": (other.rdn_keras, (4,)),
    "idealo's RDN, shuffle": (other.rdn_idealo, (2, False)),
    "idealo's RDN, ups": (other.rdn_idealo, (3, True)),
}


def save_layers(weights, path):
    """A file of Keras with the layers in the order in which they were made."""
    with h5py.File(path, "w") as file:
        layers = list(dict.fromkeys(name.rpartition("/")[0] for name in weights))
        for layer in layers:
            leaves = ("kernel", "bias")
            for leaf in leaves:
                file[f"{layer}/{layer}/{leaf}:0"] = weights[f"{layer}/{leaf}"]
            file[layer].attrs["weight_names"] = [f"{layer}/{leaf}:0".encode() for leaf in leaves]
        file.attrs["layer_names"] = [layer.encode() for layer in layers]


@pytest.mark.parametrize("case", KERAS)
def test_other_networks_of_keras_compute_the_same(tmp_path, case):
    forward, arguments = KERAS[case]
    weights = other.Weights(kernel="/kernel", bias="/bias", keras=True)
    expected = forward(weights, *arguments).transpose(1, 2, 0)
    save_layers(weights, tmp_path / "w.h5")
    module = check(tmp_path / "w.h5", expected)
    assert module.scale == arguments[0] and module.blocks == 2


def test_an_srcnn_of_keras_computes_the_same(tmp_path):
    enlarged = imresize(photograph().astype(np.float64) / 255, 2).transpose(2, 0, 1)
    weights = other.Weights(kernel="/kernel", bias="/bias", keras=True)
    sr = other.srcnn(weights, enlarged, ("conv2d", "conv2d_1", "conv2d_2"), (9, 1, 5))
    save_layers(weights, tmp_path / "w.h5")
    check(tmp_path / "w.h5", sr.transpose(1, 2, 0), scale=2)


# --- forms of a file --------------------------------------------------------------------------------------


def normed(weights, form, seed=3):
    """The same network by g and v, for every convolution."""
    g_name, v_name = {
        "old": (".weight_g", ".weight_v"),
        "new": (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
    }[form]
    rng, found = np.random.default_rng(seed), {}
    for name, array in weights.items():
        if not name.endswith(".weight"):
            found[name] = array
            continue
        factor = rng.uniform(0.5, 2, (len(array), 1, 1, 1)).astype(np.float32)
        found[name.removesuffix(".weight") + g_name] = np.sqrt((array**2).sum((1, 2, 3), keepdims=True))
        found[name.removesuffix(".weight") + v_name] = array * factor
    return found


@pytest.mark.parametrize("form", ["old", "new"])
@pytest.mark.parametrize(
    "forward, arguments",
    [
        (other.edsr_basicsr, (2,)),
        (other.msrresnet, (2,)),
        (other.wdsr, (3, "2020")),
        (other.wdsr, (2, "2018", "b")),
    ],
    ids=["EDSR", "MSRResNet", "2020", "2018"],
)
def test_both_forms_of_weight_norm(tmp_path, forward, arguments, form):
    """Networks keep it; of MSRResNet, which has none here, it is multiplied out."""
    weights, expected = in_numpy(forward, *arguments)
    save(tmp_path / "w.pth", normed(weights, form), "params")
    module = check(tmp_path / "w.pth", expected)
    assert getattr(module, "norm", "weight") == "weight"


def test_both_forms_make_the_same_file(tmp_path, state):
    parametrized = {}
    for name, array in state.items():
        name = name.replace(".weight_g", ".parametrizations.weight.original0")
        parametrized[name.replace(".weight_v", ".parametrizations.weight.original1")] = array
    for name, weights in (("a", state), ("b", parametrized)):
        save(tmp_path / f"{name}.pth", weights, "bare")
        convert(tmp_path / f"{name}.pth", tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model.", "_orig_mod.module."])
@pytest.mark.parametrize("kind", ["bare", "state_dict", "safetensors"])
def test_prefixes_make_no_difference(tmp_path, prefix, kind):
    weights, expected = in_numpy(other.edsr_basicsr, 2)
    save(tmp_path / "w.pth", {prefix + name: array for name, array in weights.items()}, kind)
    check(tmp_path / "w.pth", expected)


def test_the_average_of_the_weights_is_taken_where_there_is_one(tmp_path):
    average, expected = in_numpy(other.msrresnet, 2)
    others = {name: array * 2 for name, array in average.items()}
    content = {"params": others, "params_ema": average}
    (tmp_path / "w.pth").write_bytes(torch_bytes(content))
    check(tmp_path / "w.pth", expected)


def with_mean_shift(weights, mean, top, inner=""):
    shifts = {"sub": -mean * top, "add": mean * top}
    found = dict(weights)
    for kind, bias in shifts.items():
        found[f"{kind}_mean.{inner}weight"] = np.eye(3, dtype=np.float32)[:, :, None, None]
        found[f"{kind}_mean.{inner}bias"] = bias.astype(np.float32)
    return found


@pytest.mark.parametrize("top, inner", [(255, ""), (255, "shifter."), (1, "")])
def test_mean_and_range_come_from_the_mean_shift(tmp_path, top, inner, caplog):
    caplog.set_level("INFO")
    mean = np.array([0.4, 0.5, 0.6])
    weights, expected = in_numpy(other.edsr_pytorch, 2, mean=mean[:, None, None], top=top)
    save(tmp_path / "w.pth", with_mean_shift(weights, mean, top, inner), "bare")
    module = check(tmp_path / "w.pth", expected)
    assert module.mean == (0.4, 0.5, 0.6)
    assert "--mean" not in caplog.text and "--res-scale=1" in caplog.text


def test_a_mean_shift_that_is_none_is_refused(tmp_path):
    weights, _ = in_numpy(other.edsr_pytorch, 2)
    mean = np.array([0.4, 0.5, 0.6])
    shifted = with_mean_shift(weights, mean, 255)
    for change, message in (
        (
            {"sub_mean.weight": 2 * shifted["sub_mean.weight"]},
            "sub_mean.weight does more than to keep the colours",
        ),
        ({"sub_mean.weight": np.ones(3, np.float32)}, "sub_mean.weight does more than to keep the colours"),
        ({"sub_mean.bias": shifted["add_mean.bias"]}, "are not a mean"),
        ({"add_mean.bias": np.full(3, np.nan, np.float32)}, "are not a mean"),
        ({"add_mean.bias": np.full(3, 1e30, np.float32)}, "are not a mean"),
    ):
        save(tmp_path / "w.pth", shifted | change, "bare")
        assert message in refusal(tmp_path / "w.pth")


def test_what_batch_norm_counts_is_left_out_and_the_rest_is_named(tmp_path, state):
    save(tmp_path / "w.pth", state | {"body.0.num_batches_tracked": np.array(3.0)}, "bare")
    convert(tmp_path / "w.pth", tmp_path / "out.safetensors")


def test_options_that_a_network_has_no_use_for_are_refused(tmp_path):
    weights, _ = in_numpy(other.rdn, 2, other.YJN870)
    save(tmp_path / "w.pth", weights, "bare")
    for hints, message in (
        (dict(mean=HALF), "--mean does not go with RDN x2, 2 blocks"),
        (dict(res_scale=0.5), "--res-scale does not go with RDN x2"),
        (dict(scale=3), r"--scale=3: .* is a network for x2"),
    ):
        with pytest.raises(UserError, match=message):
            convert(tmp_path / "w.pth", tmp_path / "out.safetensors", **hints)


def test_the_large_edsr_has_the_paper_s_res_scale(tmp_path, caplog):
    caplog.set_level("INFO")
    weights, expected = in_numpy(other.edsr_basicsr, 2, 1, 256, 0.1)
    save(tmp_path / "w.pth", weights, "params")
    assert check(tmp_path / "w.pth", expected).res_scale == 0.1
    assert "taken, since the file does not say: --mean=0.4488,0.4371,0.404 --res-scale=0.1" in caplog.text


@pytest.mark.parametrize("whole", [True, False])
def test_files_of_before_0_4_and_whole_networks(tmp_path, whole):
    enlarged = imresize(photograph().astype(np.float64) / 255, 2).transpose(2, 0, 1)
    weights = other.Weights()
    sr = other.srcnn(weights, enlarged, ("patch_ex", "nl_mapping", "reconstruction"), (9, 1, 5))
    (tmp_path / "w.pt").write_bytes(old_torch_bytes(dict(weights), whole="model SRCNN" if whole else ""))
    check(tmp_path / "w.pt", sr.transpose(1, 2, 0), scale=2)


# --- real files -----------------------------------------------------------------------------------


def read_keras_as_is(path):
    """(kernel, bias, g) as `keras_weights`, by the names that Keras gave these networks."""
    names = {
        "keras-tf2-wdsr-b-32-x4.h5": [
            "weight_normalization",
            *(f"weight_normalization_{i}" for i in range(1, 99)),
        ],
        "keras-old-wdsr-b-32-x4.h5": [f"conv2d_{i}" for i in range(1, 98)],
        "keras-2020-wdsr-b-16-x4.h5": ["conv2d", *(f"conv2d_{i}" for i in range(1, 49))],
    }[path.name]
    names += [] if "tf2" in path.name else ["conv2d_main_scale_4", "conv2d_skip_scale_4"]
    with h5py.File(path) as file:
        groups = [file[name][name] for name in names]
        return [
            (group["kernel:0"][()], group["bias:0"][()], group["g:0"][()] if "g:0" in group else np.zeros(0))
            for group in groups
        ]


REAL = {
    "keras-tf2-wdsr-b-32-x4.h5": 32.09,
    "keras-2020-wdsr-b-16-x4.h5": 31.61,
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
        mean = HALF if "old" in name else DIV2K_MEAN
        expected = keras_output(read_keras_as_is(path), "b", 4, norm="tf2" in name, mean=mean)
    else:
        weights = other.Weights()
        with open_torch(path) as file:
            for key, tensor in file.content["state_dict"].items():
                if key.endswith(".weight_v"):
                    v, g = file.read(tensor), file.read(file.content["state_dict"][key[:-1] + "g"])
                    weights[key[:-2]] = v * (g / np.sqrt((v**2).sum((1, 2, 3), keepdims=True)))
                elif key.endswith(".bias"):
                    weights[key] = file.read(tensor)
        expected = other.wdsr(weights, 4, "module", "b", 16, 32, 192, 25).transpose(1, 2, 0)
    assert expected.std() > 0.05
    np.testing.assert_allclose(sr, expected, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_files_reach_their_psnr_on_set5(tmp_path, shared, name):
    convert(shared / "weights" / name, tmp_path / "converted.safetensors")
    examples = examples_of_folder(shared / "benchmarks/Set5/image_SRF_4", 4)
    result = evaluate(examples, 4, *load_pretrained(tmp_path / "converted.safetensors"), bicubic=False)
    assert result["model"]["psnr_y"] == pytest.approx(REAL[name], abs=0.005)


@pytest.mark.slow
def test_a_real_srcnn_computes_the_same_and_reaches_its_author_s_figure(tmp_path, shared):
    """32.42 dB at x3 (khanu263/pytorch-srcnn, README.md), by `data.py` and `train.py` there.

    Patches of 33x33 of Set5's luma every 14 pixels are blurred (sigma 1), reduced by Pillow's bilinear and
    enlarged by its bicubic; the figure is the mean over batches of 4.
    """
    with open_torch(shared / "weights/srcnn-915-luma-x3.pt") as file:
        modules = file.content.state["_modules"]
        weights = other.Weights()
        for layer, module in modules.items():
            for leaf, tensor in module.state["_parameters"].items():
                weights[f"{layer}.{leaf}"] = file.read(tensor)
    names = tuple(modules)
    convert(shared / "weights/srcnn-915-luma-x3.pt", tmp_path / "ours.safetensors", scale=3)
    enlarged = imresize(photograph().astype(np.float64) / 255, 3).transpose(2, 0, 1)
    luma = y_of(enlarged, "luma_full")
    sr = enlarged + other.srcnn(weights, luma, names, (9, 1, 5), 64) - luma
    actual = apply_jitted(*load_pretrained(tmp_path / "ours.safetensors"))
    np.testing.assert_allclose(actual, sr.transpose(1, 2, 0), atol=1e-4, rtol=0)

    inputs, targets = [], []
    for path in sorted((shared / "benchmarks/Set5/image_SRF_3").glob("*_HR.png")):
        image = Image.open(path).convert("YCbCr").split()[0]
        for y in range(0, image.height - 32, 14):
            for x in range(0, image.width - 32, 14):
                patch = image.crop((x, y, x + 33, y + 33))
                small = patch.filter(ImageFilter.GaussianBlur(1)).resize((11, 11), Image.Resampling.BILINEAR)
                inputs.append(np.asarray(small.resize((33, 33), Image.Resampling.BICUBIC)) / 255)
                targets.append(np.asarray(patch) / 255)
    outputs = [other.srcnn(weights, patch[None], names, (9, 1, 5), 64)[0] for patch in inputs]
    errors = ((np.stack(outputs) - np.stack(targets)) ** 2).mean((1, 2))
    batches = [errors[i : i + 4].mean() for i in range(0, len(errors), 4)]
    assert np.mean(-10 * np.log10(batches)) == pytest.approx(32.42, abs=0.005)
