"""The command: the network of a config layer by layer, the published networks in one table, and mistakes."""

import sys

import pytest

from wdsr_jax import summary
from wdsr_jax.errors import UserError
from wdsr_jax.models import cost, create_model

pytestmark = pytest.mark.usefixtures("compile_cache")


def test_the_layers_of_a_config_add_up(monkeypatch, capsys):
    found = cost.layers(create_model(dict(name="wdsr_a", scale=2, filters=4, blocks=1, expansion=2)))
    arguments = "--config=configs/x2.py --config.model.filters=4 --config.model.blocks=1"
    monkeypatch.setattr(sys, "argv", ["summary", *arguments.split(), "--config.model.expansion", "2"])
    summary.main()
    out = capsys.readouterr().out
    for layer in found:
        assert layer.name in out
    total = out.splitlines()[-1]
    assert f" {sum(layer.parameters for layer in found):,} |" in total
    assert "9x9" in total  # 2 * (1 + 2 + 1) + 1


def test_all_networks_and_scales_are_in_one_table(monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(sys, "argv", ["summary", "--all"])
    monkeypatch.setattr(cost, "network_table", lambda networks: shown.extend(networks) or "the table")
    summary.main()
    assert capsys.readouterr().out == "the table\n"
    rows = [(name, module.scale) for name, module in shown]
    local = [name for name in cost.PUBLISHED if name != "EDRN"]
    assert rows == [*((name, scale) for name in local for scale in (2, 3, 4, 8)), ("EDRN", 1)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --config"),
        (["--all", "--config=configs/x2.py"], "give either --config"),
        (["--all", "--config.model.blocks=2"], "--all takes no other"),
        (["--config=configs/none.py"], "there is no file configs/none.py"),
    ],
)
def test_mistakes(arguments, message, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["summary", *arguments])
    with pytest.raises(UserError, match=message):
        summary.main()
