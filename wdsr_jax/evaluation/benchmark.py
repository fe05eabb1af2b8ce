"""Benchmark evaluation: PSNR and SSIM of a network and of bicubic, by the papers' protocols."""

import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from absl import logging
from jaxtyping import UInt8

from wdsr_jax.errors import UserError
from wdsr_jax.evaluation.examples import Example, padded_shapes
from wdsr_jax.image.alignment import align, best_shift
from wdsr_jax.image.metrics import TooSmallError, psnr, ssim
from wdsr_jax.image.pixels import to_float, to_uint8
from wdsr_jax.image.resize import imresize
from wdsr_jax.inference.network import Batch, apply_batches, fold_for_inference, network_input
from wdsr_jax.system import distributed
from wdsr_jax.system.console import Progress
from wdsr_jax.system.files import write_whole
from wdsr_jax.system.pool import map_ordered
from wdsr_jax.system.tables import markdown_table

# "psnr_y", "ssim_y" (protocol y), "psnr_rgb", "ssim_ntire" (protocol ntire); "psnr_shift", "ssim_shift",
# "shift_y", "shift_x" (protocol ntire_shift) where they were asked for.
Scores = dict[str, float | None]


def super_resolve(
    module: nn.Module, params: Any, examples: Sequence[Example]
) -> Iterator[tuple[int, UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W 3"]]]:
    """Runs the network over images of many sizes, an image a device, with few compilations.

    A network without a radius (see `inference.tiles`) is compiled for each size.

    Yields:
        Position in `examples`, LR, HR and SR, uint8; in the order of their padded shapes, large ones first.
        Those that cannot be loaded are logged and left out.
    """
    module, params = fold_for_inference(module, params)
    devices = jax.local_device_count()
    shapes = [example.lr_shape for example in examples]
    if module.radius is not None:
        shapes = padded_shapes(shapes)
    loaded: deque[tuple[int, np.ndarray, np.ndarray]] = deque()

    def batches() -> Iterator[Batch]:
        for shape in sorted(set(shapes), reverse=True):  # so that the images scored last are small
            members = [i for i, padded in enumerate(shapes) if padded == shape]
            filled = all(examples[i].lr_shape == shape for i in members)
            for first in range(0, len(members), devices):
                if chunk := list(_load(examples, members[first : first + devices])):
                    loaded.extend(chunk)
                    inputs = [network_input(module, to_float(lr)) for _, lr, _ in chunk]
                    yield Batch(inputs, shape, filled)

    for sr in apply_batches(module, params, batches(), devices):
        i, lr, hr = loaded.popleft()
        yield i, lr, hr, to_uint8(sr[: hr.shape[0], : hr.shape[1]])


def _load(
    examples: Sequence[Example], positions: Iterable[int]
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    for i in positions:
        try:
            yield i, *examples[i].load()
        except UserError as error:
            logging.warning("left out: %s", error)


def score(
    sr: UInt8[np.ndarray, "H W 3"], hr: UInt8[np.ndarray, "H W 3"], scale: int, shift: int = 0
) -> Scores:
    """All metrics of one image; None where the image is too small for one.

    Args:
        sr: uint8 (H, W, 3).
        hr: the truth, uint8 (H, W, 3).
        scale: the upscaling factor.
        shift: above 0, the metrics at the best shift of up to so many HR pixels are measured as well.
    """

    def measure(metric: Callable[..., float], protocol: str, sr=sr, hr=hr) -> float | None:
        try:
            return metric(sr, hr, scale=scale, protocol=protocol)
        except TooSmallError:
            return None

    scores = {
        "psnr_y": measure(psnr, "y"),
        "ssim_y": measure(ssim, "y"),
        "psnr_rgb": measure(psnr, "ntire"),
        "ssim_ntire": measure(ssim, "ntire"),
    }
    if not shift:
        return scores
    try:
        dy, dx = best_shift(sr, hr, scale=scale, window=shift)
    except TooSmallError:
        return scores | dict.fromkeys(("psnr_shift", "ssim_shift", "shift_y", "shift_x"))
    pair = align(sr, hr, (dy, dx), shift)
    return scores | {
        "psnr_shift": measure(psnr, "ntire", *pair),
        "ssim_shift": measure(ssim, "ntire", *pair),
        "shift_y": float(dy),
        "shift_x": float(dx),
    }


def evaluate(
    examples: Sequence[Example],
    scale: int,
    module: nn.Module | None = None,
    params: Any = None,
    *,
    bicubic: bool = True,
    shift: int = 0,
    label: str = "evaluating",
) -> dict[str, Any]:
    """Measures one set; of several processes each does a share of the images, and all get the result.

    Args:
        examples: its images.
        scale: the upscaling factor.
        module: the network; None to measure bicubic alone.
        params: its parameters.
        bicubic: whether to measure bicubic.
        shift: see `score`.
        label: what the progress bar says.

    Returns:
        `{"bicubic": Scores, "model": Scores, "images": [{"name", "bicubic", "model"}, ...]}`, the first two
        averaged over the images that have the score, and absent where they were not asked for. Where images
        could not be read, `"left_out"` has their names.

    Raises:
        UserError: no image could be read.
    """
    share = examples[jax.process_index() :: jax.process_count()]
    outputs: Iterator[tuple[Any, ...]]
    outputs = _load(share, range(len(share))) if module is None else super_resolve(module, params, share)

    def measure(output: tuple[Any, ...]) -> tuple[int, dict[str, Any]]:
        i, lr, hr, *sr = output
        result: dict[str, Any] = {"name": share[i].name}
        if bicubic:
            result["bicubic"] = score(imresize(lr, scale), hr, scale, shift)
        if sr:
            result["model"] = score(sr[0], hr, scale, shift)
        return jax.process_index() + i * jax.process_count(), result

    results = {}
    with Progress(len(share) if distributed.is_lead() else 0, "images", label) as progress:
        for i, result in map_ordered(measure, outputs):
            results[i] = result
            progress.update()
    results = {i: result for each in distributed.gather(list(results.items())) for i, result in each}
    if not results:
        raise UserError(f"{label}: no image could be read; the lines above say why")
    images = [results[i] for i in sorted(results)]
    averages = {
        who: _average([image[who] for image in images]) for who in ("bicubic", "model") if who in images[0]
    }
    left_out = [example.name for i, example in enumerate(examples) if i not in results]
    return {**averages, "images": images, **({"left_out": left_out} if left_out else {})}


def _average(scores: list[Scores]) -> Scores:
    def mean(metric: str) -> float | None:
        values = [value for s in scores if (value := s[metric]) is not None]
        return sum(values) / len(values) if values else None

    return {metric: mean(metric) for metric in scores[0]}


def score_table(results: dict[str, dict[str, Any]], scale: int) -> str:
    """A table in Markdown, a row a set: by metric and protocol, bicubic and the model beside each other.

    Args:
        results: by set name, what `evaluate` returned.
        scale: for the heading.

    Returns:
        Lines of at most 120 characters, but for long names of sets.
    """
    methods = [who for who in ("bicubic", "model") if any(who in result for result in results.values())]
    metrics = {"PSNR-Y": "psnr_y", "SSIM-Y": "ssim_y", "PSNR ntire": "psnr_rgb", "SSIM ntire": "ssim_ntire"}
    if any("psnr_shift" in result[who] for result in results.values() for who in methods if who in result):
        metrics = {"PSNR-Y": "psnr_y", "PSNR ntire": "psnr_rgb"}
        metrics |= {"PSNR shift": "psnr_shift", "SSIM shift": "ssim_shift"}
    rows = []
    for name, result in results.items():
        count, left_out = len(result["images"]), len(result.get("left_out", []))
        images = f"{count} of {count + left_out}" if left_out else str(count)
        cells = [
            " / ".join(_format(key, result[who][key]) for who in methods if who in result)
            for key in metrics.values()
        ]
        rows.append([name, images, *cells])
    return markdown_table([f"x{scale}: {' / '.join(methods)}", "images", *metrics], rows)


def _format(metric: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if metric.startswith("psnr") else f"{value:.4f}"


def write_json(path: str | os.PathLike, results: dict[str, dict[str, Any]]) -> None:
    """Writes results as JSON; the PSNR of identical images, which is infinite, becomes null.

    Args:
        path: of the file.
        results: by set name, what `evaluate` returned.

    Raises:
        UserError: the file cannot be written.
    """

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: finite(child) for key, child in value.items()}
        if isinstance(value, list):
            return [finite(child) for child in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    write_whole(path, (json.dumps(finite(results), indent=2) + "\n").encode())


def bicubic_as_model(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The results of `evaluate` without a network, with bicubic as the model that was measured."""
    return {
        name: {
            "bicubic": result["bicubic"],
            "model": result["bicubic"],
            **result,
            "images": [{**image, "model": image["bicubic"]} for image in result["images"]],
        }
        for name, result in results.items()
    }
