"""Reproduces the paper's two claims (arXiv:1808.08718): wide activation, and weight normalisation.

python -m wdsr_jax.reproduce blocks|norms --budget=full|cpu --workdir=DIR
    [--sets DIR ...] [--seeds N] [--out=DIR] [--config=FILE.py:BUDGET] [--config.KEY=VALUE ...]

blocks (section 4.2): EDSR, WDSR-A and WDSR-B, of 1, 3, 5, 8 and 16 residual blocks (cpu: 1 and 3), all under
weight norm and trained alike. norms (section 4.3): WDSR-A under weight norm, batch norm and none, at learning
rates of 1e-4 and 1e-3. Each run has a folder in DIR/runs as the main command would make it. The same command
goes on where an earlier one was stopped, and makes no run twice. After every run DIR (or --out) gets the
tables, EXPERIMENT.md and EXPERIMENT.json, and the plots.
"""

from pathlib import Path
from typing import Any

from wdsr_jax.errors import UserError
from wdsr_jax.experiments.plots import check_plots
from wdsr_jax.system.console import ArgumentParser, exit_on_signals, number_from, run_command


def main() -> int:
    """The command line; see the module's docstring."""
    parser = ArgumentParser(
        prog="python -m wdsr_jax.reproduce",
        description="Reproduces the paper's two claims",
        allow_abbrev=False,
    )
    parser.add_argument("experiment", choices=("blocks", "norms"), help="which claim")
    parser.add_argument(
        "--budget", choices=("full", "cpu"), required=True, help="the paper's, or hours on CPU"
    )
    parser.add_argument("--workdir", type=Path, required=True, help="folder for the runs and what they show")
    parser.add_argument("--sets", nargs="+", default=[], metavar="DIR", help="folders to measure on as well")
    parser.add_argument(
        "--seeds", type=number_from(1, 1000), help="how often each run is made, with other seeds"
    )
    parser.add_argument("--out", type=Path, help="folder for tables and plots, if not the workdir")
    parser.add_argument("--config", metavar="FILE.py:BUDGET", help="if not configs/paper.py:BUDGET")
    parser.add_argument("--config.KEY", metavar="VALUE", help="overrides a key of the config file")
    args, rest = parser.parse_known_args()
    for folder in args.sets:
        if not Path(folder).is_dir():
            raise UserError(f"{folder}: {'not a folder' if Path(folder).exists() else 'no such folder'}")
    check_plots()
    exit_on_signals()

    # Here, so that mistakes above are answered before JAX is imported.
    from wdsr_jax.training.config import parse_config

    config: Any = parse_config(args.config or f"configs/paper.py:{args.budget}", rest)

    from wdsr_jax.evaluation.examples import examples_of_folders
    from wdsr_jax.experiments.runs import SEEDS, perform_all, plan

    seeds = args.seeds or SEEDS[args.experiment][args.budget]
    runs = plan(args.experiment, args.budget, seeds, config)
    sets = examples_of_folders(args.sets, config.model.scale)
    return perform_all(args.experiment, args.budget, runs, args.workdir, args.out or args.workdir, sets)


if __name__ == "__main__":
    run_command(main)
