import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import jax
import numpy as np
import pytest

from wdsr_jax.data.dataset import Images, PairedDataset, dataset_from_images
from wdsr_jax.data.pipeline import training_batches
from wdsr_jax.errors import UserError

SCALE = 2
SHAPES = [(20, 31), (12, 12), (40, 17), (13, 25), (18, 18)]  # of LR


def coordinates(i, height, width):
    """Image `i` whose pixels say where they are: (i, row, column)."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([np.full_like(rows, i), rows, columns], -1).astype(np.uint8)


def make_pairs(folder) -> PairedDataset:
    names = [str(i) for i in range(len(SHAPES))]
    sides = [(h * SCALE + 1, w * SCALE) for h, w in SHAPES]  # a row more than LR needs
    hr = Images(names, lambda i: coordinates(i, *sides[i]), "hr")
    lr = Images(names, lambda i: coordinates(i, *SHAPES[i]), "lr")
    return dataset_from_images(hr, lr, None, SCALE, folder)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return make_pairs(tmp_path_factory.mktemp("cache"))


def take(count, pairs, **options):
    batches = training_batches(pairs, **dict(patch_size=12, batch_size=8, seed=3) | options)
    taken = list(islice(batches, count))
    batches.close()
    return taken


def assert_same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys() == {"lr", "hr"}
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def where(lr, hr):
    """Image, row, column and symmetry of a patch, whose LR and HR must agree on them."""
    size, image = len(lr), int(lr[0, 0, 0])
    row, column = lr[..., 1:].min((0, 1)).astype(int)
    whole_lr = coordinates(image, *SHAPES[image])[row : row + size, column : column + size]
    found = []
    for number, turn in enumerate([(k, flip) for k in range(4) for flip in (False, True)]):
        symmetry = [np.rot90(whole_lr, turn[0]), np.rot90(whole_lr[:, ::-1], turn[0])][turn[1]]
        if np.array_equal(symmetry, lr):
            found.append((number, turn))
    assert len(found) == 1, "LR is no crop of the image"
    number, (k, flip) = found[0]
    top, left = row * SCALE, column * SCALE
    expected = coordinates(image, 255, 255)[top : top + size * SCALE, left : left + size * SCALE]
    np.testing.assert_array_equal(hr, np.rot90(expected[:, ::-1] if flip else expected, k))
    return image, int(row), int(column), number


def test_every_patch_is_an_aligned_crop_in_one_of_8_symmetries(pairs):
    patches = [
        where(lr, hr) for batch in take(150, pairs) for lr, hr in zip(batch["lr"], batch["hr"], strict=True)
    ]
    images, rows, columns, symmetries = zip(*patches, strict=True)
    assert np.bincount(symmetries).min() > 1200 / 8 - 5 * np.sqrt(1200 / 8)  # 5 standard deviations
    assert len(set(zip(images, symmetries, strict=True))) == 5 * 8
    for i, (height, width) in enumerate(SHAPES):  # crops reach every position, the edges included
        assert {row for image, row in zip(images, rows, strict=True) if image == i} == set(range(height - 11))
        assert {c for image, c in zip(images, columns, strict=True) if image == i} == set(range(width - 11))


def test_shapes_and_types(pairs):
    (batch,) = take(1, pairs, patch_size=7, batch_size=6, process_count=3, process_index=2)
    assert batch["lr"].shape == (2, 7, 7, 3) and batch["hr"].shape == (2, 14, 14, 3)
    assert batch["lr"].dtype == batch["hr"].dtype == np.uint8
    assert int(jax.jit(lambda batch: batch["lr"].max())(batch)) == batch["lr"].max()


@pytest.mark.parametrize("batch_size", [1, 3, 8, 64])
def test_an_epoch_uses_every_pair_once_in_a_new_order(pairs, batch_size):
    used = [
        int(lr[0, 0, 0])
        for batch in take(-(-100 // batch_size), pairs, batch_size=batch_size)
        for lr in batch["lr"]
    ]
    epochs = [tuple(used[i : i + 5]) for i in range(0, 100, 5)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len(set(epochs)) > 10


def test_a_stream_begins_anywhere(pairs):
    whole = take(12, pairs)
    for start in (1, 5, 11):
        assert_same(take(12 - start, pairs, start=start), whole[start:])
    take(1, pairs, start=10**12)  # would take weeks if what lies before it were computed


def test_hosts_share_the_same_batches(pairs):
    whole = take(5, pairs)
    for count in (2, 4, 8):
        parts = [take(5, pairs, process_index=i, process_count=count) for i in range(count)]
        joined = [
            {k: np.concatenate([part[k] for part in step]) for k in ("lr", "hr")}
            for step in zip(*parts, strict=True)
        ]
        assert_same(joined, whole)


def test_patches_do_not_depend_on_the_batch_size(pairs):
    patches = {
        size: np.concatenate([b["hr"] for b in take(24 // size, pairs, batch_size=size)])
        for size in (1, 8, 24)
    }
    np.testing.assert_array_equal(patches[1], patches[8])
    np.testing.assert_array_equal(patches[1], patches[24])


def test_seeds_differ(pairs):
    digests = {seed: take(1, pairs, seed=seed)[0]["hr"].tobytes() for seed in (0, 1, -1, 2**64 - 2, 12345)}
    assert len(set(digests.values())) == 5


def test_the_stream_never_changes(pairs):
    # A run that is resumed after an upgrade of this package or of NumPy goes on with the same patches.
    digest = hashlib.blake2b(digest_size=8)
    for batch in take(20, pairs, seed=0):
        digest.update(batch["lr"].tobytes() + batch["hr"].tobytes())
    assert digest.hexdigest() == "b9616f7a85b8f3f9"


def test_hr_alone_comes_with_a_margin(pairs):
    """The patches of pairs with LR that are as large as patch and margin together."""
    alone = replace(pairs, lr=None)
    batches = take(5, alone, patch_size=8, margin=2)
    for batch, whole in zip(batches, take(5, pairs, patch_size=12), strict=True):
        assert batch.keys() == {"hr"} and batch["hr"].shape == (8, 24, 24, 3)
        np.testing.assert_array_equal(batch["hr"], whole["hr"])


def test_what_cannot_work_is_refused_at_once(pairs):
    with pytest.raises(ValueError, match="a margin is for pairs without LR"):
        take(1, pairs, margin=1)
    with pytest.raises(UserError, match=r"config.data.batch_size=9 cannot be shared evenly by 2 hosts"):
        take(1, pairs, batch_size=9, process_count=2)
    with pytest.raises(ValueError, match="smaller than the patch of 13"):
        take(1, pairs, patch_size=13)


def workers_end(pids, seconds=20):
    def alive(pid):
        try:
            with open(f"/proc/{pid}/stat") as file:
                return file.read().split(")")[1].split()[0] != "Z"
        except FileNotFoundError:
            return False

    until = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(alive, pids))


def test_worker_processes_deliver_the_same_and_end(pairs):
    whole = take(30, pairs)
    batches = training_batches(pairs, patch_size=12, batch_size=8, seed=3, start=3, workers=2)
    first = list(islice(batches, 7))
    assert_same(first, whole[3:10])
    assert first[0]["lr"].flags.owndata and type(first[0]["lr"]) is np.ndarray  # not shared memory
    pids = [process.pid for process in multiprocessing.active_children()]
    assert len(pids) == 2
    for pid in pids:  # what Ctrl-C and a cluster send to every process of a run
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    assert_same(list(islice(batches, 20)), whole[10:])

    os.kill(pids[1], signal.SIGKILL)
    with pytest.raises(
        UserError, match=r"an input worker process died .exit code -9;.*config.data.workers=N"
    ):
        list(islice(batches, 20))
    assert workers_end(pids)


PROGRAM = """
import multiprocessing, sys, time
from pathlib import Path
from wdsr_jax.data.pipeline import training_batches

