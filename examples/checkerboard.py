"""Draws docs/checkerboard.png: EDSR with pixel shuffle beside deconvolution, untrained and early in training.

python -m examples.checkerboard

Two small networks for x4, alike but for the upsampler, are trained on the sample photographs.
Shown is a part of a photograph held out. The caption states how much the output for a uniform grey image
varies, in levels of 8 bits. Every LR pixel of that image is the same, so anything but 0 is a checkerboard.
"""

import argparse
import functools
from contextlib import closing
from fractions import Fraction
from typing import Any

import jax
import numpy as np

import wdsr_jax
from examples import DOCS
from wdsr_jax.data import load_data
from wdsr_jax.data.pipeline import training_batches
from wdsr_jax.data.sample import sample_files
from wdsr_jax.image.files import read_image, write_image
from wdsr_jax.image.panels import side_by_side
from wdsr_jax.training import losses, optim
from wdsr_jax.training import step as steps

SCALE, STEPS, SEED = 4, (0, 30, 100, 1000), 0
ROWS, COLUMNS = slice(60, 124), slice(180, 244)  # of the photograph
UPSAMPLERS = {"pixel shuffle": "pixel_shuffle", "deconvolution": "deconvolution"}


def create(upsampler: str) -> Any:
    """A small EDSR."""
    fields = dict(name="edsr", scale=SCALE, filters=16, blocks=2, norm="none", upsampler=upsampler)
    return wdsr_jax.create_model(fields)


def train(module: Any) -> list[Any]:
    """The parameters of `module` after each of STEPS."""
    pairs, _ = load_data("sample", scale=SCALE, patch_size=24)
    optimizer = optim.create_optimizer(lambda _: 1e-3)
    options = dict(module=module, optimizer=optimizer, loss=losses.l1, seed=SEED)
    step = jax.jit(functools.partial(steps.train_step, **options))
    state = steps.create_state(steps.init_params(module, SEED), optimizer, ema=False)
    found = []
    with closing(training_batches(pairs, patch_size=24, batch_size=8, seed=SEED)) as batches:
        for i in range(max(STEPS) + 1):
            if i in STEPS:
                found.append(state.params)
            state, _ = step(state, next(batches))
    return found


def checkerboard(module: Any, params: Any) -> float:
    """Standard deviation over an LR pixel of the output for grey, in levels; the mean of three greys."""
    levels = []
    for grey in (0.25, 0.5, 0.75):
        sr = wdsr_jax.upscale(module, params, np.full((24, 24, 3), grey, np.float32))
        middle = slice(12 * SCALE, 13 * SCALE)  # far from the edge
        levels.append(255 * sr[middle, middle].std((0, 1)).mean())
    return float(np.mean(levels))


def main() -> None:
    """Trains both networks and draws a row for each."""
    argparse.ArgumentParser(
        prog="python -m examples.checkerboard", description=__doc__.splitlines()[0]
    ).parse_args()
    hr = read_image(next(path for path in sample_files()[1] if path.stem == "astronaut"))
    lr = wdsr_jax.imresize(hr, Fraction(1, SCALE))
    rows = []
    for name, upsampler in UPSAMPLERS.items():
        module = create(upsampler)
        panels = []
        for count, params in zip(STEPS, train(module), strict=True):
            sr = wdsr_jax.upscale(module, params, lr)
            caption = f"{name}, {count} steps\nvaries by {checkerboard(module, params):.2f}"
            panels.append((caption, sr[ROWS, COLUMNS]))
        rows.append(side_by_side(panels))
    write_image(DOCS / "checkerboard.png", np.concatenate(rows))


if __name__ == "__main__":
    main()
