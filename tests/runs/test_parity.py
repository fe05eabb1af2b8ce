"""Parity with PyTorch: the networks written there as their authors did, in float64.

Needs the extra `parity`; skipped without it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.numpy_wdsr import random_params
from wdsr_jax.models import create_model, fold_weight_norm
from wdsr_jax.models.layers import DIV2K_MEAN, pixel_shuffle
from wdsr_jax.training.losses import l1
from wdsr_jax.training.optim import create_optimizer
from wdsr_jax.training.step import create_state, train_step

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("compile_cache")

CASES = [("wdsr_a", scale) for scale in (2, 3, 4)] + [("wdsr_b", scale) for scale in (2, 3, 4)]


def conv(inputs, outputs, size):
    layer = torch.nn.Conv2d(inputs, outputs, size, padding=size // 2)
    return torch.nn.utils.parametrizations.weight_norm(layer, dim=0)


class Block(torch.nn.Module):
    def __init__(self, module):
        super().__init__()
        f, wide = module.filters, module.expansion * module.filters
        if module.block == "a":
            layers = [conv(f, wide, 3), torch.nn.ReLU(), conv(wide, f, 3)]
        else:
            low = int(f * module.low_rank_ratio)
            layers = [conv(f, wide, 1), torch.nn.ReLU(), conv(wide, low, 1), conv(low, f, 3)]
        self.body = torch.nn.Sequential(*layers)
        self.res_scale = module.res_scale

    def forward(self, x):
        return x + self.res_scale * self.body(x)


class TorchWDSR(torch.nn.Module):
    """(B, 3, H, W) -> (B, 3, H r, W r), of the hyper-parameters of `module`."""

    def __init__(self, module):
        super().__init__()
        cell = 3 * module.scale**2
        self.head = conv(3, module.filters, 3)
        self.body = torch.nn.Sequential(*(Block(module) for _ in range(module.blocks)))
        self.tail = conv(module.filters, cell, 3)
        self.skip = conv(3, cell, 5)
        self.shuffle = torch.nn.PixelShuffle(module.scale)
        self.mean = torch.tensor(DIV2K_MEAN, dtype=torch.float64).view(1, 3, 1, 1)

    def forward(self, x):
        x = x - self.mean
        return self.shuffle(self.tail(self.body(self.head(x))) + self.skip(x)) + self.mean


class TorchEDSR(torch.nn.Module):
    """The authors' network (EDSR-PyTorch, `edsr.py` and `common.py`), batch norm where SRResNet has it."""

    def __init__(self, module):
        super().__init__()
        f, batch = module.filters, module.norm == "batch"
        layer = conv if module.norm == "weight" else functools.partial(plain_conv, bias=True)
        inner = functools.partial(normed, f) if batch else lambda: layer(f, f, 3)
        self.head = layer(3, f, 3)
        self.blocks = torch.nn.ModuleList(
            torch.nn.Sequential(inner(), torch.nn.ReLU(), inner()) for _ in range(module.blocks)
        )
        self.body = inner()
        factors = {2: [2], 3: [3], 4: [2, 2]}[module.scale]
        self.up = torch.nn.ModuleList(layer(f, f * r * r, 3) for r in factors)
        self.shuffles = [torch.nn.PixelShuffle(r) for r in factors]
        self.tail = layer(f, 3, 3)
        self.res_scale = module.res_scale
        self.mean = torch.tensor(DIV2K_MEAN, dtype=torch.float64).view(1, 3, 1, 1)

    def forward(self, x):
        x = head = self.head(x - self.mean)
        for block in self.blocks:
            x = x + self.res_scale * block(x)
        x = head + self.body(x)
        for up, shuffle in zip(self.up, self.shuffles, strict=True):
            x = shuffle(up(x))
        return self.tail(x) + self.mean


def plain_conv(inputs, outputs, size, bias):
    return torch.nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=bias)


def normed(filters):
    return torch.nn.Sequential(plain_conv(filters, filters, 3, bias=False), torch.nn.BatchNorm2d(filters))


