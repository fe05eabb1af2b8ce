"""The perceptual loss, and which files hold the weights of its VGG19."""

import hashlib

import numpy as np
import pytest

from tests.random_vgg import images, random_state
from tests.weights.torch_writer import torch_bytes
from wdsr_jax.errors import UserError
from wdsr_jax.models.vgg import VGG19
from wdsr_jax.training import perceptual
from wdsr_jax.training.perceptual import load_vgg, perceptual_loss


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
