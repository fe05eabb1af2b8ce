"""Makes docs/misaligned.png from two trained runs, see docs/realistic.md.

python -m docs.misaligned L1_WORKDIR TOLERANT_WORKDIR

Shown is scikit-image's astronaut, which neither of them has seen; below each, its PSNR at the best shift.
"""

import sys
from fractions import Fraction
from pathlib import Path

import wdsr_jax
from wdsr_jax.data.sample import sample_files
from wdsr_jax.evaluation.benchmark import score
from wdsr_jax.image.files import read_image, write_image
from wdsr_jax.image.panels import nearest, side_by_side

SCALE, WINDOW = 2, 8
ROWS, COLUMNS = slice(20, 116), slice(170, 266)

hr = read_image(next(path for path in sample_files()[1] if path.stem == "astronaut"))
lr = wdsr_jax.imresize(hr, Fraction(1, SCALE))
panels = [("LR", nearest(lr, SCALE)[ROWS, COLUMNS])]
for name, workdir in zip(("trained by L1", "by tolerant L1"), sys.argv[1:], strict=True):
    sr = wdsr_jax.upscale(*wdsr_jax.load_pretrained(workdir), lr)
    scores = score(sr, hr, SCALE, WINDOW)
    panels.append((f"{name}, {scores['psnr_shift']:.2f} dB", sr[ROWS, COLUMNS]))
panels.append(("HR", hr[ROWS, COLUMNS]))
write_image(Path(__file__).with_name("misaligned.png"), side_by_side(panels))
