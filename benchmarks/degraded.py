"""Networks on degraded photographs: python -m benchmarks.degraded --scale=S --models=NAME,NAME DIR ...

Each DIR is a set of `wdsr_jax.evaluate`. LR gets Gaussian noise and then JPEG, 4:2:0, in five fixed settings:
the four corners of noise 3 and 8 with JPEG 85 and 40, and JPEG 60 with little noise, as messengers leave
photographs. The random numbers are a function of the pixels and of seed 0. Printed is PSNR-Y in Markdown: a
row a set and setting, their mean, and the set as it is.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wdsr_jax.data.degradation import degrade
from wdsr_jax.data.settings import Degradation
from wdsr_jax.evaluation.benchmark import evaluate
from wdsr_jax.evaluation.examples import Example, examples_of_folders
from wdsr_jax.system.compilation import enable_compilation_cache
from wdsr_jax.system.console import run_command
from wdsr_jax.system.tables import markdown_table
from wdsr_jax.weights.store import load_pretrained

CELLS = {  # (standard deviation of noise in levels of 8 bits, quality of JPEG)
    "noise 3, JPEG 85": (3, 85),
    "noise 3, JPEG 60": (3, 60),
    "noise 3, JPEG 40": (3, 40),
    "noise 8, JPEG 85": (8, 85),
    "noise 8, JPEG 40": (8, 40),
}
MEAN, CLEAN = "mean of the five", "clean"

Table = dict[str, dict[str, float]]  # PSNR-Y by cell and column


def degrade_lr(lr: np.ndarray, cell: str) -> np.ndarray:
    """LR (H, W, 3) in uint8 after the noise and JPEG of a cell of `CELLS`."""
    noise, quality = CELLS[cell]
    return degrade(lr, 1, Degradation(noise=(noise, noise), jpeg=(quality, quality)))


def _degraded(example: Example, cell: str) -> Example:
    def load() -> tuple[np.ndarray, np.ndarray]:
        lr, hr = example.load()
        return degrade_lr(lr, cell), hr

    return example._replace(load=load)


def measure(
    examples: Sequence[Example], scale: int, models: Sequence[str], cells: Sequence[str] = tuple(CELLS)
) -> Table:
    """PSNR-Y of bicubic and of each network, averaged over the images: in each cell, their mean, and clean.

    Args:
        examples: of one set, clean.
        scale: the upscaling factor.
        models: as for `load_pretrained`.
        cells: of `CELLS`; where there are none, there is no mean.
    """
    networks = {name: load_pretrained(name) for name in models}
    table: Table = {}
    for cell in (*cells, CLEAN):
        damaged = examples if cell == CLEAN else [_degraded(example, cell) for example in examples]
        table[cell] = {}
        for name, (module, params) in networks.items():
            result = evaluate(
                damaged, scale, module, params, bicubic=not table[cell], label=f"{cell}: {name}"
            )
            table[cell] |= {"bicubic": result["bicubic"]["psnr_y"]} if "bicubic" in result else {}
            table[cell][name] = result["model"]["psnr_y"]
    clean = table.pop(CLEAN)
    if cells:
        table[MEAN] = {column: float(np.mean([table[cell][column] for cell in cells])) for column in clean}
    return table | {CLEAN: clean}


def rows_of(tables: dict[str, Table]) -> str:
    """The tables of several sets as one in Markdown."""
    columns = next(iter(next(iter(tables.values())).values()))
    rows = [
        [f"{name}, {cell}", *(f"{psnr[column]:.2f}" for column in columns)]
        for name, table in tables.items()
        for cell, psnr in table.items()
    ]
    return markdown_table(["PSNR-Y", *columns], rows)


def main() -> None:
    """Reads the command line, measures and prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.degraded", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--scale", type=int, required=True, help="upscaling factor")
    parser.add_argument("--models", required=True, help="shipped names, workdirs or files, commas between")
    parser.add_argument("--out", type=Path, help="JSON file: PSNR-Y by set, cell and network")
    parser.add_argument("folders", nargs="+", metavar="DIR", help="one folder a set")
    options = parser.parse_args()
    enable_compilation_cache()
    sets = examples_of_folders(options.folders, options.scale)
    models = options.models.split(",")
    tables = {name: measure(examples, options.scale, models) for name, examples in sets.items()}
    if options.out:
        options.out.write_text(json.dumps(tables, indent=1) + "\n")
    print(rows_of(tables))


if __name__ == "__main__":
    run_command(main)
