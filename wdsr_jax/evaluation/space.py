"""How good a space of SR images is: fidelity to LR, to HR, and diversity, of several samples an image.

The protocol is that of the challenge on learning the super-resolution space (Lugmayr et al., NTIRE 2021,
section 3): the downscale of a sample has to be LR, and the best sample at each place should be better than
the best sample as a whole.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import flax.linen as nn
import numpy as np
from jaxtyping import Float, UInt8

from wdsr_jax.errors import UserError
from wdsr_jax.evaluation.examples import Example
from wdsr_jax.image.metrics import TooSmallError, psnr
from wdsr_jax.image.resize import imresize
from wdsr_jax.inference.sampling import draw_sample, noise_of
from wdsr_jax.inference.tiles import plan_tilings, upscale
from wdsr_jax.models.flow import FlowWDSR, sampler_of
from wdsr_jax.system.console import Progress
from wdsr_jax.system.tables import markdown_table

# (SR, HR), uint8 (H, W, 3), to a distance at each place.
Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]
Image = UInt8[np.ndarray, "h w 3"]
_PATCH = 16

SpaceScores = dict[str, float]


def squared_error(sr: Image, hr: Image) -> Float[np.ndarray, "rows columns"]:
    """Mean squared error of each whole patch of 16x16 pixels; of the whole image where it is smaller."""
    error = np.square(sr.astype(np.float32) - hr).mean(axis=2)
    rows, columns = (side // _PATCH for side in error.shape)
    if not (rows and columns):
        return error.mean(keepdims=True)
    patches = error[: rows * _PATCH, : columns * _PATCH].reshape(rows, _PATCH, columns, _PATCH)
    return patches.mean(axis=(1, 3))


def diversity(samples: Sequence[Image], hr: Image, distance: Distance = squared_error) -> float:
    """By how much the best sample at each place is better than the best sample as a whole, in per cent of it.

    Args:
        samples: of one LR image.
        hr: the truth.
        distance: at each place; the challenge takes LPIPS.

    Returns:
        100 (min_i mean_p d_ip - mean_p min_i d_ip) / min_i mean_p d_ip; 0 for samples that are all the same,
        or where one is HR.
    """
    distances = np.stack([distance(sample, hr) for sample in samples])  # (samples, places ...)
    distances = distances.reshape(len(samples), -1)
    best = distances.mean(axis=1).min()
    return float(100 * (best - distances.min(axis=0).mean()) / best) if best > 0 else 0.0


def space_scores(
    lr: Image, hr: Image, samples: Sequence[Image], scale: int, distance: Distance = squared_error
) -> SpaceScores:
    """The scores of the samples of one image.

    Args:
        lr: LR.
        hr: the truth.
        samples: of it, the same size as HR.
        scale: the upscaling factor.
        distance: see `diversity`.

    Returns:
        `lr_psnr`: the smallest PSNR of a sample's bicubic downscale against LR, RGB in full, in dB (the
        challenge asks for 45); `diversity`; and by protocol `y`, in dB, `psnr_mean` of the samples' mean,
        `psnr_sample` as the mean over them, and `psnr_best` of the best. NaN where the image is too small.
    """

    downscaled = [imresize(sample, Fraction(1, scale)) for sample in samples]
    errors = [np.square(small.astype(np.float64) - lr).mean() for small in downscaled]
    mean = np.mean(np.stack(samples), axis=0, dtype=np.float64)
    each = [_psnr_y(sample, hr, scale) for sample in samples]
    return {
        "lr_psnr": float(10 * np.log10(255**2 / max(max(errors), 1e-9))),
        "diversity": diversity(samples, hr, distance),
        "psnr_mean": _psnr_y(np.rint(mean).astype(np.uint8), hr, scale),
        "psnr_sample": float(np.mean(each)),
        "psnr_best": max(each),
    }


def _psnr_y(sr: Image, hr: Image, scale: int) -> float:
    """PSNR by protocol `y`; NaN where the image is too small."""
    try:
        return psnr(sr, hr, scale=scale, protocol="y")
    except TooSmallError:
        return np.nan


def evaluate_space(
    examples: Sequence[Example],
    scale: int,
    module: nn.Module | None,
    params: Any,
    *,
    samples: int,
    temperature: float,
    distance: Distance = squared_error,
    seed: int = 0,
    label: str = "samples",
) -> dict[str, Any]:
    """Measures a space on one set.

    Args:
        examples: its images.
        scale: the upscaling factor.
        module: the network.
        params: its parameters.
        samples: how many an image.
        temperature: of the noise.
        distance: see `diversity`.
        seed: of the samples.
        label: what the progress bar says.

    Returns:
        `{"samples", "model": SCORES, "images": [{"name", "model"}, ...]}`: see `space_scores`, and
        `psnr_network`, of the network without noise. Those of the set are means over its images, but
        `lr_psnr`, which is the least.

    Raises:
        UserError: the network has no space, or an image cannot be read.
    """
    if not isinstance(module, FlowWDSR):
        name = type(module).__name__
        raise UserError(f"--samples: {name} gives one image alone; a network of configs/space.py has many")
    shapes = [example.lr_shape for example in examples]
    plan, plan_base = plan_tilings(sampler_of(module), shapes), plan_tilings(module, shapes)
    images = []
    with Progress(len(examples) * samples, "samples", label) as progress:
        for example in examples:
            lr, hr = example.load()
            drawn = []
            for number in range(1, samples + 1):
                noise = noise_of(seed, number, temperature)
                drawn.append(draw_sample(module, params, lr, noise, plan)[: hr.shape[0], : hr.shape[1]])
                progress.update()
            scores = space_scores(lr, hr, drawn, scale, distance)
            base = upscale(module, params, lr, tilings=plan_base)[: hr.shape[0], : hr.shape[1]]
            scores["psnr_network"] = _psnr_y(base, hr, scale)
            images.append({"name": example.name, "model": scores})
    names = images[0]["model"]
    means = {name: float(np.nanmean([image["model"][name] for image in images])) for name in names}
    means["lr_psnr"] = min(image["model"]["lr_psnr"] for image in images)
    return {"samples": samples, "model": means, "images": images}


def space_table(results: dict[str, dict[str, Any]], scale: int) -> str:
    """A table in Markdown, a row a set.

    Args:
        results: by set name, what `evaluate_space` returned.
        scale: for the heading.
    """
    (samples,) = {result["samples"] for result in results.values()}
    columns = {
        "least LR-PSNR": "lr_psnr",
        "diversity": "diversity",
        "PSNR-Y without noise": "psnr_network",
        f"mean of {samples}": "psnr_mean",
        "a sample": "psnr_sample",
        f"best of {samples}": "psnr_best",
    }
    rows = []
    for name, result in results.items():
        scores = [result["model"][key] for key in columns.values()]
        cells = [f"{value:.2f}" if np.isfinite(value) else "-" for value in scores]
        rows.append([name, str(len(result["images"])), *cells])
    return markdown_table([f"x{scale}", "images", *columns], rows)
