"""Checkpoints of a training run; the only module that imports Orbax.

A checkpoint holds the whole `TrainState` and a JSON record: how many batches were consumed, a fingerprint of
the data they came from, and a digest of the state. The batches of a run are a function of (data, seed,
index), so the count is the whole state of the data iterator.
"""

import hashlib
import itertools
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging import getLogger
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as policies

from wdsr_jax.errors import UserError
from wdsr_jax.system import distributed
from wdsr_jax.system.files import path_errors, read_regular

FOLDER = "checkpoints"
_METRIC = "psnr_rgb"
_STEP = re.compile(r"0|[1-9][0-9]*")  # name of a checkpoint, as Orbax writes it: not 007
_MOST_STEPS = 2**31 - 1  # what the state counts up to

# Errors in Orbax are raised, and become one line here; what it logs of them besides is dropped.
_ORBAX = os.path.join("orbax", "checkpoint", "")
logging.get_absl_logger().addFilter(lambda record: _ORBAX not in record.pathname)
getLogger("asyncio").addFilter(lambda record: "never retrieved" not in record.getMessage())


def saved_steps(workdir: str | os.PathLike) -> list[int]:
    """The steps of the checkpoints in `workdir`, whole or damaged, in ascending order."""
    folder = Path(workdir, FOLDER)
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(name) for name in names if _STEP.fullmatch(name) and (folder / name).is_dir())


@contextmanager
def open_checkpoints(workdir: Path, keep: int) -> Iterator[ocp.CheckpointManager]:
    """Opens `workdir/checkpoints`, where the latest `keep` are kept and the best by validation PSNR.

    Half-written checkpoints are removed. On leaving, a save in progress is finished; of several processes
    only where they leave without an error, because they would wait for each other.

    Args:
        workdir: folder of the run.
        keep: how many of the latest are kept.

    Raises:
        UserError: the folder cannot be made.
    """
    folder = (Path(workdir) / FOLDER).absolute()
    with distributed.raise_on_all_processes():
        if distributed.is_lead():
            with path_errors(folder, "cannot be made"):
                folder.mkdir(parents=True, exist_ok=True)
            for step in saved_steps(workdir):
                try:
                    _check_metrics(folder / str(step))
                except (OSError, ValueError, LookupError, TypeError) as error:
                    _set_aside(folder / str(step), error)  # with it Orbax would open no checkpoint
    best = policies.BestN(get_metric_fn=lambda m: m[_METRIC], n=1, keep_checkpoints_without_metrics=False)
    policy = policies.AnyPreservationPolicy([policies.LatestN(keep), best])
    options = ocp.CheckpointManagerOptions(
        preservation_policy=policy,
        best_fn=lambda metrics: metrics[_METRIC],  # without it Orbax writes no metrics to disk
        cleanup_tmp_directories=True,
        enable_async_checkpointing=True,
    )
    with _abandoned_reads_ignored():
        manager = ocp.CheckpointManager(folder, options=options)
        failed = True
        try:
            yield manager
            failed = False
        finally:
            # Suppressed: `finish` has raised the error of the last save, or another error is being raised.
            if not failed or jax.process_count() == 1:
                with suppress(Exception):
                    manager.close()
            if distributed.is_lead():
                for unfinished in folder.glob("*.orbax-checkpoint-tmp*"):
                    shutil.rmtree(unfinished, ignore_errors=True)


