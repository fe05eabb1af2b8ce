"""Draws docs/before_after.png and docs/limits.png with the shipped weights for x4.

python -m examples.picture

Shown is scikit-image's astronaut, made four times smaller and upscaled again.
"""

import argparse
import io
from fractions import Fraction

import numpy as np
from PIL import Image

import wdsr_jax
from examples import DOCS
from wdsr_jax.data.sample import sample_files
from wdsr_jax.image.files import read_image, write_image
from wdsr_jax.image.panels import nearest, side_by_side

SCALE, ROWS, COLUMNS = 4, slice(20, 180), slice(140, 300)


def compress(image: np.ndarray, quality: int) -> np.ndarray:
    """`image` (H, W, 3) in uint8 after JPEG compression of a quality from 1 to 95."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def add_noise(image: np.ndarray, levels: float) -> np.ndarray:
    """`image` in uint8 plus Gaussian noise of a standard deviation in levels of 8 bits, from seed 0."""
    noisy = image + np.random.default_rng(0).normal(0, levels, image.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def main() -> None:
    """Writes both pictures."""
    argparse.ArgumentParser(
        prog="python -m examples.picture", description=__doc__.splitlines()[0]
    ).parse_args()
    model, params = wdsr_jax.load_pretrained(f"wdsr-a-16-x{SCALE}")
    hr = read_image(next(path for path in sample_files()[1] if path.stem == "astronaut"))
    lr = wdsr_jax.imresize(hr, Fraction(1, SCALE))

    def panel(name: str, image: np.ndarray) -> tuple[str, np.ndarray]:
        return f"{name}, {wdsr_jax.psnr(image, hr, scale=SCALE):.2f} dB", image[ROWS, COLUMNS]

    panels = [
        panel("nearest", nearest(lr, SCALE)),
        panel("bicubic", wdsr_jax.imresize(lr, SCALE)),
        panel("WDSR", wdsr_jax.upscale(model, params, lr)),
        ("original", hr[ROWS, COLUMNS]),
    ]
    write_image(DOCS / "before_after.png", side_by_side(panels))

    panels = []
    for name, damaged in {
        "noise of 10 levels": add_noise(lr, 10),
        "JPEG, quality 40": compress(lr, 40),
    }.items():
        panels.append(panel(f"{name}: bicubic", wdsr_jax.imresize(damaged, SCALE)))
        panels.append(panel(f"{name}: WDSR", wdsr_jax.upscale(model, params, damaged)))
    write_image(DOCS / "limits.png", side_by_side(panels))


if __name__ == "__main__":
    main()
