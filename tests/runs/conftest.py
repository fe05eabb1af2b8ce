"""Processes of whole-run tests."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEPS = 60

# Runs the command; writes the digest of each batch that it consumes, and gives SIGKILL a step to hit.
DRIVER = """
import hashlib, sys, time
log = sys.argv.pop(1)
if __name__ == "__main__":
    from wdsr_jax import main
    from wdsr_jax.training import loop
    from wdsr_jax.system.console import run_command

    training_batches = loop.training_batches

    def recorded(pairs, *, start, **options):
        source = training_batches(pairs, start=start, **options)
        try:
            for i, batch in enumerate(source, start):
                digest = hashlib.sha256(batch["lr"].tobytes() + batch["hr"].tobytes()).hexdigest()
                with open(log, "a") as file:
                    file.write(f"{i} {digest}\\n")
                time.sleep(0.05)
                yield batch
        finally:
            source.close()

    loop.training_batches = recorded
    run_command(main.main)
"""


@pytest.fixture
def start_process():
    """Starts commands in the background, each in a process group of its own, which ends with the test."""
    started = []

    def start(command, out, **environment):
        """`out`: the file to which stdout and stderr are appended."""
        with open(out, "a") as file:
            process = subprocess.Popen(
                [str(part) for part in command],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def launch(tmp_path, photos, start_process):
    """Starts a run in `tmp_path / name`; the digests of its batches go to `name.log`."""
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    settings = {
        **{"model.blocks": 1, "model.filters": 4, "data.source": "folder", "data.root": photos},
        **{"data.cache_dir": tmp_path / "cache", "data.patch_size": 8, "data.batch_size": 4},
        **{"train.steps": STEPS, "train.warmup_steps": 5, "train.log_every": 7},
        **{"train.eval_every": 20, "train.checkpoint_every": 4, "train.keep_checkpoints": 2},
    }

    def start(name, devices, workers):
        command = [sys.executable, driver, tmp_path / f"{name}.log", "--config=configs/quickstart.py"]
        command += [f"--workdir={tmp_path / name}", f"--config.data.workers={workers}"]
        command += [f"--config.{key}={value}" for key, value in settings.items()]
        return start_process(command, tmp_path / f"{name}.out", JAX_NUM_CPU_DEVICES=str(devices))

    return start
