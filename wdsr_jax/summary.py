"""What a network costs: parameters, multiply-adds, activations and receptive field, as the papers state them.

python -m wdsr_jax.summary --config=FILE.py[:VARIANT] [--config.KEY=VALUE ...] | --all

Multiply-adds and activations are for an output of 1280x720 pixels; `models/cost.py` says what is counted.
"""

from typing import Any

from wdsr_jax.errors import UserError
from wdsr_jax.system.console import ArgumentParser, run_command

_SCALES = (2, 3, 4, 8)


def main() -> None:
    """The command line; see the module's docstring."""
    parser = ArgumentParser(
        prog="python -m wdsr_jax.summary", description="What a network costs", allow_abbrev=False
    )
    parser.add_argument(
        "--config", metavar="FILE.py[:VARIANT]", help="layer by layer, the network of a config"
    )
    parser.add_argument("--all", action="store_true", help="the published networks at every scale")
    parser.add_argument("--config.KEY", metavar="VALUE", help="overrides a key of the config file")
    known, rest = parser.parse_known_args()
    if bool(known.config) == known.all:
        raise UserError("give either --config=FILE.py[:VARIANT], such as configs/x4.py, or --all")
    if known.all:
        if rest:
            raise UserError(f"unexpected argument {rest[0]!r}; --all takes no other")
        _print_all()
    else:
        _print_network(known.config, rest)


# JAX is imported below, so that mistakes above are answered before it.


def _print_all() -> None:
    from wdsr_jax.models import create_model
    from wdsr_jax.models.cost import PUBLISHED, network_table

    networks = [(name, dict(scale=s) | fields) for name, fields in PUBLISHED.items() for s in _SCALES]
    networks = [pair for i, pair in enumerate(networks) if pair not in networks[:i]]  # EDRN has one scale
    print(network_table([(name, create_model(fields)) for name, fields in networks]))


def _print_network(path: str, overrides: list[str]) -> None:
    from wdsr_jax.training.config import check_config, parse_config

    config: Any = parse_config(path, overrides)
    check_config(config)

    from wdsr_jax.models import create_model
    from wdsr_jax.models.cost import layer_table, network_table

    module = create_model(config.model, allow_import=True)
    print(layer_table(module), network_table([(config.model.name, module)]), sep="\n\n")


if __name__ == "__main__":
    run_command(main)
