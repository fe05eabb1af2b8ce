"""Drawing one of the many SR images that a network with a space gives for one LR image."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from wdsr_jax.image.pixels import to_float, to_uint8
from wdsr_jax.inference.network import Noise
from wdsr_jax.inference.tiles import Tiling, upscale
from wdsr_jax.models.flow import FlowWDSR, sampler_of


def noise_of(seed: int, number: int, temperature: float) -> Noise:
    """The noise of a sample.

    Args:
        seed: of all samples.
        number: of this one.
        temperature: see `Noise`.
    """
    return Noise(jax.random.fold_in(jax.random.key(seed), number), temperature)


def draw_sample(
    module: FlowWDSR,
    params: Any,
    image: UInt8[np.ndarray, "h w 3"],
    noise: Noise,
    tilings: Sequence[Tiling] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """An SR image whose bicubic downscale is LR, but for rounding, and for clipping where LR is saturated.

    Args:
        module: the network.
        params: its parameters.
        image: LR.
        noise: by which it is drawn, such as `noise_of(seed=0, number=1, temperature=0.8)`.
        tilings: as for `upscale`.
    """
    from wdsr_jax.inference.backprojection import project  # SciPy, which `upscale` can do without

    lr = to_float(image)
    sr = upscale(sampler_of(module), params, lr, noise=noise, tilings=tilings)
    return to_uint8(project(sr, lr))
