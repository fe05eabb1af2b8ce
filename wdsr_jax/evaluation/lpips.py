"""LPIPS (Zhang et al., arXiv:1801.03924), a distance of images by features, with weights from a file.

The file is what `torch.save(lpips.LPIPS(net="alex").state_dict(), FILE)` writes, or `net="vgg"`, of the
package `lpips`: AlexNet or VGG16, and the weights of their channels.
"""

import functools
import os
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from wdsr_jax.errors import UserError
from wdsr_jax.weights.torch_files import Tensor, open_torch

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of RGB in [-1, 1]
_WANTED = 'what torch.save(lpips.LPIPS(net="alex").state_dict(), FILE) writes is wanted'
# By slice: kernels (weights (kh, kw, I, O), bias (O,)), and the weights of its channels (O,).
Slices = list[tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]]


def load_lpips(path: str | os.PathLike) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The distance of a file.

    Args:
        path: of the state dict.

    Returns:
        (SR, HR), uint8 (H, W, 3), to LPIPS at each pixel, float32 (H, W), as `lpips.LPIPS(spatial=True)`
        gives it.

    Raises:
        UserError: it cannot be read, or is no such state dict.
    """
    with open_torch(path) as file:
        content = file.content if isinstance(file.content, dict) else {}

        def read(name: str) -> np.ndarray:
            tensor = content.get(name)
            if not isinstance(tensor, Tensor):
                raise UserError(f"{path}: has no {name}; {_WANTED}")
            return file.read(tensor)

        slices: Slices = []
        for number in range(1, 6):
            pattern = re.compile(rf"net\.slice{number}\.(\d+)\.weight")
            indices = sorted(int(match[1]) for name in content if (match := pattern.fullmatch(str(name))))
            if not indices:
                raise UserError(f"{path}: has no net.slice{number}; {_WANTED}")
            kernels = []
            for index in indices:
                weight, bias = (read(f"net.slice{number}.{index}.{part}") for part in ("weight", "bias"))
                kernels.append((weight.transpose(2, 3, 1, 0), bias))
            slices.append((kernels, read(f"lin{number - 1}.model.1.weight").ravel()))
    distance = jax.jit(functools.partial(lpips_map, slices))
    return lambda sr, hr: np.asarray(distance(sr, hr))


def lpips_map(slices: Slices, sr: UInt8[Any, "h w 3"], hr: UInt8[Any, "h w 3"]) -> Float[Array, "h w"]:
    """LPIPS at each pixel: weighted squared differences of features of length 1, enlarged bilinearly, summed.

    Args:
        slices: of AlexNet, whose first kernel has 11x11 pixels, or of VGG16.
        sr: of at least 32x32 pixels.
        hr: of the same size.
    """
    images = jnp.stack([sr, hr]).astype(jnp.float32) / 127.5 - 1
    x = (images - jnp.asarray(_SHIFT)[None, None, None, :]) / jnp.asarray(_SCALE)[None, None, None, :]
    is_alex = slices[0][0][0][0].shape[0] == 11
    total = jnp.zeros(sr.shape[:2])
    for number, (kernels, channels) in enumerate(slices):
        if is_alex and number in (1, 2):
            x = _max_pool(x, 3)
        elif not is_alex and number:
            x = _max_pool(x, 2)
        for kernel, bias in kernels:
            side = kernel.shape[0]
            stride, margin = (4, 2) if side == 11 else (1, side // 2)
            x = jax.lax.conv_general_dilated(
                *(x, jnp.asarray(kernel), (stride, stride), ((margin, margin),) * 2),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            x = jnp.maximum(x + jnp.asarray(bias)[None, None, None, :], 0)
        length = jnp.sqrt(jnp.sum(jnp.square(x), axis=3, keepdims=True))
        one, other = x / (length + 1e-10)
        difference = jnp.sum(jnp.square(one - other) * jnp.asarray(channels)[None, None, :], axis=2)
        total += jax.image.resize(difference, total.shape, "bilinear")
    return total


def _max_pool(x: Float[Array, "b h w c"], side: int) -> Float[Array, "b h2 w2 c"]:
    """The maximum of windows, every 2 pixels."""
    window = (1, side, side, 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, (1, 2, 2, 1), "VALID")
