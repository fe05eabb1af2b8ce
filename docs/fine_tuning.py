"""Makes docs/gan.png: a network before and after fine-tuning with a discriminator, and half of the way.

python -m docs.fine_tuning WORKDIR [PICTURE]
"""

import sys
from fractions import Fraction
from pathlib import Path

import wdsr_jax
from wdsr_jax.data.sample import sample_files
from wdsr_jax.image.files import read_image, write_image
from wdsr_jax.image.panels import side_by_side
from wdsr_jax.weights.store import load_between

workdir = sys.argv[1]
target = sys.argv[2] if len(sys.argv) > 2 else Path(__file__).parent / "gan.png"
hr = read_image(next(path for path in sample_files()[1] if path.stem == "chelsea"))
panels = []
for name, perceptual in {"trained on L1": 0.0, "half of the way": 0.5, "fine-tuned": 1.0}.items():
    module, params = load_between(workdir, perceptual)
    height, width = (side // module.scale * module.scale for side in hr.shape[:2])
    lr = wdsr_jax.imresize(hr[:height, :width], Fraction(1, module.scale))
    sr = wdsr_jax.upscale(module, params, lr)
    value = wdsr_jax.psnr(sr, hr[:height, :width], scale=module.scale)
    panels.append((f"{name}, {value:.2f} dB", sr[60:200, 130:270]))
write_image(target, side_by_side([*panels, ("original", hr[60:200, 130:270])]))
