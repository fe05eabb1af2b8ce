"""Training batches: random aligned crops of LR/HR pairs, or of HR alone, by Grain.

Patch g of the stream (g = 0, 1, 2, ...) is a pure function of the seed and g, and batch k holds the patches
k * batch_size ... (k + 1) * batch_size - 1. So a run that resumes at step k sees the very batches it would
have seen, whatever the number of hosts and worker processes, and no iterator state needs to be saved.

A Grain element is a whole batch: Grain's own shuffle, random_map and batch cost more for each patch than
cropping it does (`python -m benchmarks.input`).
"""

import os
import re
import signal
import sys
import threading
from collections.abc import Generator
from functools import lru_cache, partial
from multiprocessing import parent_process

import grain
import numpy as np
from absl import flags

from wdsr_jax.data.dataset import PairedDataset
from wdsr_jax.errors import UserError
from wdsr_jax.image.pixels import dihedral

_THREADS = 1  # without workers: more would fight for the GIL and be no faster
_BATCHES_AHEAD = 4  # without workers
_BATCHES_AHEAD_PER_WORKER = 2
_END = 2**48  # batches; Grain's ranges have an end


def training_batches(
    pairs: PairedDataset,
    *,
    patch_size: int,
    batch_size: int,
    seed: int,
    margin: int = 0,
    start: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 0,
) -> Generator[dict[str, np.ndarray], None, None]:
    """Batches of random patches without end; every epoch uses each pair once, in another order.

    A patch is a crop at a uniformly random position, LR and HR aligned, turned by one of the 8 dihedral
    transforms. Close the iterator (`.close()`) to end its threads or worker processes early.

    Args:
        pairs: LR at least `patch_size` a side, and two margins (`drop_small` sees to that).
        patch_size: LR pixels a side, P.
        batch_size: patches in a batch over all hosts, a multiple of `process_count`.
        seed: any integer.
        margin: of pairs without LR, LR pixels of HR on each side of a patch, m.
        start: the batch to begin with; no batch before it is computed.
        process_index: the host, 0 to `process_count` - 1: it gets the batch's patches
            [process_index * b, (process_index + 1) * b).
        process_count: hosts, each with batches of b = batch_size / process_count.
        workers: worker processes; 0 computes batches in threads of this process.

    Returns:
        Iterator of {"lr": (b, P, P, 3) uint8, "hr": (b, P * scale, P * scale, 3) uint8}; where the pairs have
        no LR, of {"hr": (b, (P + 2 m) * scale, (P + 2 m) * scale, 3) uint8}.

    Raises:
        UserError: `batch_size` is no multiple of `process_count`; while iterating: a worker process died.
        ValueError: an LR image is smaller than the patch, or a margin where there is LR.
    """
    if batch_size < 1 or batch_size % process_count:
        raise UserError(
            f"config.data.batch_size={batch_size} cannot be shared evenly by {process_count} hosts; "
            f"set a multiple of {process_count}"
        )
    if margin and pairs.lr is not None:
        raise ValueError("a margin is for pairs without LR")
    sizes = np.array(pairs.lr_shapes)  # (n, 2)
    patch_size += 2 * margin
    if sizes.min() < patch_size:
        raise ValueError(f"an LR image is smaller than the patch of {patch_size}")
    local = batch_size // process_count
    batch = partial(
        _batch,
        pairs=pairs,
        sizes=sizes,
        patch_size=patch_size,
        first=process_index * local,
        count=local,
        step=batch_size,
        seed=seed % 2**64,
    )
    dataset = grain.MapDataset.range(start, _END).map(batch)
    if workers:
        # No threads in a worker: the workers are the parallelism.
        dataset = dataset.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=_BATCHES_AHEAD_PER_WORKER)
        dataset = dataset.mp_prefetch(options, worker_init_fn=_start_worker)
        if not flags.FLAGS.is_parsed():  # Grain reads flags of its own; a notebook or a test parses none
            flags.FLAGS.mark_as_parsed()
    else:
        dataset = dataset.to_iter_dataset(grain.ReadOptions(_THREADS, prefetch_buffer_size=_BATCHES_AHEAD))
    return _iterate(dataset, workers)


