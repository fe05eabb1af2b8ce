"""Parity with PyTorch, written there in float64, of the networks beside WDSR and EDSR.

Small networks are compared, and the numbers of parameters of the papers'. Needs the extra `parity`; skipped
without it.
"""

import functools

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.numpy_wdsr import random_params
from wdsr_jax.models import create_model, fold_weight_norm, replace_fields
from wdsr_jax.training import step as steps
from wdsr_jax.training.losses import l2
from wdsr_jax.training.optim import create_optimizer

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
nn = torch.nn
pytestmark = pytest.mark.usefixtures("compile_cache")
weight_norm = nn.utils.parametrizations.weight_norm


def same(inputs, outputs, size, bias=True):
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=bias)


class Sum(nn.Module):
    """x + body(x)"""

    def __init__(self, *body):
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x):
        return x + self.body(x)


class TorchSRCNN(nn.Module):
    def __init__(self, scale, middle=1, filters=64):
        super().__init__()
        self.extract, self.map = same(3, filters, 9), same(filters, filters // 2, middle)
        self.reconstruct, self.scale = same(filters // 2, 3, 5), scale

    def forward(self, x):
        # PyTorch's bicubic has a = -0.75, MATLAB's -0.5.
        x = enlarge(enlarge(x, self.scale).mT, self.scale).mT
        return self.reconstruct(torch.relu(self.map(torch.relu(self.extract(x)))))

    def names(self):
        return {"extract": self.extract, "map": self.map, "reconstruct": self.reconstruct}


def keys_cubic(x):
    """Keys 1981, equation 15."""
    x = abs(x)
    if x < 1:
        return 3 / 2 * x**3 - 5 / 2 * x**2 + 1
    return -1 / 2 * x**3 + 5 / 2 * x**2 - 4 * x + 2 if x < 2 else 0


def enlarge(x, scale):
    """(..., W, C) with axis W, that before the last, enlarged."""
    length = x.shape[-2]
    matrix = torch.zeros(length * scale, length, dtype=x.dtype)
    for i in range(length * scale):
        position = (i + 0.5) / scale - 0.5
        for j in range(-4, length + 4):
            matrix[i, min(max(j, 0), length - 1)] += keys_cubic(position - j)
    return matrix @ x


class TorchSRResNet(nn.Module):
    def __init__(self, scale, filters=64, blocks=16, norm="batch"):
        super().__init__()

        def inner():
            if norm == "batch":
                return nn.Sequential(same(filters, filters, 3, bias=False), nn.BatchNorm2d(filters))
            return same(filters, filters, 3)

        self.head = nn.Sequential(same(3, filters, 9), nn.PReLU())
        self.blocks = nn.Sequential(*(Sum(inner(), nn.PReLU(), inner()) for _ in range(blocks)))
        self.body = inner()
        stages = [
            nn.Sequential(same(filters, 4 * filters, 3), nn.PixelShuffle(2), nn.PReLU())
            for _ in range(scale.bit_length() - 1)
        ]
        self.up, self.tail = nn.Sequential(*stages), same(filters, 3, 9)

    def forward(self, x):
        x = self.head(x)
        return self.tail(self.up(x + self.body(self.blocks(x))))

    def names(self):
        named = {"head": self.head[0], "head_prelu": self.head[1], "body": self.body, "tail": self.tail}
        for i, block in enumerate(self.blocks):
            parts = zip(("first", "prelu", "last"), block.body, strict=True)
            named |= {f"block_{i}.{name}": part for name, part in parts}
        for i, stage in enumerate(self.up):
            named |= {f"up_{i}": stage[0], f"up_{i}_prelu": stage[2]}
        return named


class Dense(nn.Module):
    def __init__(self, inputs, layers, growth):
        super().__init__()
        self.convs = nn.ModuleList(same(inputs + c * growth, growth, 3) for c in range(layers))
        self.fuse = same(inputs + layers * growth, inputs, 1)

    def forward(self, x):
        features = [x]
        for conv in self.convs:
            features.append(torch.relu(conv(torch.cat(features, 1))))
        return x + self.fuse(torch.cat(features, 1))


class TorchRDN(nn.Module):
    def __init__(self, scale, filters=64, blocks=16, layers=8, growth=64):
        super().__init__()
        self.shallow = nn.ModuleList([same(3, filters, 3), same(filters, filters, 3)])
        self.blocks = nn.ModuleList(Dense(filters, layers, growth) for _ in range(blocks))
        self.fuse = nn.Sequential(same(blocks * filters, filters, 1), same(filters, filters, 3))
        factors = {2: [2], 3: [3], 4: [2, 2]}[scale]
        self.up = nn.ModuleList(same(filters, filters * r * r, 3) for r in factors)
        self.shuffles, self.tail = [nn.PixelShuffle(r) for r in factors], same(filters, 3, 3)

    def forward(self, x):
        first = self.shallow[0](x)
        x, outputs = self.shallow[1](first), []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        x = first + self.fuse(torch.cat(outputs, 1))
        for up, shuffle in zip(self.up, self.shuffles, strict=True):
            x = shuffle(up(x))
        return self.tail(x)

    def names(self):
        named = {"tail": self.tail}
        for i in range(2):
            named |= {f"shallow_{i}": self.shallow[i], f"fuse_{i}": self.fuse[i]}
        for d, block in enumerate(self.blocks):
            named |= {f"block_{d}.conv_{c}": conv for c, conv in enumerate(block.convs)}
            named[f"block_{d}.fuse"] = block.fuse
        return named | {f"up_{i}": up for i, up in enumerate(self.up)}


class TorchSRDenseNet(nn.Module):
    def __init__(self, scale, filters=256, blocks=8, layers=8, growth=16):
        super().__init__()
        width = layers * growth
        self.low_level, self.tail = same(3, width, 3), same(filters, 3, 3)
        self.blocks = nn.ModuleList(
            nn.ModuleList(same(c * growth or width * (b + 1), growth, 3) for c in range(layers))
            for b in range(blocks)
        )
        self.bottleneck = same(width * (blocks + 1), filters, 1)
        transposed = functools.partial(nn.ConvTranspose2d, filters, filters)
        factors = {2: [2], 3: [3], 4: [2, 2]}[scale]
        self.up = nn.ModuleList(
            transposed(2 * r - 1, stride=r, padding=r - 1, output_padding=r - 1) for r in factors
        )

    def forward(self, x):
        x = torch.relu(self.low_level(x))
        for first, *others in self.blocks:
            outputs = [torch.relu(first(x))]
            for conv in others:
                outputs.append(torch.relu(conv(torch.cat(outputs, 1))))
            x = torch.cat([x, *outputs], 1)
        x = torch.relu(self.bottleneck(x))
        for up in self.up:
            x = torch.relu(up(x))
        return self.tail(x)

    def names(self):
        named = {"low_level": self.low_level, "bottleneck": self.bottleneck, "tail": self.tail}
        for b, block in enumerate(self.blocks):
            named |= {f"block_{b}.conv_{c}": conv for c, conv in enumerate(block)}
        return named | {f"up_{i}": up for i, up in enumerate(self.up)}


class TorchDeconvolution(nn.Module):
    """EDSR with transposed convolutions."""

    def __init__(self, scale, filters=64, blocks=16):
        super().__init__()
        self.head, self.body = same(3, filters, 3), same(filters, filters, 3)
        block = lambda: Sum(same(filters, filters, 3), nn.ReLU(), same(filters, filters, 3))  # noqa: E731
        self.blocks = nn.Sequential(*(block() for _ in range(blocks)))
        transposed = functools.partial(nn.ConvTranspose2d, filters, filters)
        factors = {2: [2], 3: [3], 4: [2, 2]}[scale]
        self.up = nn.Sequential(
            *(transposed(2 * r - 1, stride=r, padding=r - 1, output_padding=r - 1) for r in factors)
        )
        self.tail = same(filters, 3, 3)

    def forward(self, x):
        mean = torch.tensor((0.4488, 0.4371, 0.4040), dtype=x.dtype).view(1, 3, 1, 1)
        x = self.head(x - mean)
        return self.tail(self.up(x + self.body(self.blocks(x)))) + mean

    def names(self):
        named = {"head": self.head, "body": self.body, "tail": self.tail}
        for i, block in enumerate(self.blocks):
            named |= {f"block_{i}.first": block.body[0], f"block_{i}.last": block.body[2]}
        return named | {f"up_{i}": up for i, up in enumerate(self.up)}


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        hidden = max(1, channels // 16)
        self.squeeze, self.excite = (
            weight_norm(same(channels, hidden, 1)),
            weight_norm(same(hidden, channels, 1)),
        )

    def forward(self, x):
        means = nn.functional.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.excite(torch.relu(self.squeeze(means))))


class TorchEDRN(nn.Module):
    def __init__(self, filters=64, blocks=10):
        super().__init__()
        f = filters
        conv = lambda inputs, outputs: weight_norm(same(inputs, outputs, 3))  # noqa: E731
        self.head, self.tail = conv(3, f), conv(f, 3)
        down = lambda i, o: nn.Conv2d(i, o, 3, stride=2, padding=1)  # noqa: E731
        up = lambda i, o: nn.ConvTranspose2d(i, o, 3, stride=2, padding=1, output_padding=1)  # noqa: E731
        sides = {
            "encoder": (down, [(f, 2 * f), (2 * f, 4 * f)]),
            "decoder": (up, [(4 * f, 2 * f), (2 * f, f)]),
        }
        for side, (layer, channels) in sides.items():
            stages = [
                nn.Sequential(weight_norm(layer(*c)), nn.BatchNorm2d(c[1]), nn.ReLU()) for c in channels
            ]
            setattr(self, side, nn.ModuleList(stages))

        def group(c):
            block = lambda: Sum(conv(c, c), nn.ReLU(), conv(c, c), Attention(c))  # noqa: E731
            return Sum(*(block() for _ in range(blocks)), conv(c, c))

        def level(c, groups):
            return nn.Sequential(*(group(c) for _ in range(groups)), conv(c, c))

        self.levels = nn.ModuleList([level(4 * f, 4), level(2 * f, 2), level(f, 1)])
        self.mean = torch.tensor((0.4313, 0.4162, 0.3861), dtype=torch.float64).view(1, 3, 1, 1)

    def forward(self, x):
        height, width = x.shape[2:]
        x = nn.functional.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate") - self.mean
        full = self.head(x)
        half = self.encoder[0](full)
        quarter = self.encoder[1](half)
        x = self.decoder[0](self.levels[0](quarter) + quarter)
        x = self.decoder[1](self.levels[1](x) + half)
        return (self.tail(self.levels[2](x) + full) + self.mean)[:, :, :height, :width]

    def names(self):
        named = {"head": self.head, "tail": self.tail}
        for i in range(2):
            for side in ("encoder", "decoder"):
                stage = getattr(self, side)[i]
                named |= {f"{side}_{i}": stage[0], f"{side}_{i}_norm": stage[1]}
        for i, level in enumerate(self.levels):
            *groups, close = level
            named[f"level_{i}_close"] = close
            for g, group in enumerate(groups):
                *blocks, close = group.body
                prefix = f"level_{i}_group_{g}"
                named[f"{prefix}.close"] = close
                for b, block in enumerate(blocks):
                    first, _, last, attention = block.body
                    parts = {"first": first, "last": last}
                    parts |= {"attention.squeeze": attention.squeeze, "attention.excite": attention.excite}
                    named |= {f"{prefix}.block_{b}.{name}": part for name, part in parts.items()}
        return named


def tensors_of(network):
    """PyTorch's parameters and buffers, and whether they are a transposed convolution's, under our names."""
    tensors = {}
    for name, layer in network.names().items():
        transposed = isinstance(layer, nn.ConvTranspose2d)
        if isinstance(layer, nn.Sequential):  # a convolution without bias, and batch norm
            conv, norm = layer
            leaves = dict(kernel=conv.weight, scale=norm.weight, bias=norm.bias)
            leaves |= dict(mean=norm.running_mean, var=norm.running_var)
        elif isinstance(layer, nn.BatchNorm2d):
            leaves = dict(scale=layer.weight, bias=layer.bias, mean=layer.running_mean, var=layer.running_var)
        elif isinstance(layer, nn.PReLU):
            leaves = dict(slope=layer.weight)
        elif hasattr(layer, "parametrizations"):
            weight = layer.parametrizations.weight
            leaves = dict(kernel=weight.original1, scale=weight.original0, bias=layer.bias)
        else:
            leaves = dict(kernel=layer.weight, bias=layer.bias)
        tensors |= {f"{name}.{leaf}": (tensor, transposed) for leaf, tensor in leaves.items()}
    return tensors


def to_torch(tensor, name, shape, transposed):
    """A tensor of ours in PyTorch's layout, shape and order of channels."""
    tensor = np.asarray(tensor, np.float64)
    if name.startswith("up_") and not transposed and not name.endswith("slope"):  # before a pixel shuffle
        outputs = tensor.shape[-1]
        factor = 3 if outputs % FILTERS == 0 and outputs // FILTERS == 9 else 2
        cells = tensor.reshape(*tensor.shape[:-1], factor**2, outputs // factor**2)
        tensor = cells.swapaxes(-1, -2).reshape(tensor.shape)
    # (k, k, I, O) to (O, I, k, k); a transposed convolution's (k, k, O, I) to (I, O, k, k)
    return (tensor.transpose(3, 2, 0, 1) if name.endswith("kernel") else tensor).reshape(shape)


FILTERS = 6
NETWORKS = {
    "srcnn_915 x2": (dict(name="srcnn_915", scale=2, filters=FILTERS), lambda: TorchSRCNN(2, 1, FILTERS)),
    "srcnn_955 x3": (dict(name="srcnn_955", scale=3, filters=FILTERS), lambda: TorchSRCNN(3, 5, FILTERS)),
    "srcnn_915 x4": (dict(name="srcnn_915", scale=4, filters=FILTERS), lambda: TorchSRCNN(4, 1, FILTERS)),
    "srresnet x2": (
        dict(name="srresnet", scale=2, filters=FILTERS, blocks=2),
        lambda: TorchSRResNet(2, FILTERS, 2),
    ),
    "srresnet x4": (
        dict(name="srresnet", scale=4, filters=FILTERS, blocks=2),
        lambda: TorchSRResNet(4, FILTERS, 2),
    ),
    "srresnet without norm": (
        dict(name="srresnet", scale=2, filters=FILTERS, blocks=1, norm="none"),
        lambda: TorchSRResNet(2, FILTERS, 1, "none"),
    ),
    "rdn x2": (
        dict(name="rdn", scale=2, filters=FILTERS, blocks=3, layers=2, growth=4),
        lambda: TorchRDN(2, FILTERS, 3, 2, 4),
    ),
    "rdn x3": (
        dict(name="rdn", scale=3, filters=FILTERS, blocks=2, layers=3, growth=5),
        lambda: TorchRDN(3, FILTERS, 2, 3, 5),
    ),
    "rdn x4": (
        dict(name="rdn", scale=4, filters=FILTERS, blocks=2, layers=3, growth=5),
        lambda: TorchRDN(4, FILTERS, 2, 3, 5),
    ),
    **{
        f"srdensenet x{scale}": (
            dict(name="srdensenet", scale=scale, filters=FILTERS, blocks=2, layers=3, growth=4),
            functools.partial(TorchSRDenseNet, scale, FILTERS, 2, 3, 4),
        )
        for scale in (2, 3, 4)
    },
    **{
        f"deconvolution x{scale}": (
            dict(name="edsr", scale=scale, filters=FILTERS, blocks=1, norm="none", upsampler="deconvolution"),
            functools.partial(TorchDeconvolution, scale, FILTERS, 1),
        )
        for scale in (2, 3, 4)
    },
    "edrn": (dict(name="edrn", scale=1, filters=8, blocks=1), lambda: TorchEDRN(8, 1)),
}
OF_TRAINING = ["srcnn_955 x3", "srresnet x4", "rdn x2", "srdensenet x4", "deconvolution x3", "edrn"]


def pair(case):
    config, build = NETWORKS[case]
    module, network = create_model(config), build().double()
    params, tensors = random_params(module), tensors_of(network)
    flat = flatten_dict(params, sep=".")
    assert tensors.keys() == flat.keys()
    with torch.no_grad():
        for name, (tensor, transposed) in tensors.items():
            tensor.copy_(torch.from_numpy(to_torch(flat[name], name, tensor.shape, transposed)))
    return module, params, network


def nchw(image):
    return torch.from_numpy(np.asarray(image, np.float64).transpose(0, 3, 1, 2).copy())


@pytest.mark.parametrize("case", NETWORKS)
def test_forward_pass(case):
    module, params, network = pair(case)
    lr = np.random.default_rng(0).uniform(size=(2, 9, 7, 3)).astype(np.float32)
    with torch.no_grad():
        expected = network.eval()(nchw(lr)).numpy().transpose(0, 2, 3, 1)
    assert expected.shape == (2, 9 * module.scale, 7 * module.scale, 3)
    assert expected.std() > 1e-3
    apply = jax.jit(lambda module, params: module.apply({"params": params}, lr), static_argnums=0)
    np.testing.assert_allclose(apply(module, params), expected, atol=1e-5, rtol=1e-5)
    folded = apply(replace_fields(module, norm="none"), fold_weight_norm(params))
    np.testing.assert_allclose(folded, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", OF_TRAINING)
def test_gradients_and_statistics_of_training(case):
    module, params, network = pair(case)
    rng = np.random.default_rng(1)
    lr = rng.integers(0, 256, (3, 8, 5, 3), dtype=np.uint8)
    hr = rng.integers(0, 256, (3, 8 * module.scale, 5 * module.scale, 3), dtype=np.uint8)
    loss = nn.functional.mse_loss(network.train()(nchw(lr / 255)), nchw(hr / 255))
    loss.backward()

    def mean_square(params):
        sr = module.apply({"params": params}, np.float32(lr) / 255, mutable=["batch_stats"])[0]
        return l2(sr, np.float32(hr) / 255)

    grads = flatten_dict(jax.jit(jax.grad(mean_square))(params), sep=".")
    optimizer = create_optimizer(lambda _: 1e-3)
    state = steps.create_state(params, optimizer, ema=False)
    step = jax.jit(functools.partial(steps.train_step, module=module, optimizer=optimizer, loss=l2, seed=0))
    after, metrics = step(state, {"lr": lr, "hr": hr})
    assert float(metrics["loss"]) == pytest.approx(loss.item(), rel=1e-5)
    moved, start = (flatten_dict(tree, sep=".") for tree in (after.params, params))
    tensors = tensors_of(network)
    largest = max(t.grad.abs().max() for t, _ in tensors.values() if t.grad is not None)
    for name, (tensor, transposed) in tensors.items():
        if name.endswith("mean"):
            np.testing.assert_allclose(moved[name], tensor.numpy(), rtol=1e-4, atol=1e-5)
        elif name.endswith("var"):  # PyTorch's has n - 1 in the denominator
            assert not np.array_equal(moved[name], start[name])
        else:
            ours = to_torch(grads[name], name, tensor.shape, transposed)
            # Before a batch norm a bias and the length of a kernel have none but by rounding.
            np.testing.assert_allclose(
                ours, tensor.grad.numpy(), rtol=1e-3, atol=1e-5 * float(largest), err_msg=name
            )


@pytest.mark.parametrize(
    "fields, build",
    [
        (dict(name="srcnn_915", scale=3), lambda: TorchSRCNN(3)),
        (dict(name="srcnn_955", scale=3), lambda: TorchSRCNN(3, 5)),
        (dict(name="srresnet", scale=4), lambda: TorchSRResNet(4)),
        (dict(name="rdn", scale=2), lambda: TorchRDN(2)),
        (dict(name="rdn", scale=4, blocks=20, layers=6, growth=32), lambda: TorchRDN(4, 64, 20, 6, 32)),
        (dict(name="srdensenet", scale=4), lambda: TorchSRDenseNet(4)),
        (dict(name="edsr", scale=2, norm="none", upsampler="deconvolution"), lambda: TorchDeconvolution(2)),
        (dict(name="edrn", scale=1), TorchEDRN),
    ],
)
def test_the_papers_networks_have_the_parameters_of_pytorchs(fields, build):
    shapes = jax.eval_shape(functools.partial(steps.init_params, create_model(fields), 0))
    with torch.device("meta"):
        network = build()
    trained = [leaf.size for name, leaf in flatten_dict(shapes).items() if name[-1] not in ("mean", "var")]
    assert sum(trained) == sum(parameter.numel() for parameter in network.parameters())
