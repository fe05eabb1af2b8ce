"""Checkpoints of a training run; the only file that knows Orbax.

A checkpoint holds the whole `TrainState` and a JSON record: how many batches were consumed and a digest of
the state. The batches of a run are a function of (seed, index), so that this count is all there is to the
state of the data iterator.
"""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as policies

from wdsr_jax.errors import UserError

FOLDER = "checkpoints"
_METRIC = "psnr_rgb"


def open_checkpoints(workdir: Path, keep: int) -> ocp.CheckpointManager:
    """Opens `workdir/checkpoints`; the latest `keep` are kept there and the best by validation PSNR."""
    best = policies.BestN(get_metric_fn=lambda m: m[_METRIC], n=1, keep_checkpoints_without_metrics=False)
    policy = policies.AnyPreservationPolicy([policies.LatestN(keep), best])
    return ocp.CheckpointManager(
        (Path(workdir) / FOLDER).absolute(),
        options=ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            best_fn=lambda metrics: metrics[_METRIC],  # without it Orbax does not write metrics to disk
            cleanup_tmp_directories=True,
            enable_async_checkpointing=True,
        ),
    )


def save(manager: ocp.CheckpointManager, state: Any, step: int, psnr: float | None = None) -> None:
    """Starts to save the state after `step` steps; returns once it has been copied from the devices.

    Does nothing if that step has been saved. Errors of an earlier save surface here.

    Args:
        manager: from `open_checkpoints`.
        state: a `TrainState`, the same on all devices.
        step: its step; the number of batches consumed.
        psnr: of the validation set at this step, if it was measured.

    Raises:
        UserError: the checkpoint could not be written; those before it stand.
    """
    if step in manager.all_steps():
        return
    host_state = jax.device_get(state)
    if jax.process_count() > 1:
        # What pmap returns lives on this host's devices alone; Orbax saves global arrays.
        mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("devices",))
        state = multihost_utils.host_local_array_to_global_array(
            host_state, mesh, jax.sharding.PartitionSpec()
        )
    try:
        manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                record=ocp.args.JsonSave({"batches": step, "digest": _digest(host_state)}),
            ),
            metrics=None if psnr is None else {_METRIC: psnr},
        )
    except Exception as error:  # Orbax lets through whatever its writers raise
        raise _not_saved(manager, error) from None


def finish(manager: ocp.CheckpointManager) -> None:
    """Waits until the last save is on disk.

    Raises:
        UserError: as `save`.
    """
    try:
        manager.wait_until_finished()
        manager.check_for_errors()
    except Exception as error:
        raise _not_saved(manager, error) from None


def best_psnr(manager: ocp.CheckpointManager) -> float:
    """The best validation PSNR of all checkpoints, -inf if none was measured."""
    metrics = [manager.metrics(step) for step in manager.all_steps()]
    return max((m[_METRIC] for m in metrics if m), default=-np.inf)


def restore_newest(manager: ocp.CheckpointManager, target: Any) -> Any | None:
    """The newest whole checkpoint as host arrays, or None where none was ever saved.

    One that is damaged is said and moved out of the way, to `workdir/damaged`, and the one before is used.

    Args:
        manager: from `open_checkpoints`.
        target: a state of the same structure and shapes.

    Raises:
        UserError: there are checkpoints, but not one can be read.
    """
    steps = sorted(manager.all_steps(), reverse=True)
    if not steps:
        return None
    target = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), target)
    for step in steps:
        try:
            restored = manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(target), record=ocp.args.JsonRestore()
                ),
            )
            if _digest(restored.state) != restored.record["digest"]:
                raise ValueError("its digest does not match its arrays")
            return restored.state
        except Exception as error:  # damage shows as any of a dozen exception types
            folder = Path(manager.directory) / str(step)
            set_aside = folder.parents[1] / "damaged" / str(step)
            logging.warning("checkpoint %d is damaged (%s); moved to %s", step, _first_line(error), set_aside)
            set_aside.parent.mkdir(exist_ok=True)
            shutil.rmtree(set_aside, ignore_errors=True)
            shutil.move(folder, set_aside)
            manager.reload()
    raise UserError(
        f"{manager.directory}: no checkpoint can be read ({len(steps)} damaged, kept in "
        f"{set_aside.parent}); run again to train anew, or restore a copy"
    )


def _digest(state: Any) -> str:
    # Orbax checks its own metadata but not every byte of the arrays.
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(state):
        digest.update(np.ascontiguousarray(leaf))
    return digest.hexdigest()


def _not_saved(manager: ocp.CheckpointManager, error: Exception) -> UserError:
    for unfinished in Path(manager.directory).glob("*.orbax-checkpoint-tmp*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    manager.reload()
    last = max(manager.all_steps(), default=None)
    kept = "no checkpoint before it" if last is None else f"the last good one is of step {last}"
    return UserError(f"{manager.directory}: checkpoint could not be saved ({_first_line(error)}); {kept}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