def edsr_tensors(network):
    """PyTorch's parameters and buffers under our names."""
    layers = {"head": network.head, "body": network.body, "tail": network.tail}
    layers |= {f"up_{i}": layer for i, layer in enumerate(network.up)}
    for i, block in enumerate(network.blocks):
        layers |= {f"block_{i}.first": block[0], f"block_{i}.last": block[2]}
    tensors = {}
    for name, layer in layers.items():
        if isinstance(layer, torch.nn.Sequential):
            plain, norm = layer
            leaves = dict(kernel=plain.weight, scale=norm.weight, bias=norm.bias)
            leaves |= dict(mean=norm.running_mean, var=norm.running_var)
        elif hasattr(layer, "parametrizations"):
            weight = layer.parametrizations.weight
            leaves = dict(kernel=weight.original1, scale=weight.original0, bias=layer.bias)
        else:
            leaves = dict(kernel=layer.weight, bias=layer.bias)
        tensors |= {f"{name}.{leaf}": tensor for leaf, tensor in leaves.items()}
    return tensors


def edsr_to_torch(tensor, name, shape):
    """A tensor of ours, by its name, in the layout, shape and order of channels of PyTorch's."""
    tensor = np.asarray(tensor, np.float64)
    if name.startswith("up"):  # r * r * f channels, all of one pixel side by side, become f * r * r
        factor = round((tensor.shape[-1] / EDSR_FILTERS) ** 0.5)
        cells = tensor.reshape(*tensor.shape[:-1], factor**2, EDSR_FILTERS)
        tensor = cells.swapaxes(-1, -2).reshape(tensor.shape)
    return (tensor.transpose(3, 2, 0, 1) if name.endswith("kernel") else tensor).reshape(shape)


EDSR_FILTERS = 6


def edsr_pair(scale, norm):
    config = dict(name="edsr", scale=scale, filters=EDSR_FILTERS, blocks=2, res_scale=0.8, norm=norm)
    module = create_model(config)
    params, network = random_params(module), TorchEDSR(module).double()
    flat, tensors = flatten_dict(params, sep="."), edsr_tensors(network)
    assert tensors.keys() == flat.keys()
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(torch.from_numpy(edsr_to_torch(flat[name], name, tensor.shape)))
    return module, params, network


