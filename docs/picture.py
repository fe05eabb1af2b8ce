"""Makes the pictures of the documentation from scikit-image's astronaut, made four times smaller.

python -m docs.picture
"""

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

import wdsr_jax
from wdsr_jax.data.sample import sample_files
from wdsr_jax.image.files import read_image, write_image
from wdsr_jax.image.panels import nearest, side_by_side

FOLDER = Path(__file__).parent
SCALE, ROWS, COLUMNS = 4, slice(20, 180), slice(140, 300)

model, params = wdsr_jax.load_pretrained(f"wdsr-a-16-x{SCALE}")
hr = read_image(next(path for path in sample_files()[1] if path.stem == "astronaut"))
lr = wdsr_jax.imresize(hr, Fraction(1, SCALE))


def panel(name: str, image: np.ndarray) -> tuple[str, np.ndarray]:
    """A detail of `image` with its PSNR."""
    return f"{name}, {wdsr_jax.psnr(image, hr, scale=SCALE):.2f} dB", image[ROWS, COLUMNS]


panels = [
    panel("nearest", nearest(lr, SCALE)),
    panel("bicubic", wdsr_jax.imresize(lr, SCALE)),
    panel("WDSR", wdsr_jax.upscale(model, params, lr)),
    ("original", hr[ROWS, COLUMNS]),
]
write_image(FOLDER / "before_after.png", side_by_side(panels))

noisy = lr + np.random.default_rng(0).normal(0, 10, lr.shape)
noisy = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
file = io.BytesIO()
Image.fromarray(lr).save(file, "JPEG", quality=40)
compressed = np.asarray(Image.open(file))
panels = []
for name, damaged in {"noise of 10 levels": noisy, "JPEG, quality 40": compressed}.items():
    panels.append(panel(f"{name}: bicubic", wdsr_jax.imresize(damaged, SCALE)))
    panels.append(panel(f"{name}: WDSR", wdsr_jax.upscale(model, params, damaged)))
write_image(FOLDER / "limits.png", side_by_side(panels))