def start_worker(pairs):
    batches = training_batches(pairs, patch_size=12, batch_size=8, seed=3, workers=1)
    for _ in range(3):
        next(batches)
    print(*[process.pid for process in multiprocessing.active_children()], flush=True)
    return batches

if __name__ == "__main__":
    from tests.data.test_pipeline import make_pairs

    pairs = make_pairs(Path(sys.argv[1]))
    batches = start_worker(pairs)
    if sys.argv[2] != "end":
        batches.close()
    if sys.argv[2] == "killed":
        batches = start_worker(pairs)
        time.sleep(60)
"""


@pytest.mark.parametrize(
    "how", ["killed", *(pytest.param(how, marks=pytest.mark.ci) for how in ("end", "close"))]
)
def test_workers_end_with_their_iterator_and_with_their_parent(tmp_path, how):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, program, tmp_path / "cache", how]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 1
        if how == "killed":
            assert workers_end(pids)  # the first iterator is closed, while its parent goes on
            pids = [int(pid) for pid in process.stdout.readline().split()]
            assert len(pids) == 1
            process.kill()
        assert process.wait(30) == (-signal.SIGKILL if how == "killed" else 0)
        if how == "close":  # whether one that does not close leaves shared memory behind, a race decides
            assert "leaked" not in process.stderr.read()
    assert workers_end(pids)
