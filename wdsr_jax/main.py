"""Trains a network, or goes on with a run that was stopped.

python -m wdsr_jax.main --config=configs/x4.py[:variant] --workdir=runs/x4 [--config.KEY=VALUE ...]
"""

# JAX is imported in `main`: input workers import this file, and mistakes are answered before.
import argparse
import os
import re
import sys

from absl import logging

from wdsr_jax.errors import UserError
from wdsr_jax.system.console import ArgumentParser, exit_on_signals, number_from, run_command


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The options, `config` being the locked ConfigDict; UserError where something is wrong."""
    from wdsr_jax.training.config import parse_config

    summary = str(__doc__).splitlines()[0]
    parser = ArgumentParser(prog="python -m wdsr_jax.main", description=summary, allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE.py[:VARIANT]", help="such as configs/quickstart.py")
    parser.add_argument("--workdir", help="folder for checkpoints, logs and results, such as runs/quickstart")
    parser.add_argument("--profile", action="store_true", help="trace 5 steps into the workdir's profile/")
    parser.add_argument("--config.KEY", metavar="VALUE", help="overrides a key; see configs/README.md")
    others = "Slurm's, Open MPI's, Kubernetes' and those of a TPU pod find each other; others are told:"
    several = parser.add_argument_group("several processes", others)
    several.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    several.add_argument("--processes", type=number_from(1, 2**20), metavar="N", help="how many there are")
    several.add_argument(
        "--process", type=number_from(0, 2**20), metavar="I", help="which this is, from 0 to N - 1"
    )
    known, rest = parser.parse_known_args(arguments)
    if missing := [name for name in ("config", "workdir") if not getattr(known, name)]:
        example = "--config=configs/quickstart.py --workdir=runs/quickstart"
        raise UserError(f"--{missing[0]} is missing; try {example}")
    known.config = parse_config(known.config, rest)
    return known


def _widen_cpu_pool() -> None:
    """Gives XLA two threads for each virtual CPU device; with fewer their collectives may wait for ever."""
    import jax

    forced = re.search(r"xla_force_host_platform_device_count=(\d+)", os.environ.get("XLA_FLAGS", ""))
    devices = int(forced[1]) if forced else getattr(jax.config, "jax_num_cpu_devices", 1)
    threads = int(os.environ["NPROC"]) if os.environ.get("NPROC", "").isdecimal() else os.cpu_count() or 1
    if devices > 1:
        os.environ["NPROC"] = str(max(threads, 2 * devices))  # read when the devices are made, in `main`


def main() -> int:
    """Parses the command line, joins other processes, names the devices, trains."""
    options = parse_arguments(sys.argv[1:])
    from wdsr_jax.training.config import check_network

    check_network(options.config)  # its mistakes, too, before what takes seconds to import
    _widen_cpu_pool()
    from wdsr_jax.system import distributed
    from wdsr_jax.system.compilation import enable_compilation_cache
    from wdsr_jax.training.loop import train_and_evaluate

    distributed.initialize(options.coordinator, options.processes, options.process)
    # Until the training loop takes signals over: unwinds, so that nothing half-written stays.
    exit_on_signals()
    enable_compilation_cache()
    logging.info("%s, batches of %d", distributed.describe(), options.config.data.batch_size)
    with distributed.explain_lost_process():
        return train_and_evaluate(options.config, options.workdir, profile=options.profile)


def run() -> None:
    """The command `wdsr-train`."""
    run_command(main)


if __name__ == "__main__":
    run()
