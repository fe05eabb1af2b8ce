"""Draws docs/before_after.png: a photograph with noise and JPEG, upscaled by the shipped weights for x2.

python -m examples.picture

Shown is scikit-image's astronaut, made half as large, with noise of 3 levels and JPEG of quality 60.
"""

import argparse
from fractions import Fraction

import wdsr_jax
from benchmarks.degraded import degrade_lr
from examples import DOCS
from wdsr_jax.data.sample import sample_files
from wdsr_jax.image.files import read_image, write_image
from wdsr_jax.image.panels import nearest, side_by_side

SCALE, ROWS, COLUMNS = 2, slice(20, 180), slice(140, 300)
CELL = "noise 3, JPEG 60"


def main() -> None:
    """Writes the picture."""
    argparse.ArgumentParser(
        prog="python -m examples.picture", description=__doc__.splitlines()[0]
    ).parse_args()
    model, params = wdsr_jax.load_pretrained(f"wdsr-a-16-photo-x{SCALE}")
    hr = read_image(next(path for path in sample_files()[1] if path.stem == "astronaut"))
    lr = degrade_lr(wdsr_jax.imresize(hr, Fraction(1, SCALE)), CELL)
    results = {"bicubic": wdsr_jax.imresize(lr, SCALE), "WDSR": wdsr_jax.upscale(model, params, lr)}
    panels = [(CELL, nearest(lr, SCALE)[ROWS, COLUMNS])]
    for name, image in results.items():
        panels.append((f"{name}, {wdsr_jax.psnr(image, hr, scale=SCALE):.2f} dB", image[ROWS, COLUMNS]))
    panels.append(("original", hr[ROWS, COLUMNS]))
    write_image(DOCS / "before_after.png", side_by_side(panels))


if __name__ == "__main__":
    main()
