"""Conversion: a converted network computes what its source does, and what cannot be converted is named."""

import h5py
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.weights.other_projects import (
    HALF,
    apply,
    apply_jitted,
    converted,
    keras_output,
    keras_weights,
    refusal,
    save_keras,
    save_torch,
    saved,
    torch_network,
    torch_output,
)
from tests.weights.torch_writer import NEEDS_TORCH, Bomb, torch_bytes
from wdsr_jax.errors import UserError
from wdsr_jax.evaluation.benchmark import evaluate
from wdsr_jax.evaluation.examples import examples_of_folder
from wdsr_jax.models.layers import DIV2K_MEAN
from wdsr_jax.weights.architectures import low_rank_ratio
from wdsr_jax.weights.conversion import convert, convert_to_torch
from wdsr_jax.weights.store import load_pretrained

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


def test_every_low_rank_width_has_a_ratio():
    for filters in range(1, 130):
        for rank in range(1, 2 * filters):
            assert int(low_rank_ratio(rank, filters) * filters) == rank
    assert low_rank_ratio(25, 32) == 0.8


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