def save(manager: ocp.CheckpointManager, state: Any, step: int, data: str, psnr: float | None = None) -> None:
    """Starts to save the state after `step` steps; returns once it has been copied from the devices.

    Does nothing if that step has been saved. Errors of an earlier save surface here.

    Args:
        manager: from `open_checkpoints`.
        state: a `TrainState`, the same on all devices.
        step: its step; the number of batches consumed.
        data: fingerprint of the training pairs that the batches are cut from.
        psnr: of the validation set at this step, if it was measured.

    Raises:
        UserError: the checkpoint could not be written; those before it are kept.
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
    record = {"batches": step, "data": data, "digest": _digest(host_state)}
    try:
        manager.save(
            step,
            args=ocp.args.Composite(state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(record)),
            metrics=None if psnr is None else {_METRIC: psnr},
        )
    except Exception as error:  # Orbax passes on whatever its writers raise
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


def has_psnr(manager: ocp.CheckpointManager, step: int) -> bool:
    """Whether the validation PSNR was measured before the checkpoint of `step` was saved."""
    return bool(manager.metrics(step))


def restore_newest(manager: ocp.CheckpointManager, target: Any) -> tuple[Any, str]:
    """The newest whole checkpoint.

    Damaged ones are logged and moved to `workdir/damaged`; the one before is used.

    Args:
        manager: from `open_checkpoints`.
        target: a state of the same structure, shapes and dtypes; its values are not used.

    Returns:
        The state as host arrays, and the fingerprint of its training pairs.

    Raises:
        UserError: no checkpoint can be read, or the newest is of another network.
    """
    steps = distributed.gather(saved_steps(manager.directory.parent))[0][::-1]
    target = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), target)
    for step in steps:
        state, data, damage = None, "", None
        try:
            state, data = _restore(manager, step, target)
        except Exception as error:  # damage shows as any of a dozen exception types
            damage = error
        if any(distributed.gather(damage is not None)):
            with distributed.raise_on_all_processes():
                if distributed.is_lead():
                    _set_aside(
                        Path(manager.directory) / str(step), damage or "another process cannot read it"
                    )
            manager.reload()
            continue
        if not jax.tree.all(jax.tree.map(lambda x, y: x.shape == y.shape, state, target)):
            raise UserError(f"{manager.directory}: checkpoint {step} is of another network than the config's")
        return state, data
    raise UserError(
        f"{manager.directory}: no checkpoint can be read (the damaged ones are in "
        f"{manager.directory.parent / 'damaged'}); put back a good copy, or run again to train anew, which "
        "overwrites the best weights in this folder"
    )


def _restore(manager: ocp.CheckpointManager, step: int, target: Any) -> tuple[Any, str]:
    """State and fingerprint of one checkpoint; raises whatever its damage makes Orbax raise."""
    items = ocp.args.Composite(state=ocp.args.StandardRestore(target), record=ocp.args.JsonRestore())
    restored: Any = manager.restore(step, args=items)
    if _digest(restored.state) != restored.record["digest"]:
        raise ValueError("its digest does not match its arrays")
    if restored.record["batches"] != step:  # a copy under another name
        raise ValueError(f"it is of step {restored.record['batches']}")
    return restored.state, restored.record["data"]


def _check_metrics(checkpoint: Path) -> None:
    if int(checkpoint.name) > _MOST_STEPS:
        raise ValueError("no run has so many steps")
    file = checkpoint / "metrics" / "metrics"
    if file.parent.exists():
        float(json.loads(read_regular(file))[_METRIC])


def _set_aside(checkpoint: Path, error: Exception | str) -> None:
    """Moves a damaged checkpoint to `workdir/damaged`, under a name that is free there, and logs it."""
    parent = checkpoint.parents[1] / "damaged"
    names = itertools.chain([checkpoint.name], (f"{checkpoint.name}-{i}" for i in itertools.count(2)))
    with path_errors(checkpoint, "damaged, and cannot be moved away"):
        parent.mkdir(exist_ok=True)
        aside = next(parent / name for name in names if not (parent / name).exists())
        shutil.move(checkpoint, aside)
    logging.warning("checkpoint %s is damaged (%s); moved to %s", checkpoint.name, _first_line(error), aside)


def _digest(state: Any) -> str:
    # Orbax checks its own metadata but not every byte of the arrays.
    digest = hashlib.sha256()
    leaves: list[Any] = jax.tree.leaves(state)
    for leaf in leaves:
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()


def _not_saved(manager: ocp.CheckpointManager, error: Exception) -> UserError:
    if lost := distributed.lost_process(error):
        return lost
    manager.reload()
    last = max(manager.all_steps(), default=None)
    kept = "no checkpoint before it" if last is None else f"the last good one is of step {last}"
    return UserError(f"{manager.directory}: checkpoint could not be saved ({_first_line(error)}); {kept}")


@contextmanager
def _abandoned_reads_ignored() -> Iterator[None]:
    """Prints no traceback for the reads of other arrays that Orbax abandons after the first error."""
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _first_line(error: Exception | str) -> str:
    # tensorstore's long messages end in the reason and details in any order, such as [os_error_code='28'].
    reason = re.search(r"([^:]*?) \[[\w ]+='", str(error))
    message = getattr(error, "strerror", None) or (reason[1] if reason else str(error))
    return (message.strip().splitlines() or [type(error).__name__])[0][:120]