@pytest.mark.parametrize("norm", ["weight", "batch", "none"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_edsr_forward_pass(scale, norm):
    module, params, network = edsr_pair(scale, norm)
    lr = np.random.default_rng(0).uniform(size=(2, 9, 7, 3)).astype(np.float32)
    with torch.no_grad():
        expected = network.eval()(nchw(lr)).numpy().transpose(0, 2, 3, 1)
    apply = jax.jit(lambda module, params: module.apply({"params": params}, lr), static_argnums=0)
    np.testing.assert_allclose(apply(module, params), expected, atol=1e-5, rtol=0)
    folded = apply(module.clone(norm="none"), fold_weight_norm(params))
    np.testing.assert_allclose(folded, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("norm", ["weight", "batch", "none"])
def test_edsr_gradients_and_statistics_of_training(norm):
    scale = 2
    module, params, network = edsr_pair(scale, norm)
    batch = batch_of(scale)
    torch_loss(network.train(), batch).backward()
    optimizer = create_optimizer(lambda _: 1e-3)
    lr, hr = (batch[key].astype(np.float32) / 255 for key in ("lr", "hr"))

    def loss(params):
        return l1(module.apply({"params": params}, lr, mutable=["batch_stats"])[0], hr)

    grads = flatten_dict(jax.jit(jax.grad(loss))(params), sep=".")
    state = create_state(params, optimizer, ema=False)
    step = jax.jit(functools.partial(train_step, module=module, optimizer=optimizer, loss=l1, seed=0))
    moved = flatten_dict(step(state, batch)[0].params, sep=".")
    elements = batch["lr"][..., 0].size
    for name, tensor in edsr_tensors(network).items():
        if name.endswith(("mean", "var")):
            expected = tensor.numpy()
            if name.endswith("var"):  # PyTorch records it times n / (n - 1)
                before = np.asarray(flatten_dict(params, sep=".")[name], np.float64)
                expected = 0.9 * before + (expected - 0.9 * before) * (elements - 1) / elements
            np.testing.assert_allclose(moved[name], expected, rtol=1e-5, atol=1e-6)
            assert not np.any(grads[name])
        else:
            expected = tensor.grad.numpy()
            ours = edsr_to_torch(grads[name], name, tensor.shape)
            assert np.abs(expected).max() > 1e-6
            assert np.abs(ours - expected).max() <= 2e-5 * np.abs(expected).max(), name


@pytest.mark.parametrize("fields, count", [(dict(norm="none"), 1_369_859), (dict(norm="weight"), 1_372_294)])
def test_edsr_has_the_parameters_of_pytorchs(fields, count):
    with torch.device("meta"):
        network = TorchEDSR(create_model(dict(name="edsr", scale=2, **fields)))
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def to_torch(tensor, name, scale):
    """A tensor of ours, by its name, in PyTorch's layout and order of channels."""
    tensor = np.asarray(tensor, np.float64)
    if name.startswith(("tail", "skip")):  # (cell, C) -> (C, cell), on the last axis
        cells = tensor.reshape(*tensor.shape[:-1], scale**2, 3)
        tensor = cells.swapaxes(-1, -2).reshape(tensor.shape)
    if name.endswith("kernel"):
        return tensor.transpose(3, 2, 0, 1)
    return tensor.reshape(-1, 1, 1, 1) if name.endswith("scale") else tensor


def tensors_of(network, module):
    """PyTorch's parameters under our names."""
    layers = {"head": network.head, "tail": network.tail, "skip": network.skip}
    for i, block in enumerate(network.body):
        convs = [layer for layer in block.body if not isinstance(layer, torch.nn.ReLU)]
        names = ("expand", "project") if module.block == "a" else ("expand", "reduce", "project")
        layers |= {f"block_{i}.{name}": layer for name, layer in zip(names, convs, strict=True)}
    tensors = {}
    for name, layer in layers.items():
        tensors[f"{name}.kernel"] = layer.parametrizations.weight.original1
        tensors[f"{name}.scale"] = layer.parametrizations.weight.original0
        tensors[f"{name}.bias"] = layer.bias
    return tensors


def torch_network(module, params):
    network = TorchWDSR(module).double()
    flat = flatten_dict(params, sep=".")
    tensors = tensors_of(network, module)
    assert tensors.keys() == flat.keys()
    with torch.no_grad():
        for name, tensor in tensors.items():
            ours = to_torch(flat[name], name, module.scale)
            assert tensor.shape == ours.shape, name
            tensor.copy_(torch.from_numpy(ours))
    return network


def nchw(image):
    return torch.from_numpy(np.asarray(image, np.float64).transpose(0, 3, 1, 2).copy())


def small(name, scale):
    config = dict(name=name, scale=scale, filters=8, blocks=2, expansion=3, res_scale=0.8)
    module = create_model(config)
    return module, random_params(module)


def batch_of(scale):
    rng = np.random.default_rng(scale)
    # An odd number of pixels: the signs that are the gradient of a bias cannot cancel but for rounding,
    # of which Adam would make a whole step.
    return {
        "lr": rng.integers(0, 256, (3, 7, 5, 3), dtype=np.uint8),
        "hr": rng.integers(0, 256, (3, 7 * scale, 5 * scale, 3), dtype=np.uint8),
    }


def torch_loss(network, batch):
    return torch.nn.functional.l1_loss(network(nchw(batch["lr"] / 255)), nchw(batch["hr"] / 255))


def assert_forward_parity(module, params, size):
    lr = np.random.default_rng(0).uniform(size=size).astype(np.float32)
    with torch.no_grad():
        expected = torch_network(module, params)(nchw(lr)).numpy().transpose(0, 2, 3, 1)
    apply = jax.jit(lambda module, params: module.apply({"params": params}, lr), static_argnums=0)
    np.testing.assert_allclose(apply(module, params), expected, atol=1e-5, rtol=0)
    folded = apply(module.clone(norm="none"), fold_weight_norm(params))
    np.testing.assert_allclose(folded, expected, atol=1e-5, rtol=0)


def test_pixel_shuffle_is_pytorchs_but_for_the_order_of_channels():
    x = np.random.default_rng(0).uniform(size=(2, 3, 4, 3 * 9)).astype(np.float32)
    ours = pixel_shuffle(jnp.asarray(x), 3)
    reordered = x.reshape(2, 3, 4, 9, 3).swapaxes(-1, -2).reshape(x.shape)
    theirs = torch.nn.functional.pixel_shuffle(nchw(reordered), 3).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(ours, theirs.astype(np.float32))


@pytest.mark.parametrize("name, scale", CASES)
def test_forward_pass(name, scale):
    assert_forward_parity(*small(name, scale), (2, 9, 7, 3))


def test_forward_pass_of_the_full_network():
    module = create_model(dict(name="wdsr_a", scale=4))  # 16 blocks, 32 filters
    # The authors' g, so that the signal keeps its size.
    params = jax.tree.map(jnp.copy, random_params(module))
    initial = {"expand": 2.0, "project": 16**-0.5}
    for layer in (params[f"block_{i}"] for i in range(16)):
        for conv_name, g in initial.items():
            layer[conv_name]["scale"] = jnp.full_like(layer[conv_name]["scale"], g)
    assert_forward_parity(module, params, (1, 24, 20, 3))


@pytest.mark.parametrize("name, scale", CASES)
def test_gradients_of_the_l1_loss(name, scale):
    module, params = small(name, scale)
    batch = batch_of(scale)
    network = torch_network(module, params)
    torch_loss(network, batch).backward()

    lr, hr = (batch[key].astype(np.float32) / 255 for key in ("lr", "hr"))

    def loss(params):
        return l1(module.apply({"params": params}, lr), hr)

    grads = flatten_dict(jax.jit(jax.grad(loss))(params), sep=".")
    for leaf, tensor in tensors_of(network, module).items():
        expected = tensor.grad.numpy()
        ours = to_torch(grads[leaf], leaf, scale)
        assert np.abs(expected).max() > 1e-6  # there is something to compare
        assert np.abs(ours - expected).max() <= 1e-5 * np.abs(expected).max(), leaf


@pytest.mark.parametrize("name, scale", [("wdsr_a", 3), ("wdsr_b", 2)])
def test_two_steps_of_adam(name, scale):
    module, params = small(name, scale)
    batch = batch_of(scale)
    network = torch_network(module, params)
    adam = torch.optim.Adam(network.parameters(), lr=1e-3)
    optimizer = create_optimizer(lambda _: 1e-3)
    state = create_state(params, optimizer, ema=False)
    step = jax.jit(functools.partial(train_step, module=module, optimizer=optimizer, loss=l1, seed=0))
    for _ in range(2):
        adam.zero_grad()
        loss = torch_loss(network, batch)
        loss.backward()
        adam.step()
        state, metrics = step(state, batch)
        assert float(metrics["loss"]) == pytest.approx(loss.item(), abs=1e-6)

    start, ours = flatten_dict(params, sep="."), flatten_dict(state.params, sep=".")
    for leaf, tensor in tensors_of(network, module).items():
        difference = np.abs(to_torch(ours[leaf], leaf, scale) - tensor.detach().numpy())
        moved = np.abs(np.asarray(ours[leaf]) - np.asarray(start[leaf]))
        assert 1e-3 < moved.max() < 3e-3, leaf
        assert difference.max() < 1e-5, leaf  # a hundredth of one step
