"""Draws the curves of training runs: python -m examples.curves PICTURE.png WORKDIR ...

On the left the training loss, on the right the validation PSNR, by step; a run is called as its folder is.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from wdsr_jax.training.event_files import read_scalars

_SMOOTHED = 10  # logged losses a point


def main() -> None:
    """Reads the runs' event files and draws."""
    parser = argparse.ArgumentParser(prog="python -m examples.curves", description=__doc__.splitlines()[0])
    parser.add_argument("picture", metavar="PICTURE.png")
    parser.add_argument("workdirs", metavar="WORKDIR", nargs="+", type=Path)
    options = parser.parse_args()
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for workdir in options.workdirs:
        scalars = read_scalars(workdir)
        steps, losses = np.array(scalars["train/loss"]).T
        count = len(losses) // _SMOOTHED * _SMOOTHED
        means = 255 * losses[:count].reshape(-1, _SMOOTHED).mean(axis=1)
        left.plot(steps[_SMOOTHED - 1 : count : _SMOOTHED], means, label=workdir.name)
        right.plot(*np.array(scalars["val/psnr_rgb"]).T, marker="o", label=workdir.name)
    left.set(xlabel="step", ylabel="training loss, L1 in levels of 8 bits")
    right.set(xlabel="step", ylabel="validation PSNR (ntire), dB")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(options.picture, dpi=100)


if __name__ == "__main__":
    main()
