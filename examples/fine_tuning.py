"""Draws docs/gan.png: a network before and after fine-tuning with a discriminator, and halfway between.

python -m examples.fine_tuning WORKDIR [PICTURE]
"""

import argparse
from fractions import Fraction

import wdsr_jax
from examples import DOCS
from wdsr_jax.data.sample import sample_files
from wdsr_jax.image.files import read_image, write_image
from wdsr_jax.image.panels import side_by_side
from wdsr_jax.weights.store import load_between

ROWS, COLUMNS = slice(60, 200), slice(130, 270)


def main() -> None:
    """Upscales scikit-image's cat with the three networks and draws them beside the original."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.fine_tuning", description=__doc__.splitlines()[0]
    )
    parser.add_argument("workdir", metavar="WORKDIR", help="a run that was fine-tuned with a discriminator")
    parser.add_argument(
        "picture", metavar="PICTURE", nargs="?", default=DOCS / "gan.png", help="by default docs/gan.png"
    )
    options = parser.parse_args()
    hr = read_image(next(path for path in sample_files()[1] if path.stem == "chelsea"))
    panels = []
    for name, perceptual in {"trained on L1": 0.0, "halfway": 0.5, "fine-tuned": 1.0}.items():
        module, params = load_between(options.workdir, perceptual)
        height, width = (side // module.scale * module.scale for side in hr.shape[:2])
        lr = wdsr_jax.imresize(hr[:height, :width], Fraction(1, module.scale))
        sr = wdsr_jax.upscale(module, params, lr)
        value = wdsr_jax.psnr(sr, hr[:height, :width], scale=module.scale)
        panels.append((f"{name}, {value:.2f} dB", sr[ROWS, COLUMNS]))
    write_image(options.picture, side_by_side([*panels, ("original", hr[ROWS, COLUMNS])]))


if __name__ == "__main__":
    main()
