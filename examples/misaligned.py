"""Draws docs/misaligned.png from two trained runs; docs/realistic.md says how to train them.

python -m examples.misaligned L1_WORKDIR TOLERANT_WORKDIR

Shown is scikit-image's astronaut, which neither run has seen. Each panel states its PSNR at the best shift.
"""

import argparse
from fractions import Fraction

import wdsr_jax
from examples import DOCS
from wdsr_jax.data.sample import sample_files
from wdsr_jax.evaluation.benchmark import score
from wdsr_jax.image.files import read_image, write_image
from wdsr_jax.image.panels import nearest, side_by_side

SCALE, WINDOW = 2, 8
ROWS, COLUMNS = slice(20, 116), slice(170, 266)


def main() -> None:
    """Upscales the photograph with both runs and draws them beside LR and HR."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.misaligned", description=__doc__.splitlines()[0]
    )
    parser.add_argument("l1", metavar="L1_WORKDIR", help="a run trained by L1")
    parser.add_argument("tolerant", metavar="TOLERANT_WORKDIR", help="a run trained by the tolerant L1")
    options = parser.parse_args()
    hr = read_image(next(path for path in sample_files()[1] if path.stem == "astronaut"))
    lr = wdsr_jax.imresize(hr, Fraction(1, SCALE))
    panels = [("LR", nearest(lr, SCALE)[ROWS, COLUMNS])]
    for name, workdir in {"trained by L1": options.l1, "by tolerant L1": options.tolerant}.items():
        sr = wdsr_jax.upscale(*wdsr_jax.load_pretrained(workdir), lr)
        scores = score(sr, hr, SCALE, WINDOW)
        panels.append((f"{name}, {scores['psnr_shift']:.2f} dB", sr[ROWS, COLUMNS]))
    panels.append(("HR", hr[ROWS, COLUMNS]))
    write_image(DOCS / "misaligned.png", side_by_side(panels))


if __name__ == "__main__":
    main()
