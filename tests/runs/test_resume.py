"""A run killed by SIGKILL again and again ends bit for bit as one that was never stopped."""

import random
import time

import jax
import numpy as np
import pytest

from tests.runs.conftest import STEPS
from tests.runs.whole_runs import batches_of, state_of
from tests.tiny import read_json, read_points
from wdsr_jax import load_pretrained
from wdsr_jax.weights.store import recorded_psnr

pytestmark = pytest.mark.slow


def count_lines(log):
    return log.read_text().count("\n") if log.exists() else 0


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
    points, never_stopped = read_points(workdir), read_points(tmp_path / "whole")
    assert points["val/psnr_rgb"] == never_stopped["val/psnr_rgb"]
    assert [step for step, _ in points["train/loss"]] == [step for step, _ in never_stopped["train/loss"]]
    assert "damaged" not in (tmp_path / "killed.out").read_text()


def half_written(workdir):
    return list(workdir.glob("checkpoints/*.orbax-checkpoint-tmp*"))
