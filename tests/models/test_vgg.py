"""VGG19's features against PyTorch, on random weights in torchvision's naming."""

import jax
import numpy as np
import pytest

from tests.random_vgg import BLOCKS, images, random_state
from tests.weights.torch_writer import torch_bytes
from wdsr_jax.models.vgg import LAYERS, VGG19
from wdsr_jax.training.perceptual import load_vgg


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


def test_there_are_16_convolutions_with_and_without_relu():
    assert len(LAYERS) == 32 and LAYERS[:2] == ("conv1_1", "relu1_1") and LAYERS[-1] == "relu5_4"
    with pytest.raises(ValueError, match="layer must be one of conv1_1"):
        jax.eval_shape(VGG19("conv6_1").init, jax.random.key(0), images(1))
