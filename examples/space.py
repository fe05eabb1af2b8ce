"""Measures and shows a space of answers: docs/space.md, docs/space.png and docs/space_sheet.png.

python -m examples.space --model=WORKDIR|FILE|NAME [--samples=10] DIR

DIR is a folder of HR images to measure on. The sheet is of two of scikit-image's photographs.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import wdsr_jax
from examples import DOCS
from wdsr_jax.data.sample import sample_files
from wdsr_jax.evaluation.examples import Example, examples_of_folder
from wdsr_jax.evaluation.space import space_scores
from wdsr_jax.image.files import read_image, write_image
from wdsr_jax.image.panels import nearest, side_by_side
from wdsr_jax.image.pixels import to_float, to_uint8
from wdsr_jax.inference.backprojection import project
from wdsr_jax.inference.sampling import draw_sample, noise_of
from wdsr_jax.inference.tiles import plan_tilings
from wdsr_jax.models.flow import sampler_of
from wdsr_jax.photo.samples import deviation, spread_map
from wdsr_jax.system.compilation import enable_compilation_cache
from wdsr_jax.system.console import Progress, run_command
from wdsr_jax.system.tables import markdown_table

TEMPERATURES = (0.0, 0.5, 0.8, 1.0)
SHOWN, SIDE = {"astronaut": (40, 156), "chelsea": (60, 150)}, 128  # corner (row, column) of what is shown
SHOWN_TEMPERATURE = 0.8

# (LR, number of the sample) -> SR, uint8.
Draw = Callable[[np.ndarray, int], np.ndarray]


def detail(image: np.ndarray) -> float:
    """How much fine structure an image has: the mean absolute Laplacian of its grey, in levels."""
    grey = image.mean(axis=2)
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float(np.abs(4 * grey[1:-1, 1:-1] - around).mean())


def measure(
    images: Sequence[Example], draw: Draw, counts: Sequence[int], scale: int, label: str
) -> list[dict[str, float]]:
    """The scores of `space_scores` over a set, and `detail` as a share of that of HR.

    Args:
        images: of the set.
        draw: gives the samples.
        counts: for each the scores of the first so many samples.
        scale: the upscaling factor.
        label: what the progress bar says.
    """
    scores: list[list[dict[str, float]]] = [[] for _ in counts]
    with Progress(len(images) * max(counts), "samples", label) as progress:
        for image in images:
            lr, hr = image.load()
            drawn = []
            for number in range(max(counts)):
                drawn.append(draw(lr, number)[: hr.shape[0], : hr.shape[1]])
                progress.update()
            share = {"detail": detail(drawn[0]) / detail(hr)}
            for count, of_count in zip(counts, scores, strict=True):
                of_count.append(space_scores(lr, hr, drawn[:count], scale) | share)
    return [
        {name: float(np.mean([score[name] for score in of_count])) for name in of_count[0]}
        | {"lr_psnr": min(score["lr_psnr"] for score in of_count)}
        for of_count in scores
    ]


def gaussian(network: Any, deviation: float, srs: dict[bytes, np.ndarray]) -> Draw:
    """Samples without a flow: the network's SR and white noise, projected as those of the flow are.

    Args:
        network: module and parameters.
        deviation: of the noise, in [0, 1].
        srs: what keeps SR, by LR.
    """

    def draw(lr: np.ndarray, number: int) -> np.ndarray:
        small = to_float(lr)
        if lr.tobytes() not in srs:
            srs[lr.tobytes()] = wdsr_jax.upscale(*network, small)
        sr = srs[lr.tobytes()]
        noise = np.random.default_rng(number).normal(size=sr.shape).astype(np.float32)
        return to_uint8(project(sr + deviation * noise, small))

    return draw


def match(images: Sequence[Example], network: Any, wanted: float, srs: dict[bytes, np.ndarray]) -> float:
    """The deviation of white noise at which a sample has a PSNR-Y of `wanted`, by bisection."""
    low, high = 0.0, 0.1
    while high - low > 2e-4:
        middle = (low + high) / 2
        (scores,) = measure(images, gaussian(network, middle, srs), [1], network[0].scale, "white noise")
        low, high = (middle, high) if scores["psnr_sample"] > wanted else (low, middle)
    return (low + high) / 2


def draw_sheet(module: Any, params: Any, temperature: float) -> None:
    """Writes docs/space_sheet.png: LR, the network's SR, three samples, where they differ, and HR."""
    training, held_out = sample_files()
    files = {path.stem: path for path in [*training, *held_out]}
    scale, rows = module.scale, []
    for name, corner in SHOWN.items():
        hr = read_image(files[name])
        height, width = (side // scale * scale for side in hr.shape[:2])
        hr = hr[:height, :width]
        lr = wdsr_jax.imresize(hr, Fraction(1, scale))
        part = tuple(slice(start, start + SIDE) for start in corner)
        samples = [draw_sample(module, params, lr, noise_of(0, number, temperature)) for number in range(6)]
        panels = {"LR": nearest(lr, scale), "without noise": wdsr_jax.upscale(module, params, lr)}
        panels |= {f"sample {i + 1}": samples[i] for i in range(3)}
        panels |= {"where six differ": spread_map(deviation(samples)), "original": hr}
        rows.append(side_by_side([(label, image[part]) for label, image in panels.items()], width=1900))
    write_image(DOCS / "space_sheet.png", np.concatenate(rows))


def draw_curves(found: dict[float, dict[str, float]]) -> None:
    """Writes docs/space.png: PSNR, detail and diversity by temperature."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    temperatures = list(found)
    for key, label in {"psnr_mean": "mean", "psnr_sample": "a sample", "psnr_best": "best"}.items():
        left.plot(temperatures, [scores[key] for scores in found.values()], marker="o", label=label)
    left.legend()
    middle.plot(temperatures, [scores["detail"] for scores in found.values()], marker="o")
    middle.axhline(1, color="grey", linestyle=":")
    right.plot(temperatures, [scores["diversity"] for scores in found.values()], marker="o")
    for axes, label in (
        (left, "PSNR-Y, dB"),
        (middle, "detail, as a share of HR's"),
        (right, "diversity, %"),
    ):
        axes.set(xlabel="temperature", ylabel=label)
        axes.grid(alpha=0.3)
    figure.savefig(DOCS / "space.png", dpi=100)


def main() -> None:
    """Measures, draws, and writes the tables."""
    parser = argparse.ArgumentParser(prog="python -m examples.space", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="wdsr-a-16-space-x4", help="a network of configs/space.py")
    parser.add_argument("--samples", type=int, default=10, help="an image and temperature")
    parser.add_argument("--many", type=int, default=32, help=f"samples at {SHOWN_TEMPERATURE} for a mean")
    parser.add_argument("folder", metavar="DIR", help="HR images")
    options = parser.parse_args()
    enable_compilation_cache()
    started = time.monotonic()
    network = module, params = wdsr_jax.load_pretrained(options.model)
    images = examples_of_folder(options.folder, module.scale)
    plan = plan_tilings(sampler_of(module), [image.lr_shape for image in images])

    def at(temperature: float) -> Draw:
        def draw(lr: np.ndarray, number: int) -> np.ndarray:
            return draw_sample(module, params, lr, noise_of(0, number, temperature), plan)

        return draw

    found: dict[float, dict[str, float]] = {}
    srs: dict[bytes, np.ndarray] = {}
    many: dict[str, float] = {}
    for temperature in TEMPERATURES:
        counts = {0.0: [1], SHOWN_TEMPERATURE: [options.samples, options.many]}
        of_counts = counts.get(temperature, [options.samples])
        label = f"temperature {temperature:g}"
        found[temperature], *more = measure(images, at(temperature), of_counts, module.scale, label)
        many = more[0] if more else many
        print(label, found[temperature], *more, flush=True)
    deviation = match(images, network, found[SHOWN_TEMPERATURE]["psnr_sample"], srs)
    white = gaussian(network, deviation, srs)
    (noise,) = measure(images, white, [options.samples], module.scale, "white noise")
    (without,) = measure(images, lambda lr, _: to_uint8(srs[lr.tobytes()]), [1], module.scale, "no noise")

    def row(label: str, scores: dict[str, float]) -> list[str]:
        keys = ("lr_psnr", "psnr_mean", "psnr_sample", "psnr_best", "diversity", "detail")
        return [label, *(f"{scores[key]:.2f}" for key in keys)]

    several = f"mean of {options.samples}"
    head = ["temperature", "least LR-PSNR", several, "a sample", "the best", "diversity, %", "detail / HR's"]
    rows = [row(f"{temperature:g}", scores) for temperature, scores in found.items()]
    rows.append(row(f"white noise of {255 * deviation:.1f} levels, projected", noise))
    rows.append(row(f"{SHOWN_TEMPERATURE:g}, {options.many} samples", many))
    rows.append(row("WDSR alone, not projected", without))
    print(markdown_table(head, rows))
    draw_curves(found)
    draw_sheet(module, params, 1.0)
    print(f"{len(images)} images, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    run_command(main)
