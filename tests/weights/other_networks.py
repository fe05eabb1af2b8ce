"""EDSR, MSRResNet, SRCNN and RDN of other projects: random weights under their names, and forward passes.

The forward passes are written in NumPy and float64 after the projects' code, with channels first as there.
They know nothing of this package's tables.
"""

import numpy as np

from tests.weights.other_projects import photograph

MEAN = np.array([0.4488, 0.4371, 0.4040])[:, None, None]  # EDSR-PyTorch's, and BasicSR's


class Weights(dict):
    """A state dict that grows: a convolution of random weights under each name that is first used."""

    def __init__(self, seed=0, kernel=".weight", bias=".bias", keras=False):
        super().__init__()
        self.rng, self.keras = np.random.default_rng(seed), keras
        self.kernel, self.bias = kernel, bias

    def conv(self, x, name, outputs, size=3):
        """(I, H, W) -> (O, H, W), zeros around; the weights are made where they are not there yet."""
        if name + self.kernel not in self:
            shape = (outputs, len(x), size, size)
            limit = (3 / (len(x) * size * size)) ** 0.5
            kernel = self.rng.uniform(-limit, limit, shape).astype(np.float32)
            self[name + self.kernel] = kernel.transpose(2, 3, 1, 0) if self.keras else kernel
            self[name + self.bias] = self.rng.uniform(-0.1, 0.1, outputs).astype(np.float32)
        kernel = self[name + self.kernel].astype(np.float64)
        kernel = kernel.transpose(3, 2, 0, 1) if self.keras else kernel
        padded = np.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))
        y = np.einsum("ihwyx,oiyx->ohw", windows, kernel, optimize=True)
        return y + self[name + self.bias].astype(np.float64)[:, None, None]

    def shuffle(self, x, r):
        """torch.nn.PixelShuffle, or tf.nn.depth_to_space of channels last."""
        out = np.zeros((len(x) // r**2, x.shape[1] * r, x.shape[2] * r))
        for i in range(r):
            for j in range(r):
                cell = i * r + j
                out[:, i::r, j::r] = (
                    x[cell * len(out) : (cell + 1) * len(out)] if self.keras else x[cell :: r * r]
                )
        return out


def relu(x):
    return np.maximum(x, 0)


def image():
    """The photograph as (3, H, W) in [0, 1]."""
    return photograph().astype(np.float64).transpose(2, 0, 1) / 255


STAGES = {2: [2], 3: [3], 4: [2, 2]}


def wdsr(w, scale, project, block="a", blocks=2, filters=6, wide=18, rank=4):
    """ychfan/wdsr (`2020`), JiahuiYu/wdsr_ntire2018 (`2018`) and yjn870/WDSR-pytorch (`module`)."""
    mean, gain = (0.5, 1) if project == "2020" else (MEAN, 2)
    inner = "module" if project == "module" else "body"
    shift = 1 if project == "2020" else 0
    start = (image() - mean) * gain
    x = w.conv(start, "body.0" if shift else "head.0", filters)
    for i in range(blocks):
        names = [f"body.{i + shift}.{inner}.{place}" for place in (0, 2, 3)]
        y = relu(w.conv(x, names[0], wide, 3 if block == "a" else 1))
        y = (
            w.conv(y, names[1], filters)
            if block == "a"
            else w.conv(w.conv(y, names[1], rank, 1), names[2], filters)
        )
        x = x + y
    x = w.conv(x, f"body.{blocks + 1}" if shift else "tail.0", 3 * scale**2)
    return w.shuffle(x + w.conv(start, "skip.0", 3 * scale**2, 5), scale) / gain + mean


def edsr_pytorch(w, scale, blocks=2, filters=6, res_scale=1.0, mean=MEAN, top=255):
    """sanghyun-son/EDSR-PyTorch, `model/edsr.py` and `common.py`; the image is in [0, 255] there."""
    x = head = w.conv(top * image() - top * mean, "head.0", filters)
    for i in range(blocks):
        y = w.conv(relu(w.conv(x, f"body.{i}.body.0", filters)), f"body.{i}.body.2", filters)
        x = x + res_scale * y
    x = head + w.conv(x, f"body.{blocks}", filters)
    for k, factor in enumerate(STAGES[scale]):
        x = w.shuffle(w.conv(x, f"tail.0.{2 * k}", filters * factor**2), factor)
    return (w.conv(x, "tail.1", 3) + top * mean) / top


def edsr_basicsr(w, scale, blocks=2, filters=6, res_scale=1.0):
    """XPixelGroup/BasicSR, `archs/edsr_arch.py`."""
    x = head = w.conv((image() - MEAN) * 255, "conv_first", filters)
    for i in range(blocks):
        y = w.conv(relu(w.conv(x, f"body.{i}.conv1", filters)), f"body.{i}.conv2", filters)
        x = x + res_scale * y
    x = head + w.conv(x, "conv_after_body", filters)
    for k, factor in enumerate(STAGES[scale]):
        x = w.shuffle(w.conv(x, f"upsample.{2 * k}", filters * factor**2), factor)
    return w.conv(x, "conv_last", 3) / 255 + MEAN


def msrresnet(w, scale, blocks=2, filters=6):
    """XPixelGroup/BasicSR, `archs/srresnet_arch.py`."""

    def leaky(x):
        return np.where(x > 0, x, 0.1 * x)

    x = leaky(w.conv(image(), "conv_first", filters))
    for i in range(blocks):
        x = x + w.conv(relu(w.conv(x, f"body.{i}.conv1", filters)), f"body.{i}.conv2", filters)
    for k, factor in enumerate(STAGES[scale]):
        x = leaky(w.shuffle(w.conv(x, f"upconv{k + 1}", filters * factor**2), factor))
    x = w.conv(leaky(w.conv(x, "conv_hr", filters)), "conv_last", 3)
    base = image()
    for axis in (1, 2):  # torch.nn.functional.interpolate, bilinear, align_corners=False
        length = base.shape[axis]
        places = np.clip((np.arange(length * scale) + 0.5) / scale - 0.5, 0, None)
        low = np.floor(places).astype(int)
        share = (places - low)[:, None] if axis == 1 else (places - low)[None]
        near, far = (np.take(base, np.minimum(low + i, length - 1), axis) for i in (0, 1))
        base = near + (far - near) * share[None]
    return x + base


def rdn(w, scale, names, blocks=2, layers=3, filters=6, growth=4, top=1):
    """yjn870/RDN-pytorch, `models.py`, which is EDSR-PyTorch's `model/rdn.py` under other names.

    Args:
        names: shallow 0 and 1, layer {i} {j}, fusion of a block {i}, global fusions, stage {k}, output.
    """
    first, second, layer, fusion, global_0, global_1, stage, output = names
    x = shallow = w.conv(top * image(), first, filters)
    x, outputs = w.conv(x, second, filters), []
    for i in range(blocks):
        seen = x
        for j in range(layers):
            seen = np.concatenate([seen, relu(w.conv(seen, layer.format(i=i, j=j), growth))])
        x = x + w.conv(seen, fusion.format(i=i), filters, 1)
        outputs.append(x)
    x = shallow + w.conv(w.conv(np.concatenate(outputs), global_0, filters, 1), global_1, filters)
    for k, factor in enumerate(STAGES[scale]):
        x = w.shuffle(w.conv(x, stage.format(k=2 * k), filters * factor**2), factor)
    return w.conv(x, output.format(k=2 * len(STAGES[scale])), 3) / top


YJN870 = (
    "sfe1",
    "sfe2",
    "rdbs.{i}.layers.{j}.conv",
    "rdbs.{i}.lff",
    "gff.0",
    "gff.1",
    "upscale.{k}",
    "output",
)
EDSR_PYTORCH = (
    *("SFENet1", "SFENet2", "RDBs.{i}.convs.{j}.conv.0", "RDBs.{i}.LFF", "GFF.0", "GFF.1"),
    *("UPNet.{k}", "UPNet.{k}"),
)


def rdn_idealo(w, scale, nearest, blocks=2, layers=3, filters=6, growth=4):
    """idealo/image-super-resolution, `ISR/models/rdn.py`, with `upscaling` of `ups` or `shuffle`."""
    x = shallow = w.conv(image(), "F_m1", filters)
    x, outputs = w.conv(x, "F_0", filters), []
    for d in range(1, blocks + 1):
        seen = x
        for c in range(1, layers + 1):
            seen = np.concatenate([seen, relu(w.conv(seen, f"F_{d}_{c}", growth))])
        x = x + w.conv(seen, f"LFF_{d}", filters, 1)
        outputs.append(x)
    x = shallow + w.conv(w.conv(np.concatenate(outputs), "GFF_1", filters, 1), "GFF_2", filters)
    x = relu(w.conv(relu(w.conv(x, "UPN1", 64, 5)), "UPN2", 32))
    x = w.conv(x, "UPN3", 3 * scale**2)
    x = np.kron(x, np.ones((1, scale, scale))) if nearest else w.shuffle(x, scale)
    return w.conv(x, "SR", 3)


def srcnn(w, enlarged, names, sizes=(9, 5, 5), filters=8):
    """The three convolutions on an image that is as large as the result."""
    x = relu(w.conv(enlarged, names[0], filters, sizes[0]))
    x = relu(w.conv(x, names[1], filters // 2, sizes[1]))
    return w.conv(x, names[2], len(enlarged), sizes[2])


def edsr_keras(w, scale, blocks=2, filters=6):
    """krasserm/super-resolution, `model/edsr.py`, in the order in which Keras makes the layers."""
    names = iter(["conv2d", *(f"conv2d_{i}" for i in range(1, 99))])
    x = head = w.conv((image() - MEAN) * 2, next(names), filters)
    for _ in range(blocks):
        x = x + w.conv(relu(w.conv(x, next(names), filters)), next(names), filters)
    x = head + w.conv(x, next(names), filters)
    for k, factor in enumerate(STAGES[scale]):
        x = w.shuffle(w.conv(x, f"conv2d_{k + 1}_scale_{factor}", filters * factor**2), factor)
    return w.conv(x, next(names), 3) / 2 + MEAN


def rdn_keras(w, scale, blocks=2, layers=3, filters=6, growth=4):
    """The paper's RDN with layers that Keras has named."""
    names = iter(["conv2d", *(f"conv2d_{i}" for i in range(1, 99))])
    x = shallow = w.conv(image(), next(names), filters)
    x, outputs = w.conv(x, next(names), filters), []
    for _ in range(blocks):
        seen = x
        for _ in range(layers):
            seen = np.concatenate([seen, relu(w.conv(seen, next(names), growth))])
        x = x + w.conv(seen, next(names), filters, 1)
        outputs.append(x)
    x = shallow + w.conv(w.conv(np.concatenate(outputs), next(names), filters, 1), next(names), filters)
    for factor in STAGES[scale]:
        x = w.shuffle(w.conv(x, next(names), filters * factor**2), factor)
    return w.conv(x, next(names), 3)
