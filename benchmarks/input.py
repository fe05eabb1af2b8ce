"""Training patches a second: python -m benchmarks.input [--root=DIR] [--cache_dir=DIR] [--scale=2]

Without --root it reads the sample photographs. The images are decoded first; what is timed is the warm cache.
`python -m benchmarks input` measures besides for how much of its time a training step waits for its batch.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import islice

import grain
import numpy as np

from benchmarks import networks, ours
from benchmarks.compute import Setting
from benchmarks.report import OURS, Row
from wdsr_jax.data import load_data
from wdsr_jax.data.dataset import PairedDataset
from wdsr_jax.data.pipeline import training_batches
from wdsr_jax.image.pixels import dihedral

PATCH = 48  # LR pixels a side
SECONDS = 4.0


def measure(
    batches: Iterable[dict[str, np.ndarray]], batch_size: int, seconds: float = SECONDS
) -> tuple[float, float]:
    """Takes batches for some seconds.

    Returns:
        (patches a second, milliseconds of CPU time that this process, all its threads, used for a batch).
    """
    iterator = iter(batches)
    for _ in islice(iterator, 8):  # threads and processes start, what was computed ahead is used up
        pass
    start, cpu, count = time.perf_counter(), time.process_time(), 0
    while not count or time.perf_counter() < start + seconds:
        next(iterator)
        count += 1
    elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu
    iterator.close()
    return count * batch_size / elapsed, cpu / count * 1e3


def patch_by_patch(pairs: PairedDataset, batch_size: int) -> Iterable[dict[str, np.ndarray]]:
    """The textbook Grain pipeline, one element a patch, for comparison."""
    scale = pairs.scale

    def cut(i: int, random: np.random.Generator) -> dict[str, np.ndarray]:
        lr, hr = pairs[i]
        y, x = (random.integers(side - PATCH + 1) for side in lr.shape[:2])
        transform = random.integers(8)
        lr = lr[y : y + PATCH, x : x + PATCH]
        hr = hr[y * scale : (y + PATCH) * scale, x * scale : (x + PATCH) * scale]
        return {"lr": dihedral(lr, transform), "hr": dihedral(hr, transform)}

    indices = grain.MapDataset.range(len(pairs)).seed(1).shuffle().repeat()
    patches = indices.random_map(cut).batch(batch_size)
    return iter(patches.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)))


def run(pairs: PairedDataset, workers: list[int]) -> None:
    """Prints the table, and what it means for a host of 16 cores."""
    for i in range(len(pairs)):
        for image in pairs[i]:
            image[::8].sum()  # reads it into memory
    hr_patch = PATCH * pairs.scale
    print(f"\n{len(pairs)} images, LR patches of {PATCH}x{PATCH}, HR patches of {hr_patch}x{hr_patch}\n")
    print("| a Grain element is | workers | batch | patches/s | main process, CPU ms/batch |")
    print("|---|---|---|---|---|")
    outlook = []
    for batch_size in (16, 256):
        rate, cpu = measure(patch_by_patch(pairs, batch_size), batch_size)
        print(f"| a patch | 0 | {batch_size} | {rate:,.0f} | {cpu:.2f} |", flush=True)
        for n in workers:
            batches = training_batches(pairs, patch_size=PATCH, batch_size=batch_size, seed=1, workers=n)
            rate, cpu = measure(batches, batch_size)
            print(f"| a batch | {n} | {batch_size} | {rate:,.0f} | {cpu:.2f} |", flush=True)
            if n:
                outlook.append((batch_size, n, rate / n, batch_size / cpu * 1e3))
    print()
    for batch_size, n, rate, limit in outlook:
        print(
            f"batch {batch_size}, {n} workers: {rate:,.0f} patches/s a worker; on 16 cores 15 workers would "
            f"make {15 * rate:,.0f}, and one core of the main process take {limit:,.0f}"
        )


def rows(setting: Setting) -> Iterator[Row]:
    """The pipeline alone, and beside the training step of WDSR-A 16x32 x2, batch 16."""
    model = networks.quick_model(dict(networks.WDSR_A, scale=2), setting.quick)
    batch_size, seconds = (4, 0.0) if setting.quick else (16, SECONDS)
    with tempfile.TemporaryDirectory() as temporary:
        pairs, _ = load_data("sample", scale=2, root="", cache_dir=temporary, patch_size=PATCH)

        def batches() -> Iterable[dict[str, np.ndarray]]:
            return training_batches(pairs, patch_size=PATCH, batch_size=batch_size, seed=1)

        work = f"batch {batch_size} of {PATCH}x{PATCH}"
        step_work = f"{work}, training {networks.title(model)}"
        setting.say(f"input: {work}, alone: {6 * seconds:.0f} s left, and a compilation")
        rate, _ = measure(batches(), batch_size, seconds)
        yield Row("input", f"{work}, alone", OURS, "", rate, "patches/s")
        iterator = iter(batches())
        step = ours.stepping(model, networks.draw_params(model), len(next(iterator)["lr"]))
        step(next(iterator))  # compiles
        setting.say(f"input: {step_work}: {5 * seconds:.0f} s left")
        start, waited, count = time.perf_counter(), 0.0, 0
        while count < 3 or time.perf_counter() < start + 5 * seconds:
            asked = time.perf_counter()
            batch = next(iterator)
            waited += time.perf_counter() - asked
            step(batch)
            count += 1
        elapsed = time.perf_counter() - start
        iterator.close()
        yield Row("input", step_work, OURS, "", count * batch_size / elapsed, "images/s")
        yield Row("input", f"{step_work}, waiting", OURS, "", 100 * waited / elapsed, "% of the time")


def main() -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="", help="folder of images; default: the sample photographs")
    parser.add_argument("--cache_dir", default="", help="default: a temporary folder")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        pairs, _ = load_data(
            "folder" if options.root else "sample",
            scale=options.scale,
            root=options.root,
            cache_dir=options.cache_dir or temporary,
            patch_size=PATCH,
        )
        run(pairs, options.workers)


if __name__ == "__main__":
    main()
