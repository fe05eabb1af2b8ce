"""The README's commands name what exists."""

import re
import shlex
from pathlib import Path

import pytest

import wdsr_jax

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.S)
COMMANDS = [c for b in BLOCKS for c in shlex.split(b, comments=True) if c]


def test_quickstart_and_tests_are_one_line_each():
    first, second = BLOCKS[:2]
    assert first.count("\n") == second.count("\n") == 1
    assert "pip install" in first and "configs/quickstart.py" in first
    assert "pip install" in second and "pytest" in second


@pytest.mark.parametrize("word", [w for w in COMMANDS if w.startswith("--config=")])
def test_configs_exist(word):
    assert (ROOT / word.removeprefix("--config=").partition(":")[0]).is_file()


@pytest.mark.parametrize("module", sorted({m for m in COMMANDS if m.startswith("wdsr_jax.")}))
def test_modules_exist(module):
    assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()


def test_files_and_names_exist():
    for path in re.findall(r"\]\(((?!https?:)[^)]+)\)", README):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"`(wdsr-[\w-]+)`", README):
        assert name in wdsr_jax.list_pretrained()
    for name in re.findall(r"wdsr_jax\.(\w+)\(", README):
        assert name in wdsr_jax.__all__
