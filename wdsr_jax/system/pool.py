"""Work in threads, for functions that release the GIL: decoding, compression, NumPy."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# That this process may use, where the system tells.
PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
WORKERS = min(16, PROCESSORS)  # threads that run at a time


def map_ordered(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`map` in threads: results in the order of `items`, and a bounded number of them in memory.

    When the consumer stops, or an item or a call of `function` raises, what is queued is cancelled and what
    runs is waited for.

    Args:
        function: called from `WORKERS` threads.
        items: drawn in the thread of the consumer, as it takes results: at most twice as many as threads are
            ahead of it.

    Yields:
        `function(item)` for each item.

    Raises:
        Whatever `function` raises, in the place of its result.
    """
    pool = ThreadPoolExecutor(WORKERS)
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 2 * WORKERS:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
