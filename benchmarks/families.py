"""The table of the shipped weights: python -m benchmarks.families ROOT [--models=NAME,NAME]

ROOT has the sets as SET/image_SRF_S, for Set5 and Set14. Printed in Markdown, a row a network: parameters,
multiply-adds for an output of 1280x720, seconds for a megapixel of LR on this machine, and PSNR-Y, with
bicubic's behind it, on both sets and on Set14 degraded in five ways (the mean, see `degraded`).
"""

import argparse
from pathlib import Path

import wdsr_jax
from benchmarks.degraded import CLEAN, MEAN, measure
from benchmarks.networks import draw_image
from benchmarks.quality import time_network
from wdsr_jax.evaluation.examples import examples_of_folder
from wdsr_jax.models import count_params
from wdsr_jax.models.cost import multiply_adds
from wdsr_jax.system.compilation import enable_compilation_cache
from wdsr_jax.system.console import run_command
from wdsr_jax.system.tables import markdown_table

SETS = ("Set5", "Set14")
_SIDE, _SECONDS = 96, 3  # as `quality` times networks for docs/benchmarks.md


def row_of(name: str, root: Path) -> list[str]:
    """The cells of a network's row."""
    module, params = wdsr_jax.load_pretrained(name)
    scale = module.scale
    cells = [f"`{name}`", f"{count_params(params):,}", f"{multiply_adds(module) / 1e9:.1f}"]
    cells.append(f"{time_network(module, params, draw_image(_SIDE, _SIDE), _SECONDS):.1f}")
    set5, set14 = (examples_of_folder(root / one / f"image_SRF_{scale}", scale) for one in SETS)
    table = measure(set14, scale, [name])
    scores = [measure(set5, scale, [name], cells=())[CLEAN], table[CLEAN], table[MEAN]]
    return cells + [f"{psnr[name]:.2f} ({psnr['bicubic']:.2f})" for psnr in scores]


def main() -> None:
    """Reads the command line, measures and prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.families", description=__doc__.splitlines()[0]
    )
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of Set5 and Set14")
    parser.add_argument("--models", default=",".join(wdsr_jax.list_pretrained()), help="default: all shipped")
    options = parser.parse_args()
    enable_compilation_cache()
    head = ["weights", "parameters", "10^9 multiply-adds", "s per LR megapixel"]
    head += ["Set5 (bicubic)", "Set14", "Set14 degraded"]
    print(markdown_table(head, [row_of(name, options.root) for name in options.models.split(",")]))


if __name__ == "__main__":
    run_command(main)
