"""The folder of a run: its lock, what it records of the run, and whether a config may resume it."""

import json
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

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
    "data.cache_dir",
    "data.workers",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.max_skipped",
    "train.grad_accum",
}


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
    try:
        with path_errors(workdir / _CONFIG, "cannot be read"):
            saved = json.loads(read_regular(workdir / _CONFIG))
    except (ValueError, RecursionError):
        raise UserError(f"{workdir / _CONFIG}: damaged; delete it to resume with the config given") from None
    _check_same_config(workdir, saved, config)


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
        file.write((json.dumps(value, indent=2) + "\n").encode())


def _flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _check_same_config(workdir: Path, saved: dict[str, Any], config: dict[str, Any]) -> None:
    # Through JSON, as the saved config, so that tuples equal lists.
    old, new = _flatten(saved), _flatten(json.loads(json.dumps(config)))
    if "train.shift" in old:  # its name until version 0.2
        old["train.shift_window"] = old.pop("train.shift")
    may_change = MAY_CHANGE | ({"train.steps"} if new.get("train.schedule") == "piecewise" else set())
    # A key that the saved config lacks was added later, and what it sets was off before: 0 or empty.
    old = {key: value for key, value in new.items() if not value} | old
    differ = [
        f"{key} ({old.get(key)!r} there, {new.get(key)!r} here)"
        for key in sorted(old.keys() | new.keys())
        if key not in may_change and old.get(key) != new.get(key)
    ]
    if differ:
        raise UserError(
            f"--workdir={workdir}: holds a run with another config: {', '.join(differ)}; "
            "choose another --workdir, or the same config to resume"
        )
