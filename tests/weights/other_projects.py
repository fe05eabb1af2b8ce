"""Networks of other projects: random weights, what they compute, and their files."""

import functools

import h5py
import jax
import numpy as np
import pytest

from tests import numpy_wdsr
from tests.numpy_wdsr import random_params
from tests.weights.torch_writer import NEEDS_TORCH
from wdsr_jax.data.sample import sample_files
from wdsr_jax.errors import UserError
from wdsr_jax.image.files import read_image
from wdsr_jax.models import create_model, fold_weight_norm
from wdsr_jax.models.layers import DIV2K_MEAN
from wdsr_jax.weights.conversion import convert
from wdsr_jax.weights.store import load_pretrained, save_weights

HALF = (0.5, 0.5, 0.5)


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


def saved(path, name="wdsr_a", **config):
    """Writes a network of ours; the network and its parameters."""
    config = dict(name=name, scale=3, filters=8, blocks=2, expansion=3) | config
    module = create_model(config)
    params = random_params(module.clone(norm="batch" if module.norm == "batch" else "weight"))
    if module.norm == "none":
        params = jax.jit(fold_weight_norm)(params)
        # A filter of zeros has no direction that weight norm could scale.
        params["block_0"]["expand"]["kernel"] = params["block_0"]["expand"]["kernel"].at[..., 3].set(0)
    save_weights(path, config, params)
    return module, params


def refusal(path, destination=None, **hints):
    """The message for a file: one line that names it. Nothing is written."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(UserError) as caught:
        convert(path, destination or path.with_name("out.safetensors"), **hints)
    assert sorted(path.parent.iterdir()) == before
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{destination or path}: ")
    return message.removeprefix(f"{destination or path}: ")
