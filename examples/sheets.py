"""Draws docs/sheet_clean.png and docs/sheet_degraded.png: what each shipped family makes of four photographs.

python -m examples.sheets [--photo=WORKDIR]

A face, letters, grass and a night sky of scikit-image's photographs, made four times smaller by bicubic; on
the second sheet with noise of 3 levels and JPEG of quality 60 as well. The letters are of a page of its own
manual, photographed in grey. PSNR-Y is of the whole photograph.
"""

import argparse
from fractions import Fraction
from typing import Any

import numpy as np

import wdsr_jax
from benchmarks.degraded import degrade_lr
from examples import DOCS
from wdsr_jax.data.sample import sample_files
from wdsr_jax.image.files import read_image, write_image
from wdsr_jax.image.panels import nearest, side_by_side
from wdsr_jax.system.compilation import enable_compilation_cache

SCALE, SIDE, CELL = 4, 128, "noise 3, JPEG 60"
PICTURES = {  # (row, column) of the corner of what is shown
    "astronaut": (40, 156),
    "page": (0, 0),
    "grass": (200, 200),
    "hubble_deep_field": (328, 600),
}


def panels_of(hr: np.ndarray, corner: tuple[int, int], networks: dict[str, Any], damaged: bool) -> np.ndarray:
    """A row of the sheet: the input, bicubic, each network and the original.

    Args:
        hr: uint8 (H, W, 3).
        corner: row and column of the part that is shown.
        networks: module and parameters by name.
        damaged: whether the input has noise and JPEG.
    """
    rows, columns = (slice(start, start + SIDE) for start in corner)
    height, width = (side // SCALE * SCALE for side in hr.shape[:2])
    hr = hr[:height, :width]
    lr = wdsr_jax.imresize(hr, Fraction(1, SCALE))
    lr = degrade_lr(lr, CELL) if damaged else lr
    results = {"bicubic": wdsr_jax.imresize(lr, SCALE)}
    results |= {name: wdsr_jax.upscale(*network, lr) for name, network in networks.items()}
    panels = [(f"input, {CELL}" if damaged else "input", nearest(lr, SCALE)[rows, columns])]
    for name, image in results.items():
        panels.append((f"{name}, {wdsr_jax.psnr(image, hr, scale=SCALE):.2f} dB", image[rows, columns]))
    return side_by_side([*panels, ("original", hr[rows, columns])], width=1700)


def main() -> None:
    """Writes both sheets."""
    parser = argparse.ArgumentParser(prog="python -m examples.sheets", description=__doc__.splitlines()[0])
    parser.add_argument("--photo", default=f"wdsr-a-16-photo-x{SCALE}", help="the photo network")
    options = parser.parse_args()
    enable_compilation_cache()
    names = {"clean": f"wdsr-a-16-x{SCALE}", "photo": options.photo, "fast": f"wdsr-a-4-x{SCALE}"}
    networks = {family: wdsr_jax.load_pretrained(name) for family, name in names.items()}
    folder = sample_files()[0][0].parent
    files = {path.stem: path for path in folder.iterdir()}
    for sheet, damaged in (("sheet_clean", False), ("sheet_degraded", True)):
        rows = [
            panels_of(read_image(files[name]), corner, networks, damaged) for name, corner in PICTURES.items()
        ]
        write_image(DOCS / f"{sheet}.png", np.concatenate(rows))


if __name__ == "__main__":
    main()
