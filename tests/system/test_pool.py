import threading
import time

import pytest

from wdsr_jax.system.pool import map_ordered


def test_results_keep_the_order_of_the_items():
    def slow_for_early_ones(i):
        time.sleep(0.002 * (10 - i))
        return i * i

    assert list(map_ordered(slow_for_early_ones, range(10), workers=4)) == [i * i for i in range(10)]
    assert list(map_ordered(slow_for_early_ones, [], workers=4)) == []


@pytest.mark.parametrize(("workers", "ahead", "bound"), [(2, None, 4), (3, 5, 5), (2, 1, 1)])
def test_a_bounded_number_of_items_is_drawn_ahead_of_the_consumer(workers, ahead, bound):
    drawn = []

    def items():
        for i in range(50):
            drawn.append(i)
            yield i

    for taken, result in enumerate(map_ordered(lambda i: i, items(), workers=workers, ahead=ahead)):
        assert result == taken
        assert len(drawn) <= taken + bound
    assert len(drawn) == 50


def test_runs_in_several_threads():
    together = threading.Barrier(3, timeout=10)
    assert list(map_ordered(lambda i: together.wait() >= 0, range(3), workers=3)) == [True] * 3


def test_cancels_what_is_queued_when_the_consumer_stops():
    called, gate = [], threading.Event()

    def work(i):
        called.append(i)
        if i:
            gate.wait(10)
        return i

    results = map_ordered(work, range(50), workers=1, ahead=10)
    assert next(results) == 0
    threading.Timer(0.1, gate.set).start()  # the second call runs, and is waited for
    results.close()
    assert called in ([0], [0, 1])


def test_raises_what_the_function_raises_in_its_place():
    def work(i):
        if i == 2:
            raise ValueError("of item 2")
        return i

    results = map_ordered(work, range(50), workers=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="of item 2"):
        next(results)
