"""Tiny networks in the place of those that ship."""

import functools

from tests.numpy_wdsr import random_params
from wdsr_jax.models import create_model
from wdsr_jax.photo import network
from wdsr_jax.weights import files
from wdsr_jax.weights.store import save_weights

CLEAN, PHOTO, FAST = "wdsr-a-16-x2", "wdsr-a-16-photo-x2", "wdsr-a-4-x2"


def ship(monkeypatch, folder, *names):
    """Makes networks of those names, each with other weights, the only ones that ship."""
    folder.mkdir()
    for seed, name in enumerate(names):
        fields = dict(name="wdsr_a", scale=int(name[-1]), filters=4, blocks=1, expansion=2)
        save_weights(folder / f"{name}.safetensors", fields, random_params(create_model(fields), seed=seed))
    monkeypatch.setattr(files, "_SHIPPED", folder)
    monkeypatch.setattr(network, "load_network", functools.cache(network.load_network.__wrapped__))
