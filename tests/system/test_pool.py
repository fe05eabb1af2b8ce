import threading
import time

import pytest

from wdsr_jax.system import pool
from wdsr_jax.system.pool import map_ordered


@pytest.fixture
def threads(monkeypatch):
    """`threads(N)`: work is done in N threads, whatever this machine has."""
    return lambda count: monkeypatch.setattr(pool, "WORKERS", count)


def test_results_keep_the_order_of_the_items(threads):
    threads(4)

    def slow_for_early_ones(i):
        time.sleep(0.002 * (10 - i))
        return i * i

    assert list(map_ordered(slow_for_early_ones, range(10))) == [i * i for i in range(10)]
    assert list(map_ordered(slow_for_early_ones, [])) == []


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_twice_as_many_items_as_threads_are_drawn_ahead_of_the_consumer(threads, workers):
    threads(workers)
    drawn = []

    def items():
        for i in range(50):
            drawn.append(i)
            yield i

    for taken, result in enumerate(map_ordered(lambda i: i, items())):
        assert result == taken
        assert len(drawn) == min(50, taken + 2 * workers)
    assert len(drawn) == 50


def test_runs_in_several_threads(threads):
    threads(3)
    together = threading.Barrier(3, timeout=10)
    assert list(map_ordered(lambda i: together.wait() >= 0, range(3))) == [True] * 3


def test_cancels_what_is_queued_when_the_consumer_stops(threads):
    threads(2)
    called, gate = [], threading.Event()

    def work(i):
        called.append(i)
        if i:
            gate.wait(10)
        return i

    results = map_ordered(work, range(50))
    assert next(results) == 0
    threading.Timer(0.1, gate.set).start()  # calls that run are waited for
    results.close()
    assert set(called) <= {0, 1, 2}  # and the fourth item, which was drawn, is not worked on


def test_raises_what_the_function_raises_in_its_place(threads):
    threads(2)

    def work(i):
        if i == 2:
            raise ValueError("of item 2")
        return i

    results = map_ordered(work, range(50))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="of item 2"):
        next(results)
