"""The smallest run, and its workdir."""

import logging
import shutil

import pytest

from tests.tiny import tiny_config
from wdsr_jax.training.loop import train_and_evaluate


@pytest.fixture
def log_everything(caplog):
    """Logs that are for the user are among those of `caplog`."""
    caplog.set_level(logging.INFO, logger="absl")


@pytest.fixture
def config(photos, image_cache):
    return tiny_config(photos, image_cache)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, photos, image_cache, compile_cache):
    """The workdir of a run that was never stopped; left as it is, see `a_copy`."""
    workdir = tmp_path_factory.mktemp("finished")
    assert train_and_evaluate(tiny_config(photos, image_cache), workdir) == 0
    return workdir


@pytest.fixture
def a_copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")