def _batch(
    k: int,
    *,
    pairs: PairedDataset,
    sizes: np.ndarray,
    patch_size: int,
    first: int,
    count: int,
    step: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Patches k * step + first ... + count - 1 of the stream: what this host gets of batch `k`."""
    start, scale = k * step + first, pairs.scale
    images = _images(start, count, len(pairs), seed)  # (b,)
    # Philox is a function of key and counter, 4 words a count: patch g draws the 4 words of counter g.
    words = _philox(seed, 0, counter=start).random_raw(4 * count).reshape(count, 4) >> 32  # (4b,) -> (b, 4)
    # 32 random bits times n, divided by 2^32, are uniform in 0 ... n - 1.
    corners = (words[:, :2] * (sizes[images] - patch_size + 1).astype(np.uint64) >> 32).astype(int)  # (b, 2)
    transforms = words[:, 2] >> 29  # (b,) of 3 bits
    lr_size, hr_size = patch_size, patch_size * scale
    batch = {"hr": np.empty((count, hr_size, hr_size, 3), np.uint8)}
    if pairs.lr is not None:
        batch["lr"] = np.empty((count, lr_size, lr_size, 3), np.uint8)
    draws = zip(images.tolist(), corners.tolist(), transforms.tolist(), strict=True)
    for j, (i, (y, x), transform) in enumerate(draws):
        if pairs.lr is not None:
            lr, _ = pairs[i]
            _copy(dihedral(lr[y : y + lr_size, x : x + lr_size], transform), batch["lr"][j])
        hr, y, x = pairs.hr_image(i), y * scale, x * scale
        _copy(dihedral(hr[y : y + hr_size, x : x + hr_size], transform), batch["hr"][j])
    return batch


def _copy(source: np.ndarray, target: np.ndarray) -> None:
    """`target[:] = source` for (H, W, 3): a channel at a time, since NumPy's inner loop is then W, not 3."""
    for channel in range(3):
        target[..., channel] = source[..., channel]


def _images(start: int, count: int, length: int, seed: int) -> np.ndarray:
    """The pairs (count,) that the patches from `start` on are cut from: one order of all pairs an epoch."""
    first, last = start // length, (start + count - 1) // length
    orders = np.concatenate([_order(epoch, length, seed) for epoch in range(first, last + 1)])
    return orders[start - first * length :][:count]


@lru_cache(maxsize=8)
def _order(epoch: int, length: int, seed: int) -> np.ndarray:
    """A random order of 0 ... length - 1, a pure function of `seed` and `epoch`."""
    # Sorted raw words, because NumPy may change `Generator.permutation` but never a bit stream.
    return _philox(seed, 1, counter=epoch << 64).random_raw(length).argsort(kind="stable")


def _philox(seed: int, stream: int, counter: int) -> np.random.Philox:
    return np.random.Philox(key=np.array([seed, stream], np.uint64), counter=counter)


def _iterate(dataset: grain.IterDataset, workers: int) -> Generator[dict[str, np.ndarray], None, None]:
    iterator = iter(dataset)
    try:
        while True:
            try:
                batch = next(iterator)
            except RuntimeError as error:
                died = re.search(r"terminated unexpectedly with exit code (-?\d+)", str(error))
                if not died:
                    raise
                raise UserError(
                    f"an input worker process died (exit code {died[1]}; -9: no memory left, -7: no shared "
                    "memory left in /dev/shm); use fewer workers with --config.data.workers=N"
                ) from None
            if workers:
                # Copied out of the workers' shared memory: it is scarce in containers, and ends with the
                # workers. Let go of it now: Grain frees it in a thread, which an exit does not wait for.
                batch = {name: np.array(array) for name, array in batch.items()}
            yield batch
    finally:
        iterator.close()


def _start_worker(index: int, count: int) -> None:
    """What a worker process does first: it must neither touch accelerators nor outlive its parent."""
    del index, count
    if "jax" in sys.modules:  # Grain imports it; nothing here uses it
        sys.modules["jax"].config.update("jax_platforms", "cpu")
    # The parent decides when to stop: it may need a batch after a signal sent to all, as by a terminal.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    parent = parent_process()
    assert parent is not None  # in a worker there is one

    def follow_parent() -> None:
        parent.join()  # returns when the parent is killed, too, and has not cleaned up
        os._exit(0)

    threading.Thread(target=follow_parent, daemon=True).start()
