"""Mistakes in the arguments of the command that evaluates: one line each."""

import sys

import pytest

from wdsr_jax.errors import UserError
from wdsr_jax.evaluation.arguments import parse_arguments


def parse(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])
    return parse_arguments()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--temperature=0.5"], "--temperature is for --samples=N, which is not there"),
        (["--samples=3"], "--samples does without --model=bicubic"),
        (["--samples=3", "--model=wdsr-a-16-x2", "--shift=2"], "--samples does without --shift"),
        (["--samples=0"], "argument --samples: must be a whole number from 1 to 1000, not 0"),
        (["--samples=3", "--temperature=-1"], "argument --temperature: -1 is not from 0 to 10"),
        (["--samples=3", "--temperature=nan"], "argument --temperature: nan is not from 0 to 10"),
        (["--samples=3", "--temperature=hot"], "argument --temperature: invalid temperature value: 'hot'"),
    ],
)
def test_mistakes_are_named(monkeypatch, tmp_path, arguments, message):
    with pytest.raises(UserError) as error:
        parse(monkeypatch, "--model=bicubic", "--scale=2", *arguments, str(tmp_path))
    assert str(error.value).startswith(message)


def test_defaults(monkeypatch, tmp_path):
    args = parse(monkeypatch, "--model=bicubic", "--scale=2", str(tmp_path), f"{tmp_path}/")
    assert args.folders == [str(tmp_path)] and args.temperature == 0.8 and args.samples is None
