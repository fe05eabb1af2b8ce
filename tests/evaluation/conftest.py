"""The current folder of tests."""

import pytest

from tests.evaluation.sets import write_sets


@pytest.fixture
def around(monkeypatch, tmp_path):
    """A folder with a bit of everything, as current folder."""
    monkeypatch.chdir(tmp_path)
    write_sets()
    return tmp_path
