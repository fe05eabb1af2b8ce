"""VGG19 and the perceptual loss, against PyTorch on random weights in torchvision's naming."""

import hashlib

import jax
import numpy as np
import pytest

from tests.weights.torch_writer import torch_bytes
from wdsr_jax.errors import UserError
from wdsr_jax.models.vgg import LAYERS, VGG19
from wdsr_jax.training import perceptual
from wdsr_jax.training.perceptual import load_vgg, perceptual_loss

BLOCKS = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)


def random_state(blocks=5):
    """A state dict as torchvision's vgg19 has it; of the first blocks alone for tests that need no more."""
    rng, state, index, inputs = np.random.default_rng(0), {}, 0, 3
    for outputs in BLOCKS[:blocks]:
        for channels in outputs:
            scale = np.sqrt(2 / (9 * inputs))
            weight = rng.normal(0, scale, (channels, inputs, 3, 3)).astype(np.float32)
            state[f"features.{index}.weight"] = weight
            state[f"features.{index}.bias"] = rng.normal(0, 0.1, channels).astype(np.float32)
            index, inputs = index + 2, channels
        index += 1
    return state


def images(seed, size=32):
    return np.random.default_rng(seed).random((2, size, size + 4, 3), dtype=np.float32)


def torch_features(state, image, layer):
    torch = pytest.importorskip("torch")
    mean, std = (np.array(v, np.float32) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    x = torch.from_numpy(((image - mean) / std).transpose(0, 3, 1, 2).copy())
    index = 0
    for block, outputs in enumerate(BLOCKS, start=1):
        for i in range(1, len(outputs) + 1):
            weight, bias = (
                torch.from_numpy(state[f"features.{index}.{part}"]) for part in ("weight", "bias")
            )
            x = torch.nn.functional.conv2d(x, weight, bias, padding=1)
            if layer == f"conv{block}_{i}":
                return x.numpy().transpose(0, 2, 3, 1)
            x = torch.relu(x)
            if layer == f"relu{block}_{i}":
                return x.numpy().transpose(0, 2, 3, 1)
            index += 2
        x = torch.nn.functional.max_pool2d(x, 2)
        index += 1
    raise AssertionError(layer)


@pytest.mark.parametrize("layer", ["relu5_4", "conv5_4", "conv2_2", "relu1_1"])
def test_features_equal_pytorchs(tmp_path, layer):
    pytest.importorskip("torch")
    state = random_state(int(layer[4]))
    (tmp_path / "vgg.pth").write_bytes(torch_bytes(state))
    params = load_vgg(tmp_path / "vgg.pth", layer)
    assert len(params) == {"5_4": 16, "2_2": 4, "1_1": 1}[layer[4:]]
    ours = np.asarray(jax.jit(VGG19(layer).apply)({"params": params}, images(1)))
    theirs = torch_features(state, images(1), layer)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max())


def test_the_loss_is_the_rescaled_mean_square(tmp_path):
    (tmp_path / "vgg.pth").write_bytes(torch_bytes(random_state(1)))
    params = load_vgg(tmp_path / "vgg.pth", "conv1_2")
    sr, hr = images(1), images(2)
    features = [
        np.asarray(VGG19("conv1_2").apply({"params": params}, image), np.float64) for image in (sr, hr)
    ]
    expected = np.mean((features[0] / 12.75 - features[1] / 12.75) ** 2)
    assert float(perceptual_loss("conv1_2", params, sr, hr)) == pytest.approx(expected, rel=1e-5)
    assert float(perceptual_loss("conv1_2", params, sr, sr)) == 0


def test_there_are_16_convolutions_with_and_without_relu():
    assert len(LAYERS) == 32 and LAYERS[:2] == ("conv1_1", "relu1_1") and LAYERS[-1] == "relu5_4"
    with pytest.raises(ValueError, match="layer must be one of conv1_1"):
        jax.eval_shape(VGG19("conv6_1").init, jax.random.key(0), images(1))


def test_what_is_no_vgg_is_refused(tmp_path):
    path = tmp_path / "vgg.pth"
    with pytest.raises(UserError, match=r"no such file; .*https://download.pytorch.org/models/vgg19"):
        load_vgg(path, "conv1_1")
    state = random_state(2)
    path.write_bytes(torch_bytes(state))
    with pytest.raises(
        UserError, match=r"vgg.pth: features.10 is not there as VGG19 has it, \(256, 128, 3, 3\)"
    ):
        load_vgg(path, "conv3_1")
    path.write_bytes(torch_bytes(state | {"features.2.bias": np.zeros(3, np.float32)}))
    with pytest.raises(UserError, match=r"features.2 is not there as VGG19 has it"):
        load_vgg(path, "conv1_2")
    path.write_bytes(torch_bytes([1.0]))
    with pytest.raises(UserError, match="holds no state dict"):
        load_vgg(path, "conv1_1")
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match=r"vgg.pth: damaged"):
        load_vgg(path, "conv1_1")


def test_another_file_than_torchvisions_is_said(tmp_path, caplog, monkeypatch):
    content = torch_bytes(random_state(1))
    (tmp_path / "vgg.pth").write_bytes(content)
    load_vgg(tmp_path / "vgg.pth", "conv1_1")
    assert any("not the file that torchvision distributes" in message for message in caplog.messages)
    caplog.clear()
    monkeypatch.setattr(perceptual, "_SHA256", hashlib.sha256(content).hexdigest()[:8])
    load_vgg(tmp_path / "vgg.pth", "conv1_1")
    assert not caplog.messages
