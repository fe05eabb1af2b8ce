"""What tests of whole runs do to them, and what they compare."""

import os
import signal

import jax
import numpy as np

from wdsr_jax.training import checkpoints, loop
from wdsr_jax.weights.store import recorded_psnr


def state_of(workdir):
    """The arrays of the newest checkpoint, by name."""
    import orbax.checkpoint as ocp

    step = checkpoints.saved_steps(workdir)[-1]
    with ocp.StandardCheckpointer() as checkpointer:
        state = checkpointer.restore(workdir / "checkpoints" / str(step) / "state")
    return dict(jax.tree_util.tree_leaves_with_path(state))


def assert_same_state(one, other):
    assert one.keys() == other.keys()
    for path, leaf in one.items():
        np.testing.assert_array_equal(np.asarray(leaf), np.asarray(other[path]), err_msg=str(path))


class Stop(Exception):
    """A crash."""


def stop_before_step(monkeypatch, step, action):
    """Calls `action` before the batch of `step` (from 1) is drawn."""
    original = loop.training_batches

    def batches(pairs, *, start, **options):
        source = original(pairs, start=start, **options)
        for i, batch in enumerate(source, start + 1):
            if i == step:
                action()
            yield batch

    monkeypatch.setattr(loop, "training_batches", batches)


def best_of(workdir):
    return recorded_psnr(workdir / "model.safetensors")


def crash():
    raise Stop


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
