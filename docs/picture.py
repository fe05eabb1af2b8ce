"""Makes the README's picture: scikit-image's astronaut, made four times smaller, enlarged again.

python -m docs.picture
"""

from fractions import Fraction
from pathlib import Path

import wdsr_jax
from wdsr_jax.data.sample import sample_files
from wdsr_jax.images import read_image, write_image
from wdsr_jax.pictures import nearest, side_by_side

SCALE, ROWS, COLUMNS = 4, slice(20, 180), slice(140, 300)

hr = read_image(next(path for path in sample_files()[1] if path.stem == "astronaut"))
lr = wdsr_jax.imresize(hr, Fraction(1, SCALE))
sr = wdsr_jax.upscale(*wdsr_jax.load_pretrained(f"wdsr-a-16-x{SCALE}"), lr)
panels = []
for name, image in {
    "nearest": nearest(lr, SCALE),
    "bicubic": wdsr_jax.imresize(lr, SCALE),
    "WDSR": sr,
}.items():
    panels.append((f"{name}, {wdsr_jax.psnr(image, hr, scale=SCALE):.2f} dB", image[ROWS, COLUMNS]))
panels.append(("original", hr[ROWS, COLUMNS]))
write_image(Path(__file__).parent / "before_after.png", side_by_side(panels))
