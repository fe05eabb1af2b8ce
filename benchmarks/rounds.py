"""Contenders in processes of their own, timed in turns.

Thread pools of different libraries spin and compete in one process, and their allocators mix. So each
contender is built in a new process, which sleeps on a pipe but in its turns.
"""

import importlib
import multiprocessing
import os
import statistics
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from benchmarks.report import OURS

_TOO_SLOW = 10  # times this package's call, from which on nobody needs the exact figure
_LONG, _ROUNDS_OF_LONG = 2, 3  # turns that a call takes, and how many such calls are enough
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Contender(NamedTuple):
    """Something to time.

    Attributes:
        build: `module:function`; called with `arguments` it gives the function to time and what it computed,
            for comparison: an array.
        arguments: picklable.
        environment: variables to set before anything is imported.
    """

    build: str
    arguments: Mapping[str, Any]
    environment: Mapping[str, str] = {}


class Timing(NamedTuple):
    """Of one contender.

    Attributes:
        seconds: of each call timed.
        cores: processor time of the calls over their wall time.
        result: what it computed, for comparison.
    """

    seconds: list[float]
    cores: float
    result: Any

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        """Seconds."""
        return min(self.seconds)


def time_in_turns(
    contenders: Mapping[str, Contender],
    *,
    threads: int,
    rounds: int,
    seconds: float,
    say: Callable[[str], None] = lambda line: None,
    refuse: Callable[[Mapping[str, Any]], Mapping[str, str]] = lambda results: {},
) -> dict[str, Timing]:
    """Times each contender for about `seconds` in each of `rounds`, one after the other.

    bfloat16 that is emulated would take all of the time. So a contender whose call, once all are built, takes
    more than a second, and ten times what this package's takes, is left out. One whose call takes more than
    two turns has three rounds alone.

    Args:
        contenders: by name.
        threads: for each.
        rounds: how often each has its turn.
        seconds: a turn takes; at least one call is made.
        say: is told which contender is left out, and why, and how long is left.
        refuse: from what each computed to the reasons why some are not timed.
    """
    context = multiprocessing.get_context("spawn")
    started, running, first = {}, {}, {}
    try:
        for name, contender in contenders.items():
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, contender, threads), daemon=True)
            process.start()
            theirs.close()
            started[name] = process, ours
        for name, (process, ours) in started.items():
            try:
                answer = ours.recv()
            except EOFError:
                answer = "its process ended"
            if isinstance(answer, str):
                say(f"{name} is left out: {answer}")
                process.join()
            else:
                running[name] = ours, answer[0]
        for name, (pipe, _) in running.items():  # now that none is being built beside it
            pipe.send(0)
            ((first[name], _),) = pipe.recv()
        reasons = {
            name: f"a call takes {first[name]:.3g} s, here {first[OURS]:.3g} s"
            for name in running
            if _is_too_slow(first[name], first.get(OURS))
        }
        reasons |= refuse({name: result for name, (_, result) in running.items()})
        for name, reason in reasons.items():
            say(f"{name} is left out: {reason}")
            running.pop(name)[0].close()
        of_long = {name for name in running if first[name] > _LONG * max(1, seconds)}
        timed: dict[str, list[tuple[float, float]]] = {name: [] for name in running}
        start = time.monotonic()
        for done in range(rounds):
            names = [name for name in running if done < _ROUNDS_OF_LONG or name not in of_long]
            if done:
                say(progress(done, rounds, names, start))
            for name in names:
                pipe, _ = running[name]
                pipe.send(seconds)
                timed[name] += pipe.recv()
        return {
            name: Timing([wall for wall, _ in timed[name]], _share(timed[name]), result)
            for name, (_, result) in running.items()
        }
    finally:
        for process, pipe in started.values():
            pipe.close()
            process.join(10)
            process.kill()


def progress(done: int, rounds: int, names: Iterable[str], start: float) -> str:
    """A line that says which round begins and how long is left, if each takes as long as those before.

    Args:
        done: how many rounds there were, at least one.
        rounds: how many there are in all.
        names: of the contenders.
        start: of the first, by `time.monotonic`, in seconds.
    """
    left = (time.monotonic() - start) / done * (rounds - done)
    return f"round {done + 1} of {rounds} of {', '.join(names)}: {left:.0f} s left"


def _is_too_slow(seconds: float, ours: float | None) -> bool:
    return ours is not None and seconds > max(1, _TOO_SLOW * ours)


def _share(timed: list[tuple[float, float]]) -> float:
    return sum(cpu for _, cpu in timed) / sum(wall for wall, _ in timed)


def _serve(pipe: Connection, contender: Contender, threads: int) -> None:
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)) | dict(contender.environment))
    try:
        module, function = contender.build.split(":")
        call, result = getattr(importlib.import_module(module), function)(**contender.arguments)
        call()
    except Exception as error:
        if not isinstance(error, ImportError):
            traceback.print_exc()
        pipe.send(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        return
    pipe.send((result,))
    try:
        while True:
            seconds = pipe.recv()
            end, timed = time.perf_counter() + seconds, []
            while not timed or time.perf_counter() < end:
                wall, cpu = time.perf_counter(), time.process_time()
                call()
                timed.append((time.perf_counter() - wall, time.process_time() - cpu))
            pipe.send(timed)
    except EOFError:  # the other side has all that it wanted
        pass
