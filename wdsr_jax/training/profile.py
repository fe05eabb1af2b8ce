"""A trace of a few training steps: what the host and the devices do, and for how long."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from absl import logging

STEPS = 5
_BEFORE = 2  # the first step compiles, and those in flight finish


@contextmanager
def trace_steps(folder: Path, first_step: int) -> Iterator[Callable[[int, Any], None]]:
    """Traces `STEPS` steps of a run into `folder`, or as many as the run has.

    Perfetto (https://ui.perfetto.dev) opens the `*.trace.json.gz` in it, XProf and TensorBoard the folder.

    Args:
        folder: is made when the trace begins.
        first_step: the number of steps made before the run.

    Yields:
        A function to call after each step with the number of steps made and the step's metrics.
    """
    tracing = False

    def stop() -> None:
        nonlocal tracing
        jax.profiler.stop_trace()
        tracing = False
        logging.info("trace of the steps: %s (ui.perfetto.dev opens its *.trace.json.gz)", folder)

    def after(step: int, metrics: Any) -> None:
        nonlocal tracing
        if step == first_step + _BEFORE:
            jax.block_until_ready(metrics)
            jax.profiler.start_trace(folder)
            tracing = True
        elif tracing and step == first_step + _BEFORE + STEPS:
            jax.block_until_ready(metrics)
            stop()

    try:
        yield after
    finally:
        if tracing:
            stop()
