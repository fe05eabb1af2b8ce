"""Whose file it is shows in names and shapes; what does not fit is named."""

import functools
import io
import zipfile

import h5py
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from tests.weights.other_projects import (
    HALF,
    keras_weights,
    refusal,
    save_keras,
    save_torch,
    saved,
    torch_network,
)
from tests.weights.torch_writer import torch_bytes
from wdsr_jax.errors import UserError
from wdsr_jax.weights.conversion import convert, convert_to_torch

# torch.nn.utils.weight_norm, which the projects use, is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")


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


@pytest.mark.parametrize("project, block", [("2020", "a"), ("2018", "b"), ("WDSR-pytorch", "a")])
def test_a_state_dict_of_pytorch_in_safetensors_is_as_good_as_its_checkpoint(tmp_path, project, block):
    network = torch_network(project, block, 2)
    from safetensors.torch import save_file

    save_torch(network, project, tmp_path / "w.pth")
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    convert(tmp_path / "w.pth", tmp_path / "a.safetensors")
    convert(tmp_path / "w.safetensors", tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


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


@pytest.mark.parametrize(
    "content", [{"model_state_dict": [1]}, {}, {"head.0.bias": np.ones(3)}, 7, "text", [{}]]
)
def test_a_torch_file_without_a_wdsr_is_refused(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(torch_bytes(content))
    refusal(tmp_path / "w.pth")


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

    def claim(file):  # 4 GB of zeros that are nowhere
        del file[f"{layer}/g:0"]
        file.create_dataset(f"{layer}/g:0", (10**9,), "f4", chunks=(10**6,))

    assert "larger than the file" in changed(claim)


@pytest.mark.parametrize(
    "names, seems",
    [
        (["RRDB_trunk.0.RDB1.conv1.weight", "conv_first.weight"], "an RRDBNet, such as ESRGAN's"),
        (["layers.0.residual_group.blocks.0.attn.qkv.weight"], "a transformer, such as SwinIR"),
        (["block1.0.weight", "block2.bn1.running_mean"], "a network with batch norm or PReLU"),
        (["encoder.weight", "decoder.weight"], "nor another network that is known"),
    ],
)
def test_what_it_seems_to_be_and_what_is_read_is_said(tmp_path, names, seems):
    content = {name: np.ones((2, 2), np.float32) for name in names}
    (tmp_path / "w.pth").write_bytes(torch_bytes({"params": content}))
    message = refusal(tmp_path / "w.pth")
    assert message.startswith("not a WDSR") and seems in message and names[0][:30] in message
    assert "read are WDSR, EDSR, MSRResNet, SRCNN and RDN (docs/weights.md)" in message


def test_a_checkpoint_without_a_network_says_what_it_has(tmp_path):
    (tmp_path / "w.pth").write_bytes(torch_bytes({"epoch": 3, "optimizer": {"lr": 0.1}}))
    assert "holds no state dict, but epoch, optimizer; read are" in refusal(tmp_path / "w.pth")


def test_views_of_one_storage_that_are_more_than_the_file_are_refused(tmp_path, state):
    """Each tensor has the right shape, and all are the same bytes."""
    (tmp_path / "w.pth").write_bytes(torch_bytes(state, max(array.size for array in state.values())))
    assert "its tensors are larger than the file" in refusal(tmp_path / "w.pth")


def test_modules_within_modules_end(tmp_path):
    """A network that is a part of itself, and one of very many parts within each other."""

    def module(name, inside):
        return b"cmodel\nNet\n)\x81" + name + b"}(X\x08\0\0\0_modules}(X\x01\0\0\0a" + inside + b"uub"

    for pickled in (
        b"\x80\x02" + module(b"q\x01", b"h\x01") + b".",
        b"\x80\x02" + functools.reduce(lambda inside, _: module(b"", inside), range(40), b"N") + b".",
    ):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", pickled)
        (tmp_path / "w.pth").write_bytes(buffer.getvalue())
        assert "holds no state dict" in refusal(tmp_path / "w.pth")
