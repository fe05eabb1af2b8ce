"""The folder of a run: its lock, what it records of the run, and whether a config may resume it."""

import json
import os
import platform
import reprlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from wdsr_jax.errors import UserError
from wdsr_jax.system import distributed
from wdsr_jax.system.files import path_errors, read_regular, replacing
from wdsr_jax.system.locks import lock_folder

_CONFIG = "config.json"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")

# What may differ when a run is resumed: keys that change neither the network nor the order of the batches.
MAY_CHANGE = {
    "data.root",
    "data.val_root",
    "data.lr_root",
    "data.val_lr_root",
    "data.cache_dir",
    "data.workers",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.max_skipped",
    "train.grad_accum",
    "train.resume_changed",
}
# Where `train.resume_changed` says so, all may differ but for what the state of a run depends on.
_SHAPES_STATE = ("model.", "gan.filters")
# Of what a config.json says, which anybody may have written, a message shows this much.
_MOST_NAMED = 12
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


def check_workdir(workdir: str | os.PathLike, config: dict[str, Any], *, resumes: bool) -> None:
    """Checks before any work that a run may use its folder; writes nothing.

    Args:
        workdir: the folder, which need not exist.
        config: nested dict of the whole config.
        resumes: the folder has checkpoints, whose config this one must not contradict.

    Raises:
        UserError: it cannot be made or written to, or holds a run whose config contradicts this one.
    """
    workdir = Path(workdir)
    nearest = next(path for path in (workdir, *workdir.absolute().parents) if os.path.lexists(path))
    what = f"--workdir={workdir}: {'it' if nearest == workdir else nearest}"
    if not nearest.is_dir():
        raise UserError(f"{what} is a file, not a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"{what} cannot be written to")
    if not resumes or not (workdir / _CONFIG).exists():
        return
    _check_same_config(workdir, _read_config(workdir / _CONFIG), config)


@contextmanager
def start_workdir(workdir: Path, config: dict[str, Any]) -> Iterator[None]:
    """Makes the folder and writes `config.json`, and `environment.json` with versions and devices.

    In the `with` block no other run can start in the folder, where the file system has locks; the lock ends
    with the process. Of several processes the lead does all this for all of them.

    Raises:
        UserError: a file cannot be written, another run has the folder, or a process does not see the files
            that the lead wrote.
    """

    def refuse() -> None:
        raise UserError(
            f"--workdir={workdir}: another run is at work in it; wait for its end, or choose another"
        )

    with ExitStack() as stack:
        with distributed.raise_on_all_processes():
            if distributed.is_lead():
                with path_errors(f"--workdir={workdir}", "cannot be written to"):
                    workdir.mkdir(parents=True, exist_ok=True)
                    stack.enter_context(lock_folder(workdir, ".lock", on_busy=refuse))
                    _write_json(workdir / _CONFIG, config)
                    _write_json(workdir / "environment.json", _environment())
        with distributed.raise_on_all_processes():
            if not (workdir / _CONFIG).exists():
                raise UserError(f"--workdir={workdir}: must be on storage that all processes share")
        yield


def _environment() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
        "processes": jax.process_count(),
        "devices": [device.device_kind for device in jax.devices()],
    }


def _write_json(path: Path, value: Any) -> None:
    with replacing(path) as file:
        file.write((json.dumps(value, indent=2, default=_as_json) + "\n").encode())


def _read_config(path: Path) -> dict[str, Any]:
    """The config that a run has recorded; UserError where the file is not what `start_workdir` writes."""
    try:
        with path_errors(path, "cannot be read"):
            saved = json.loads(read_regular(path))
    except (ValueError, RecursionError):
        saved = None
    if not isinstance(saved, dict) or not all(isinstance(section, dict) for section in saved.values()):
        raise UserError(f"{path}: damaged; delete it to resume with the config given")
    return saved


def _as_json(value: Any) -> Any:
    """A value that JSON has no type for, which is a dtype."""
    return np.dtype(value).name


def _flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _check_same_config(workdir: Path, saved: dict[str, Any], config: dict[str, Any]) -> None:
    # Through JSON, as the saved config, so that tuples equal lists.
    old, new = _flatten(saved), _flatten(json.loads(json.dumps(config, default=_as_json)))
    if "train.shift" in old:  # its name until version 0.2
        old["train.shift_window"] = old.pop("train.shift")
    may_change = MAY_CHANGE | ({"train.steps"} if new.get("train.schedule") == "piecewise" else set())
    # A key that the saved config lacks was added later, and what it sets was off before: 0 or empty.
    old = {key: value for key, value in new.items() if not value} | old
    keys = sorted(
        key for key in old.keys() | new.keys() if key not in may_change and old.get(key) != new.get(key)
    )
    if not keys:
        return
    differ = ", ".join(
        f"{_short.repr(key)[1:-1]} ({_short.repr(old.get(key))} there, {_short.repr(new.get(key))} here)"
        for key in keys[:_MOST_NAMED]
    )
    differ += f" and {len(keys) - _MOST_NAMED} more" if len(keys) > _MOST_NAMED else ""
    fixed = [key for key in keys if _shapes_state(key, old, new)]
    if new.get("train.resume_changed") and not fixed:
        logging.info("--workdir=%s: goes on with another config: %s", workdir, differ)
        return
    advice = [f"choose another --workdir, with --config.train.init_from={workdir} to begin with its weights"]
    if not fixed:
        advice.append("add --config.train.resume_changed=true to go on from its state")
    elif new.get("train.resume_changed"):
        advice.append(
            f"train.resume_changed is not for {', '.join(fixed[:_MOST_NAMED])}, on which the state depends"
        )
    raise UserError(
        f"--workdir={workdir}: holds a run with another config: {differ}; {'; or '.join(advice)}. "
        f"These may change at any time: {', '.join(sorted(may_change - {'train.resume_changed'}))}"
    )


def _shapes_state(key: str, old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether the state of a run depends on a key in such a way that no other run can go on from it."""
    if key in ("train.ema_decay", "train.grad_clip"):  # each has a part of the state, or none where it is 0
        return bool(old.get(key)) != bool(new.get(key))
    of_gan = key.startswith("gan.") and (key not in old or key not in new)
    return of_gan or (key.startswith(_SHAPES_STATE) and key != "model.dtype")
