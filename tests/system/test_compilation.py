"""Programs are compiled once for many starts; a home that cannot be written is no obstacle."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax import monitoring
from jax.experimental.compilation_cache import compilation_cache

from wdsr_jax.system.compilation import enable_compilation_cache

OPTIONS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture
def start(monkeypatch):
    """What a new process does: it turns the cache on, and compiles a program that it has not compiled yet."""
    before = {name: jax.config.values[name] for name in OPTIONS}
    monkeypatch.delenv("XDG_CACHE_HOME")
    events = []

    def listen(event, **_):
        events.append(event)

    def start(cache_dir=None):
        events.clear()
        jax.config.update("jax_compilation_cache_dir", cache_dir)  # from JAX_COMPILATION_CACHE_DIR
        compilation_cache.reset_cache()
        enable_compilation_cache()
        program = jax.jit(lambda x: x * 2 + 1)  # of a function that JAX has not seen
        assert program(jnp.arange(3)).tolist() == [1, 3, 5]
        return tuple(f"/jax/compilation_cache/cache_{what}" in events for what in ("hits", "misses"))

    monitoring.register_event_listener(listen)
    yield start
    monitoring.unregister_event_listener(listen)
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


HIT, MISS, NO_CACHE = (True, False), (False, True), (False, False)


@pytest.mark.parametrize("variable, inside", [("XDG_CACHE_HOME", "wdsr_jax"), ("HOME", ".cache/wdsr_jax")])
def test_the_second_start_finds_the_program(start, tmp_path, monkeypatch, variable, inside):
    monkeypatch.setenv(variable, str(tmp_path))
    assert start() == MISS
    (folder,) = (tmp_path / inside).iterdir()
    assert folder.name.startswith("compiled-") and list(folder.iterdir())
    assert start() == HIT


def test_a_folder_of_the_users_choice_is_used(start, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert start(str(tmp_path / "mine")) == MISS
    assert start(str(tmp_path / "mine")) == HIT
    assert list((tmp_path / "mine").iterdir()) and not (tmp_path / "cache").exists()


def test_without_a_folder_nothing_is_kept(start, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert start() == NO_CACHE


PROGRAM = """
import jax, jax.numpy as jnp
from jax import monitoring
from wdsr_jax.system.compilation import enable_compilation_cache

events = []
monitoring.register_event_listener(lambda event, **_: events.append(event))
enable_compilation_cache()
print(jax.jit(lambda x: x * 2 + 1)(jnp.arange(3)).tolist(), end=" ")
print("/jax/compilation_cache/cache_hits" in events, "/jax/compilation_cache/cache_misses" in events)
"""


@pytest.mark.ci
def test_a_second_process_compiles_nothing(tmp_path):
    clean = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    clean |= {"PYTHONPATH": str(Path(__file__).parents[2]), "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", PROGRAM]
    outputs = [
        subprocess.run(command, env=clean, capture_output=True, text=True, check=True) for _ in range(2)
    ]
    assert [done.stdout for done in outputs] == ["[1, 3, 5] False True\n", "[1, 3, 5] True False\n"]
    assert [done.stderr for done in outputs] == ["", ""]
