"""What a run measures of itself: metrics of its steps, images a second, time spent waiting for batches."""

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from wdsr_jax.errors import UserError
from wdsr_jax.training.step import Metrics
from wdsr_jax.weights.files import WORKDIR_FILE

_IN_FLIGHT = 2  # steps that wait on the device, so that it never waits for the host


class DivergedError(UserError):
    """Loss or gradient stayed non-finite.

    Attributes:
        step: up to which it did.
    """

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


class Meter:
    """Counts the steps of a run, keeps their metrics until they are logged, and takes the time.

    Attributes:
        first_step: steps made before this start of the run.
        step: steps made.
    """

    def __init__(self, step: int, batch_size: int):
        self.first_step = self.step = step
        self._batch_size = batch_size
        self._unlogged: list[Metrics] = []
        self._in_flight: deque[Metrics] = deque()
        self.restart()

    def restart(self) -> None:
        """Takes the time from here on, so that what came before is no part of the rate."""
        self._since, self._counted, self._waited = time.monotonic(), self.step, 0.0

    def next(self, batches: Iterator[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The next batch; the time until it is there counts as waiting."""
        asked = time.monotonic()
        batch = next(batches)
        self._waited += time.monotonic() - asked
        return batch

    def advance(self, metrics: Metrics) -> None:
        """Counts a step that has been dispatched, with metrics that may still be computed."""
        self.step += 1
        self._unlogged.append(metrics)
        self._in_flight.append(metrics)

    def landed(self, *, leave: int = _IN_FLIGHT) -> Iterator[tuple[int, Metrics]]:
        """Number and metrics of the oldest steps in flight, one by one, until `leave` are left."""
        while len(self._in_flight) > leave:
            yield self.step - len(self._in_flight) + 1, self._in_flight.popleft()

    def summarise(self) -> dict[str, float]:
        """Means over the steps since the last call, without those that were skipped, and the rate.

        Returns:
            The metrics by name, `images_per_second`, and `input_wait`, a share of the time in [0, 1].
        """
        values = jax.device_get(self._unlogged)
        elapsed = time.monotonic() - self._since
        good = [value for value in values if value["skipped_in_row"] == 0] or values
        means = sorted(good[0].keys() - {"skipped_in_row", "stop"})
        result = {name: float(np.mean([value[name] for value in good], dtype=float)) for name in means}
        result["images_per_second"] = (self.step - self._counted) * self._batch_size / elapsed
        result["input_wait"] = self._waited / elapsed
        self._unlogged = []
        self.restart()
        return result


def check_finite(metrics: Metrics, limit: int, step: int, workdir: Path) -> None:
    """Raises DivergedError where more than `limit` steps in a row, up to `step`, were not finite."""
    if int(metrics["skipped_in_row"]) <= limit:
        return
    best = f", from the best weights so far: --config.train.init_from={workdir}"
    raise DivergedError(
        f"loss or gradient was not finite in {limit + 1} steps in a row, up to step {step}; the "
        "checkpoints hold the weights from before; train in another --workdir with a lower "
        "--config.train.learning_rate or with --config.train.grad_clip=1"
        + (best if (workdir / WORKDIR_FILE).exists() else ""),
        step,
    )
