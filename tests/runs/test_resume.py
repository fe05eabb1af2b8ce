"""A run killed by SIGKILL again and again ends bit for bit as one that was never stopped."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.tiny import photos, read_board, read_json  # the first is a fixture
from wdsr_jax import load_pretrained
from wdsr_jax.training import checkpoints
from wdsr_jax.weights.store import recorded_psnr

__all__ = ["photos"]
pytestmark = pytest.mark.slow
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
def launch(tmp_path, photos):
    """Starts a run in `tmp_path / name`."""
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
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT)}
        with open(tmp_path / f"{name}.out", "a") as out:
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)

    return start


def batches_of(log):
    """Digest of each batch; where a batch was drawn more than once, all draws are the same."""
    digests = {}
    for line in log.read_text().splitlines():
        i, digest = line.split()
        assert digests.setdefault(int(i), digest) == digest, f"batch {i} differs after a restart"
    return digests


def count_lines(log):
    return log.read_text().count("\n") if log.exists() else 0


def state_of(workdir):
    step = checkpoints.saved_steps(workdir)[-1]
    with ocp.StandardCheckpointer() as checkpointer:
        return step, checkpointer.restore(workdir / "checkpoints" / str(step) / "state")


@pytest.mark.parametrize(("devices", "workers"), [(1, 2), (2, 0)])
def test_killed_and_resumed_equals_never_stopped(tmp_path, launch, devices, workers):
    assert launch("whole", devices, workers).wait(300) == 0
    workdir, log = tmp_path / "killed", tmp_path / "killed.log"
    rng = random.Random(devices)
    saving = 0
    for attempt in range(6):
        process = launch("killed", devices, workers)
        # Every other time in the middle of a save, otherwise after some steps, wherever that is.
        wanted = count_lines(log) + rng.randint(3, 12)
        while process.poll() is None:
            if attempt % 2 and count_lines(log) > 4 and half_written(workdir):
                break
            if not attempt % 2 and count_lines(log) >= wanted:
                break
            time.sleep(0.0005)
        assert process.poll() is None, (tmp_path / "killed.out").read_text()[-2000:]
        process.kill()
        process.wait()
        saving += bool(half_written(workdir))
    assert launch("killed", devices, workers).wait(300) == 0, (tmp_path / "killed.out").read_text()[-2000:]
    assert saving > 0

    expected = batches_of(tmp_path / "whole.log")
    assert sorted(expected) == list(range(STEPS)) and len(set(expected.values())) == STEPS
    assert batches_of(log) == expected

    step, state = state_of(workdir)
    whole_step, whole = state_of(tmp_path / "whole")
    assert step == whole_step == STEPS
    assert {"params", "ema_params", "opt_state", "step"} <= state.keys()
    assert len(jax.tree.leaves(state["params"])) == 15
    jax.tree.map(np.testing.assert_array_equal, state, whole)

    (_, params), (_, best) = load_pretrained(workdir), load_pretrained(tmp_path / "whole")
    jax.tree.map(np.testing.assert_array_equal, params, best)
    assert recorded_psnr(workdir / "model.safetensors") == recorded_psnr(tmp_path / "whole/model.safetensors")
    assert read_json(workdir / "evaluation.json") == read_json(tmp_path / "whole/evaluation.json")
    points, never_stopped = read_board(workdir), read_board(tmp_path / "whole")
    assert points["val/psnr_rgb"] == never_stopped["val/psnr_rgb"]
    assert [step for step, _ in points["train/loss"]] == [step for step, _ in never_stopped["train/loss"]]
    assert "damaged" not in (tmp_path / "killed.out").read_text()


def half_written(workdir):
    return list(workdir.glob("checkpoints/*.orbax-checkpoint-tmp*"))
