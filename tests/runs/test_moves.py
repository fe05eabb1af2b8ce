"""Runs that go on elsewhere: on more or fewer devices, in a folder of another name, at an earlier time."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.runs.whole_runs import batches_of, state_of
from wdsr_jax.training import checkpoints

ROOT = Path(__file__).parents[2]


@pytest.fixture
def go_on(tmp_path, photos):
    """Trains a tiny network up to a step, in a process of its own; gives what it says."""

    def start(workdir, steps, devices=1):
        settings = {
            **{"model.blocks": 1, "model.filters": 4, "data.source": "folder", "data.root": photos},
            **{"data.cache_dir": tmp_path / "cache", "data.patch_size": 8, "data.batch_size": 4},
            **{"data.workers": 0, "train.steps": steps, "train.warmup_steps": 1, "train.log_every": 1},
            **{"train.eval_every": 4, "train.checkpoint_every": 2, "train.schedule": "piecewise"},
        }
        command = [sys.executable, "-m", "wdsr_jax.main", "--config=configs/quickstart.py"]
        command += [f"--workdir={workdir}", *(f"--config.{key}={value}" for key, value in settings.items())]
        flags = f"--xla_force_host_platform_device_count={devices}"
        environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
        result = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500
        )
        assert result.returncode == 0, result.stderr[-2000:]
        return result.stderr

    return start


def assert_near(workdir, other):
    """The same state; sums over devices are rounded in another order."""
    (step, state), (other_step, other_state) = state_of(workdir), state_of(other)
    assert step == other_step
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), state, other_state)


@pytest.mark.slow
def test_one_device_then_two_four_and_back(tmp_path, go_on):
    for steps, devices in ((2, 1), (4, 2), (6, 4), (8, 2), (10, 1)):
        said = go_on(tmp_path / "moved", steps, devices)
        assert f"{devices} x cpu" in said
    go_on(tmp_path / "whole", 10)
    assert_near(tmp_path / "moved", tmp_path / "whole")


@pytest.mark.slow
def test_a_folder_of_another_name(tmp_path, go_on):
    go_on(tmp_path / "run", 4)
    (tmp_path / "run").rename(tmp_path / "another name")
    go_on(tmp_path / "another name", 8)
    assert not (tmp_path / "run").exists()
    go_on(tmp_path / "whole", 8)
    assert_near(tmp_path / "another name", tmp_path / "whole")


@pytest.mark.slow
def test_a_clock_that_was_set_back(tmp_path, go_on):
    """Everything in the folder is from the future: the newest checkpoint is that of the last step."""
    go_on(tmp_path / "run", 4)
    future = 4e9
    for path in [*(tmp_path / "run").rglob("*"), tmp_path / "run"]:
        os.utime(path, (future, future))
    go_on(tmp_path / "run", 8)
    go_on(tmp_path / "whole", 8)
    assert_near(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_a_folder_that_is_renamed_while_a_run_is_in_it(tmp_path, launch):
    """The run ends in a line, or goes on; started again in either folder, no state is half one."""
    process = launch("run", 1, 0)
    while not checkpoints.saved_steps(tmp_path / "run") and process.poll() is None:
        pass
    (tmp_path / "run").rename(tmp_path / "moved")
    process.wait(300)
    assert "Traceback" not in (tmp_path / "run.out").read_text()
    shutil.copy(tmp_path / "run.log", tmp_path / "moved.log")
    assert launch("moved", 1, 0).wait(300) == 0, (tmp_path / "moved.out").read_text()[-2000:]
    assert sorted(batches_of(tmp_path / "moved.log"))[-1] == 59
