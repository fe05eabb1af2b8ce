"""The command line of `reproduce`."""

import sys

import pytest

from wdsr_jax import reproduce
from wdsr_jax.errors import UserError

pytest.importorskip("matplotlib")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("blocks --budget=cpu", "the following arguments are required: --workdir"),
        ("both --budget=cpu --workdir=w", "invalid choice: 'both'"),
        (
            "blocks --budget=cpu --workdir=w --seeds=0",
            "--seeds: must be a whole number from 1 to 1000, not 0",
        ),
        (
            f"blocks --budget=cpu --workdir=w --seeds={400 * '9'}",
            "--seeds: must be a whole number from 1 to 1000",
        ),
        ("blocks --budget=cpu --workdir=w --config.train.step=3", "did you mean config.train.steps"),
        ("blocks --budget=cpu --workdir=w --sets none", "none"),
        ("blocks --budget=cpu --workdir=w --config.data.source=folder", "config.data.root is empty"),
        ("blocks --budget=cpu --workdir=w --config=none.py", "there is no file none.py"),
    ],
)
def test_mistakes_are_one_line_before_all_work(arguments, message, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["reproduce", *arguments.replace("=w", f"={tmp_path}/w").split()])
    monkeypatch.setattr(reproduce, "exit_on_signals", lambda: None)
    with pytest.raises(UserError) as error:
        reproduce.main()
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "w").exists()
