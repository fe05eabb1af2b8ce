"""What LR made in the training step costs: python -m benchmarks.degradation [--rounds=N]

Steps that are given LR and steps that make it by `config.data.degradation=online`, in turns.
"""

import argparse
import functools
import statistics
import time

import numpy as np

from benchmarks import networks, ours
from wdsr_jax.data.online import degrade_share, margin_of
from wdsr_jax.data.settings import ONLINE

SMALL = dict(name="wdsr_a", filters=24, blocks=4, expansion=2)
WORK = ((SMALL | dict(scale=4), 24), (SMALL | dict(scale=2), 24), (networks.WDSR_A | dict(scale=2), 48))
BATCH = 16


def measure(model: dict, patch: int, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each step: with LR given, and with LR made."""
    scale, params = model["scale"], networks.draw_params(model)
    side = (patch + 2 * margin_of(scale, ONLINE)) * scale
    hr = np.random.default_rng(0).integers(0, 256, (BATCH, side, side, 3), dtype=np.uint8)
    degrade = functools.partial(degrade_share, seed=0, scale=scale, settings=ONLINE)
    contenders = (
        (ours.stepping(model, params, BATCH), networks.draw_batch(BATCH, patch, scale)),
        (ours.stepping(model, params, BATCH, degrade=degrade), {"hr": hr}),
    )
    seconds: tuple[list[float], list[float]] = ([], [])
    for i in range(rounds + 2):
        for (step, batch), times in zip(contenders, seconds, strict=True):
            start = time.perf_counter()
            step(batch)
            if i > 1:  # those before compile
                times.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Reads the command line, measures and prints a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rounds", type=int, default=60, help="steps of each kind; a tenth of large networks"
    )
    options = parser.parse_args()
    for model, patch in WORK:
        rounds = options.rounds if model["blocks"] < 10 else max(3, options.rounds // 10)
        given, made = measure(model, patch, rounds)
        ratio = statistics.median(b / a for a, b in zip(given, made, strict=True))
        work = f"{networks.title(model)}, {BATCH} patches of {patch}x{patch}"
        medians = (
            f"{statistics.median(given):.4f} s with LR given, {statistics.median(made):.4f} s with LR made"
        )
        print(f"{work}: a step takes {medians}; median of the ratios {ratio:.3f}", flush=True)


if __name__ == "__main__":
    main()
