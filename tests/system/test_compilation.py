"""Programs are compiled once for many starts; a home that cannot be written is no obstacle."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import jax, jax.numpy as jnp
from jax._src import monitoring
from wdsr_jax.system.compilation import enable_compilation_cache

events = []
monitoring.register_event_listener(lambda event, **_: events.append(event))
enable_compilation_cache()
print(jax.jit(lambda x: x * 2 + 1)(jnp.arange(3)).tolist(), end=" ")
print("/jax/compilation_cache/cache_hits" in events, "/jax/compilation_cache/cache_misses" in events)
"""


def run(**environment):
    clean = {k: v for k, v in os.environ.items() if k not in ("JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME")}
    clean |= {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True)


@pytest.mark.parametrize("variable, inside", [("XDG_CACHE_HOME", "wdsr_jax"), ("HOME", ".cache/wdsr_jax")])
def test_the_second_start_compiles_nothing(tmp_path, variable, inside):
    first, second = (run(**{variable: str(tmp_path)}) for _ in range(2))
    assert first.stdout == "[1, 3, 5] False True\n"
    assert second.stdout == "[1, 3, 5] True False\n"
    assert first.stderr == second.stderr == ""
    assert [path.name for path in tmp_path.rglob("*wdsr_jax")] == [Path(inside).name]


def test_a_folder_of_the_users_choice_is_used(tmp_path):
    run(JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine"), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert list((tmp_path / "mine").iterdir()) and not (tmp_path / "cache").exists()


def test_without_a_folder_nothing_is_kept():
    done = run(XDG_CACHE_HOME="/dev/null")
    assert (done.stdout, done.stderr) == ("[1, 3, 5] False False\n", "")
