"""Trains a network, or goes on with a run that was stopped.

python -m wdsr_jax.main --config=configs/x4.py[:variant] --workdir=runs/x4 [--config.KEY=VALUE ...]
"""

import sys

import jax
from absl import flags, logging
from ml_collections import config_flags

from wdsr_jax.console import run_command
from wdsr_jax.errors import UserError
from wdsr_jax.train import train_and_evaluate

CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="Config file, such as configs/x4.py[:variant]."
)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder for checkpoints, logs and results.")


def parse_flags(argv: list[str]) -> None:
    """Reads the command line; UserError where it, the config file or an override is wrong."""
    try:
        rest = flags.FLAGS(argv)[1:]
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError, ImportError) as error:
        raise UserError(" ".join(str(error).split())) from None
    if rest:
        raise UserError(f"unexpected argument {rest[0]!r}; overrides look like --config.KEY=VALUE")
    for flag in (CONFIG, WORKDIR):
        if flag.value is None:
            raise UserError(
                f"--{flag.name} is missing; try --config=configs/quickstart.py --workdir=runs/quickstart"
            )


def main() -> int:
    """Parses the command line, names the devices, trains."""
    parse_flags(sys.argv)
    devices = jax.devices()
    logging.info("%d x %s, %d processes", len(devices), devices[0].device_kind, jax.process_count())
    return train_and_evaluate(CONFIG.value, WORKDIR.value)


if __name__ == "__main__":
    run_command(main)
