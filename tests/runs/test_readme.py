"""The documents' commands, links and names exist, and so do the scripts of the project's metadata."""

import importlib
import re
import shlex
import tomllib
from pathlib import Path

import pytest

import wdsr_jax

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.S)
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
EXAMPLES = sorted(path.stem for path in ROOT.glob("examples/[a-z]*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def name_of(path):
    return str(path.relative_to(ROOT))


def test_quickstart_and_tests_are_one_line_each():
    first, second = BLOCKS[:2]
    assert first.count("\n") == second.count("\n") == 1
    assert "pip install" in first and "configs/quickstart.py" in first
    assert "pip install" in second and "pytest" in second


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_to_files(path):
    text = path.read_text()
    links = re.findall(r"\]\(((?!https?:|#)[^)#]+)", text) + re.findall(
        r"^\[[^]]+\]: (?!https?:)(\S+)", text, re.M
    )
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_commands_name_what_exists(path):
    blocks = re.findall(r"```sh\n(.*?)```", path.read_text(), re.S)
    words = [word for block in blocks for word in shlex.split(block, comments=True)]
    words += [word for span in re.findall(r"`([^`\n]+)`", path.read_text()) for word in span.split()]
    for word in words:
        if word.startswith("--config=") and word != "--config=FILE":
            assert (ROOT / word.removeprefix("--config=").partition(":")[0]).is_file(), word
        if re.fullmatch(r"configs/[a-z_0-9/]+\.py(:\w+)?", word):
            assert (ROOT / word.partition(":")[0]).is_file(), word
    for module in re.findall(r"-m ((?:wdsr_jax|examples|benchmarks)[\w.]*)", path.read_text()):
        at = ROOT / module.replace(".", "/")
        assert at.with_suffix(".py").is_file() or (at / "__main__.py").is_file(), module
    for module in re.findall(r"`((?:wdsr_jax|tests|docs|examples)/[a-z_0-9/.]+)`", path.read_text()):
        assert (ROOT / module).exists(), module


def test_the_index_lists_every_document():
    index = (ROOT / "docs/README.md").read_text()
    documents = {str(path.relative_to(ROOT / "docs")) for path in ROOT.glob("docs/**/*.md")} - {"README.md"}
    assert documents == set(re.findall(r"\]\(((?!\.\.)[^)]+)\)", index))


def test_the_readme_names_what_exists():
    for name in re.findall(r"`(wdsr-[\w-]+)`", README):
        assert name in wdsr_jax.list_pretrained()
    for name in re.findall(r"wdsr_jax\.(\w+)\(", README):
        assert name in wdsr_jax.__all__


def test_faults_name_tests_that_exist():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/faults.md").read_text()))
    assert named and named <= {path.stem for path in ROOT.glob("tests/**/test_*.py")}


@pytest.mark.parametrize("script", sorted(PROJECT["scripts"]))
def test_scripts_have_a_function(script):
    module, _, function = PROJECT["scripts"][script].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_the_citation_has_the_version():
    assert f"\nversion: {wdsr_jax.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert wdsr_jax.__version__ in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_answer_help_and_do_nothing_when_imported(name, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(f"examples.{name}").main()
    assert stop.value.code == 0 and f"python -m examples.{name}" in capsys.readouterr().out
