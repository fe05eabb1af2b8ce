"""Compiled programs kept on disk for a command's second start, and programs that run only once."""

import hashlib
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wdsr_jax.system.devices import on_cpu
from wdsr_jax.system.files import default_cache_dir


def enable_compilation_cache() -> None:
    """Turns on JAX's cache of compiled programs, in a folder of `default_cache_dir()`.

    A folder that JAX_COMPILATION_CACHE_DIR names is used as it is; where no folder can be written, nothing is
    kept.
    """
    import jax  # here, since it takes half a second and not everybody who may call this does

    if jax.config.values["jax_compilation_cache_dir"] is None:
        try:
            # JAX's key does not say for which processor it compiled, and homes are shared between machines.
            folder = default_cache_dir() / f"compiled-{_processor()}"
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError):  # RuntimeError: no home
            return
        if not os.access(folder, os.W_OK):
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
    # By default programs that compile in under a second are not kept: a start has dozens of them.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def call_once(function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)` as one program that is compiled fast, for what a command computes once.

    Op by op each kind and shape of operation is a program of its own. And of drawing random numbers on CPUs,
    XLA's optimisation takes seconds, and saves microseconds. No other `jax.jit` may be around it.

    Args:
        function: of arrays, which can be traced.
        args: trees of arrays.
    """
    import jax

    options = {"xla_backend_optimization_level": "0"} if on_cpu() else {}
    return jax.jit(function, compiler_options=options)(*args)


def _processor() -> str:
    """Names the instruction sets of this processor, in 8 hexadecimal digits."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    except OSError:  # not Linux
        features = [platform.machine(), platform.processor()]
    return hashlib.sha256("\n".join(features).encode()).hexdigest()[:8]
