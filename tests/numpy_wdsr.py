"""Networks once more, in NumPy and float64: what tests compare with."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict


@functools.cache
def random_params(module, seed=0):
    """Random in every leaf: biases of 0 and g of 1 would hide what is left out."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    rng = np.random.default_rng(seed)
    drawn, flat = {}, flatten_dict(shapes)
    for name, leaf in flat.items():
        low, high = {
            "kernel": (-1, 1),
            "scale": (0.5, 1.5),
            "bias": (-0.2, 0.2),
            "mean": (-0.5, 0.5),
            "var": (0.5, 2),
            "slope": (0.1, 0.4),
        }[name[-1]]
        if name[-1] == "kernel" and ((*name[:-1], "scale") not in flat or (*name[:-1], "mean") in flat):
            high = (3 / np.prod(leaf.shape[:3])) ** 0.5  # without g, what keeps the size of the signal
            low = -high
        drawn[name] = jnp.asarray(rng.uniform(low, high, leaf.shape), jnp.float32)
    return unflatten_dict(drawn)


def conv(p, x):
    """A convolution with zeros around, by its parameters, whose norm they tell."""
    p = {name: np.asarray(leaf, np.float64) for name, leaf in p.items()}
    w = v = p["kernel"]
    bias = p["bias"]
    if "mean" in p:
        factor = p["scale"] / np.sqrt(p["var"] + 1e-5)
        w, bias = v * factor, bias - p["mean"] * factor
    elif "scale" in p:
        norms = [np.linalg.norm(v[..., o].ravel()) for o in range(v.shape[-1])]
        w = v * p["scale"] / norms
    k, (_, h, width, _) = v.shape[0], x.shape
    padded = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2), (0, 0)))
    y = sum(padded[:, i : i + h, j : j + width] @ w[i, j] for i in range(k) for j in range(k))
    return y + bias


def pixel_shuffle(x, r):
    b, h, w, channels = x.shape
    out = np.zeros((b, h * r, w * r, channels // r**2))
    for i in range(r):
        for j in range(r):
            for c in range(channels // r**2):
                out[:, i::r, j::r, c] = x[..., (i * r + j) * (channels // r**2) + c]
    return out


def forward(module, p, lr):
    return (_edsr if "up_0" in p else _wdsr)(module, p, lr)


def _edsr(module, p, lr):
    mean = np.array(module.mean)
    x = head = conv(p["head"], np.asarray(lr, np.float64) - mean)
    for i in range(module.blocks):
        block = p[f"block_{i}"]
        x = x + module.res_scale * conv(block["last"], np.maximum(conv(block["first"], x), 0))
    x = head + conv(p["body"], x)
    shuffles = {2: [2], 3: [3], 4: [2, 2], 5: [5], 6: [6], 8: [2, 2, 2]}[module.scale]
    for i, factor in enumerate(shuffles):
        x = pixel_shuffle(conv(p[f"up_{i}"], x), factor)
    return conv(p["tail"], x) + mean


def _wdsr(module, p, lr):
    mean = np.array(module.mean)
    shifted = np.asarray(lr, np.float64) - mean
    x = conv(p["head"], shifted)
    for i in range(module.blocks):
        block = p[f"block_{i}"]
        y = np.maximum(conv(block["expand"], x), 0)
        if module.block == "b":
            y = conv(block["reduce"], y)
        x = x + module.res_scale * conv(block["project"], y)
    return pixel_shuffle(conv(p["tail"], x) + conv(p["skip"], shifted), module.scale) + mean
