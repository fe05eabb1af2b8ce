"""The command that upscales, with a tiny network."""

import logging
import sys

import pytest

from tests.numpy_wdsr import random_params
from wdsr_jax.models import create_model
from wdsr_jax.photo import command, network
from wdsr_jax.weights.store import save_weights

MODEL = dict(name="wdsr_a", scale=2, filters=4, blocks=1, expansion=2)


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, MODEL, random_params(create_model(MODEL)))
    return str(path)


@pytest.fixture
def upscale(tmp_path, monkeypatch, weights, caplog):
    """Runs the command in `tmp_path` with a tiny x2 network; gives its exit code and what it logged."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(network, "enable_compilation_cache", lambda: None)

    def run(*arguments, model=weights, scale="--scale=2"):
        caplog.clear()
        options = [scale] * bool(scale) + [f"--model={model}"] * bool(model)
        monkeypatch.setattr(sys, "argv", ["upscale", *options, *map(str, arguments)])  # whose options win
        with caplog.at_level(logging.INFO):
            return command.main(), caplog.messages

    return run
