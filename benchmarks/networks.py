"""What all contenders compute: networks, parameters, images, and how many operations that takes."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

import wdsr_jax
from wdsr_jax.models.cost import OUTPUT, layers
from wdsr_jax.training.step import init_params

WDSR_A = dict(name="wdsr_a", filters=32, blocks=16, expansion=4)
WDSR_B = dict(name="wdsr_b", filters=32, blocks=16, expansion=6, low_rank_ratio=0.8)
TINY = dict(filters=4, blocks=1)  # of the quick mode


def quick_model(model: Mapping[str, Any], quick: bool) -> dict[str, Any]:
    """`model`, or in quick mode a tiny one of its kind."""
    return {**model, **TINY} if quick else dict(model)


def title(model: Mapping[str, Any]) -> str:
    """Such as `WDSR-A 16x32 x2`."""
    kind = model["name"].replace("_", "-").upper()
    return f"{kind} {model['blocks']}x{model['filters']} x{model['scale']}"


def draw_params(model: Mapping[str, Any], folded: bool = False) -> dict[str, np.ndarray]:
    """Initial parameters by path; `folded` multiplies the norm out."""
    params = init_params(wdsr_jax.create_model(model), 0)
    # Biases of 0 and outputs near the input would hide mistakes.
    params = jax.device_get(wdsr_jax.fold_weight_norm(params) if folded else params)
    random = np.random.default_rng(0)
    return {
        path: leaf + random.uniform(-0.05, 0.05, leaf.shape).astype(np.float32)
        if path.endswith("bias")
        else leaf
        for path, leaf in flatten_dict(params, sep=".").items()
    }


def draw_batch(batch_size: int, patch: int, scale: int) -> dict[str, np.ndarray]:
    """uint8 `lr` (B, P, P, 3) and `hr` (B, P r, P r, 3)."""
    random = np.random.default_rng(0)
    sides = {"lr": patch, "hr": patch * scale}
    return {k: random.integers(0, 256, (batch_size, p, p, 3), dtype=np.uint8) for k, p in sides.items()}


def draw_image(height: int, width: int) -> np.ndarray:
    """Float32 (1, H, W, 3) in [0, 1]."""
    return np.random.default_rng(0).uniform(size=(1, height, width, 3)).astype(np.float32)


@functools.cache
def _operations(fields: tuple[tuple[str, Any], ...]) -> tuple[float, float]:
    module = wdsr_jax.create_model(dict(fields))
    pixels = OUTPUT[0] * OUTPUT[1] / module.scale**2
    found = [(2 * layer.multiply_adds / pixels, layer.inputs == 3) for layer in layers(module)]
    forward = sum(flop for flop, _ in found)
    # Backward: the gradient of the kernel, and of the input where it is not the image.
    return forward, sum(flop * (2 if first else 3) for flop, first in found)


def operations(model: Mapping[str, Any], training: bool) -> float:
    """Floating-point operations for each LR pixel of the convolutions, by `wdsr_jax.summary`'s convention."""
    return _operations(tuple(sorted(model.items())))[training]


def onnx_bytes(model: Mapping[str, Any], params: Mapping[str, np.ndarray]) -> bytes:
    """The network as `wdsr_jax.export` writes it."""
    from wdsr_jax.weights.exports import to_onnx

    return to_onnx(wdsr_jax.create_model(model), unflatten_dict(dict(params), sep="."), "network")
