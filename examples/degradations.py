"""Draws docs/degradations.png: what `config.data.degradation=online` may do, each at three strengths.

python -m examples.degradations

Shown is scikit-image's astronaut, made four times smaller.
"""

import argparse

import numpy as np

from examples import DOCS
from wdsr_jax.data.online import degrade_image
from wdsr_jax.data.sample import sample_files
from wdsr_jax.data.settings import Online, Range
from wdsr_jax.image.files import read_image, write_image
from wdsr_jax.image.panels import side_by_side

SCALE, ROWS, COLUMNS = 4, slice(4, 68), slice(24, 88)
WIDTH = 1000
CLEAN = ("nothing but bicubic", Online())


def always(**settings: float) -> Online:
    """Settings whose ranges are one number each, which happens to every image."""
    ranged = ("blur", "shift", "noise", "poisson", "jpeg")
    return Online(**{name: Range(x, x) if name in ranged else x for name, x in settings.items()})


def strengths() -> list[list[tuple[str, Online]]]:
    """Caption and settings of each panel, row by row."""
    downscaled = {
        "area": {"area": 1},
        "bilinear": {"bilinear": 1},
        "bilinear, blur=0.4": {"bilinear": 1, "blur": 0.4},
    }
    colour, grey = {"grey": 0.0}, {"grey": 1.0}
    half, full = {"subsampled": 1.0}, {"subsampled": 0.0}
    return [
        [CLEAN, *((f"blur={x}", always(blur=x)) for x in (0.4, 0.8, 1.2))],
        [CLEAN, *((f"shift={x} HR pixels", always(shift=x)) for x in (0.5, 2, 4))],
        [CLEAN, *((name, always(**settings)) for name, settings in downscaled.items())],
        [CLEAN, *((f"noise={x}, colour", always(noise=x, **colour)) for x in (4, 8, 16))],
        [CLEAN, *((f"noise={x}, grey", always(noise=x, **grey)) for x in (4, 8, 16))],
        [CLEAN, *((f"poisson={x}", always(poisson=x, **colour)) for x in (3000, 1000, 300))],
        [CLEAN, *((f"jpeg={x}, 4:2:0", always(jpeg=x, **half)) for x in (90, 60, 30))],
        [CLEAN, *((f"jpeg={x}, 4:4:4", always(jpeg=x, **full)) for x in (90, 60, 30))],
    ]


def main() -> None:
    """Writes the picture."""
    argparse.ArgumentParser(
        prog="python -m examples.degradations", description=__doc__.splitlines()[0]
    ).parse_args()
    hr = read_image(next(path for path in sample_files()[1] if path.stem == "astronaut"))
    rows = []
    for row in strengths():
        panels = [(name, degrade_image(hr, SCALE, settings, 0)[ROWS, COLUMNS]) for name, settings in row]
        rows.append(side_by_side(panels, WIDTH))
    write_image(DOCS / "degradations.png", np.concatenate(rows))


if __name__ == "__main__":
    main()
