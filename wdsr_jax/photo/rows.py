"""Rows of an image, block by block on all processors: large files are encoded without a copy of the image."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

T, R = TypeVar("T"), TypeVar("R")
BLOCK_BYTES = 2**20  # enough for zlib not to feel the cut, small enough for many in flight


def interleaved(pixels: np.ndarray, alpha: np.ndarray | None, start: int, stop: int) -> np.ndarray:
    """Rows start..stop of (H, W, C) `pixels`, (H, W) `alpha` as the last channel: (rows, W, C or C + 1)."""
    rows = pixels[start:stop]
    return rows if alpha is None else np.concatenate([rows, alpha[start:stop, :, None]], axis=-1)


def row_ranges(pixels: np.ndarray) -> list[tuple[int, int]]:
    """(start, stop) of blocks of rows of about `BLOCK_BYTES`."""
    height = len(pixels)
    step = max(1, BLOCK_BYTES // pixels[0].nbytes)
    return [(start, min(start + step, height)) for start in range(0, height, step)]


def map_ordered(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`map` on a thread for each processor, with few results waiting. For work that lets go of the GIL."""
    workers = min(16, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
