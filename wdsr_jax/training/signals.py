"""Stopping a run by SIGTERM or Ctrl-C without losing work."""

import functools
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from absl import logging

from wdsr_jax.evaluation.examples import Example


@contextmanager
def catch_signals() -> Iterator[list[int]]:
    """Catches SIGTERM and SIGINT in the `with` block.

    In a thread they stay the program's, for Python lets the main thread alone take them.

    Yields:
        An empty list, to which the number of the first signal is appended; a second signal exits at once.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def handle(number: int, _: Any) -> None:
        if received:
            sys.exit(128 + number)
        received.append(number)
        logging.info("%s: finishing the step and saving", signal.Signals(number).name)

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Stopped(Exception):
    """Raised where a signal arrives while images are evaluated."""


def until_signal(examples: Sequence[Example], signals: Sequence[int]) -> list[Example]:
    """The same images; to load one of them after a signal raises `Stopped`.

    Args:
        examples: the images.
        signals: from `catch_signals`.
    """

    def load(example: Example) -> tuple[np.ndarray, np.ndarray]:
        if signals:
            raise Stopped
        return example.load()

    return [example._replace(load=functools.partial(load, example)) for example in examples]
