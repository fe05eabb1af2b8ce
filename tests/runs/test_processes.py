"""Several processes: that together they do what one process does, and what becomes of them all."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from configs.quickstart import get_config
from tests.tiny import read_json, read_points
from wdsr_jax import load_pretrained
from wdsr_jax.system import distributed
from wdsr_jax.training import checkpoints
from wdsr_jax.training.loop import train_and_evaluate

ROOT = Path(__file__).parents[2]
MIDDLE = 8  # a step at which the runs below checkpoint, but do not end


@pytest.fixture
def settings(photos, image_cache):
    """What the runs have in common."""
    return {
        **{"model.blocks": 1, "model.filters": 4, "data.source": "folder", "data.root": str(photos)},
        **{"data.cache_dir": str(image_cache), "data.patch_size": 8, "data.batch_size": 8},
        **{"train.steps": 2 * MIDDLE, "train.warmup_steps": 2, "train.log_every": 1},
        **{"train.eval_every": MIDDLE, "train.checkpoint_every": 4, "train.keep_checkpoints": 100},
    }


@pytest.fixture
def launch_together(tmp_path, settings, compile_cache, start_process, monkeypatch):
    """Starts a run of some processes in `tmp_path / name`."""
    monkeypatch.delenv("NPROC", raising=False)

    def start(name, processes, devices, *overrides):
        command = ["launch/local_processes.sh", processes, "--config=configs/quickstart.py"]
        command += [f"--workdir={tmp_path / name}"]
        command += [f"--config.{key}={value}" for key, value in settings.items()]
        return start_process(
            [*command, *overrides],
            tmp_path / f"{name}.out",
            PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            JAX_NUM_CPU_DEVICES=str(devices),
            JAX_COMPILATION_CACHE_DIR=str(compile_cache),
            JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
            JAX_DISABLE_MOST_OPTIMIZATIONS="1",
        )

    return start


def losses(workdir):
    return dict(read_points(workdir)["train/loss"])


def state_of(workdir, step):
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(workdir / "checkpoints" / str(step) / "state")


def assert_one_run_equals_another(a, b, steps=2 * MIDDLE):
    """Losses, validation and final parameters are those of one run, to rounding."""
    assert losses(a).keys() == losses(b).keys() == set(range(1, steps + 1))
    np.testing.assert_allclose(list(losses(a).values()), list(losses(b).values()), rtol=1e-5)
    scores = [read_json(workdir / "evaluation.json")["validation"] for workdir in (a, b)]
    for who in ("bicubic", "model"):
        for metric, value in scores[0][who].items():
            assert scores[1][who][metric] == pytest.approx(value, abs=2e-3)
    (_, params), (_, others) = load_pretrained(a), load_pretrained(b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), params, others)


@pytest.mark.ci
def test_two_processes_train_as_one(tmp_path, settings, launch_together):
    settings |= {"train.steps": 4, "train.eval_every": 4}
    two = launch_together("two", 2, 1)
    config = get_config()
    config.update_from_flattened_dict(settings)
    assert train_and_evaluate(config, tmp_path / "one") == 0  # on the two devices of this process
    assert two.wait(300) == 0, (tmp_path / "two.out").read_text()
    assert_one_run_equals_another(tmp_path / "one", tmp_path / "two", steps=4)
    out = (tmp_path / "two.out").read_text()
    assert "2 x cpu, 2 processes, batches of 8\n" in out
    # The lead alone logs: what comes from the other process are Gloo's lines.
    assert not re.findall(r"^\[1\] (?!\[Gloo\])", out, re.M)
    assert len(list((tmp_path / "two").glob("events.*"))) == 1


@pytest.mark.slow
def test_layouts_train_alike_and_resume_each_other(tmp_path, launch_together):
    layouts = {"1x4": (1, 4), "2x2": (2, 2), "4x1": (4, 1)}
    for name, (processes, devices) in layouts.items():
        assert launch_together(name, processes, devices).wait(600) == 0, (
            tmp_path / f"{name}.out"
        ).read_text()
    for name in ("2x2", "4x1"):
        assert_one_run_equals_another(tmp_path / "1x4", tmp_path / name)

    # Goes on from the middle of 4x1, as it was, in the two other layouts.
    for name in ("1x4", "2x2"):
        workdir = tmp_path / f"4x1-{name}"
        subprocess.run(["cp", "-r", tmp_path / "4x1", workdir], check=True)
        for step in checkpoints.saved_steps(workdir):
            if step > MIDDLE:
                subprocess.run(["rm", "-r", workdir / "checkpoints" / str(step)], check=True)
        assert launch_together(workdir.name, *layouts[name]).wait(600) == 0
        assert f"resuming at step {MIDDLE} of {2 * MIDDLE}" in (tmp_path / f"{workdir.name}.out").read_text()
        assert_one_run_equals_another(tmp_path / "4x1", workdir)


def wait_for_step(workdir, step):
    until = time.monotonic() + 120
    while not any(saved >= step for saved in checkpoints.saved_steps(workdir)):
        assert time.monotonic() < until
        time.sleep(0.02)


def process_ids(process, which):
    """The ids of the Python process `which` that the launcher has started."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
            if entry.name.isdecimal() and os.getpgid(int(entry.name)) == process.pid:
                found += [int(entry.name)] * (f"--process={which}".encode() in command)
        except (OSError, ValueError):
            continue
    return found


def running_until_signal(tmp_path, launch_together, which, number, step):
    """An endless run of two processes; one of them has been sent a signal after the checkpoint of a step."""
    run = launch_together("run", 2, 1, "--config.train.steps=100000")
    wait_for_step(tmp_path / "run", step)
    (pid,) = process_ids(run, which)
    os.kill(pid, number)
    return run


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_where_one_is_killed_the_others_end_and_all_resume(tmp_path, launch_together, victim):
    run = running_until_signal(tmp_path, launch_together, victim, signal.SIGKILL, step=8)
    killed = time.monotonic()
    assert run.wait(distributed.HEARTBEAT_SECONDS + 30) != 0
    assert time.monotonic() - killed < distributed.HEARTBEAT_SECONDS + 10
    out = (tmp_path / "run.out").read_text()
    # Either a collective fails, or JAX's own watch is faster.
    assert "another process of this run has ended" in out or "another task died" in out

    last = checkpoints.saved_steps(tmp_path / "run")[-1]
    again = launch_together("run", 2, 1, "--config.train.steps=100000")
    wait_for_step(tmp_path / "run", last + 4)
    again.terminate()
    assert again.wait(120) == 143
    assert f"resuming at step {last} of" in (tmp_path / "run.out").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
def test_a_signal_to_one_stops_all_at_one_step(tmp_path, launch_together, which):
    run = running_until_signal(tmp_path, launch_together, which, signal.SIGTERM, step=4)
    assert run.wait(120) == 143
    step = int(re.search(r"stopped by SIGTERM at step (\d+); saved", (tmp_path / "run.out").read_text())[1])
    assert checkpoints.saved_steps(tmp_path / "run")[-1] == step


TOGETHER = """
import sys
from wdsr_jax.system import distributed
from wdsr_jax.system.console import run_command
from wdsr_jax.errors import UserError

def main():
    process = int(sys.argv[2])
    distributed.initialize(sys.argv[1], 2, process)
    assert distributed.gather([process, 0.1]) == [[0, 0.1], [1, 0.1]]
    assert distributed.gather("x" * 300 * process) == ["", "x" * 300]
    with distributed.raise_on_all_processes():
        pass
    with distributed.raise_on_all_processes():
        if process:
            raise UserError("no such folder")

run_command(main)
"""


def test_a_mistake_of_one_process_ends_both():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, address, i], stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        for i in "01"
    ]
    errors = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [1, 1]
    assert "error: process 1: no such folder\n" in errors[0]
    assert "error: no such folder\n" in errors[1]
    assert "Traceback" not in errors[0] + errors[1]


@pytest.mark.slow
def test_a_damaged_checkpoint_is_set_aside_once(tmp_path, launch_together):
    assert launch_together("run", 2, 1).wait(300) == 0
    arrays = next((tmp_path / "run/checkpoints/16/state").rglob("d/*"))
    arrays.write_bytes(arrays.read_bytes()[:-20])
    assert launch_together("run", 2, 1).wait(300) == 0
    out = (tmp_path / "run.out").read_text()
    assert out.count("checkpoint 16 is damaged") == 1
    assert "resuming at step 12 of 16" in out
    assert checkpoints.saved_steps(tmp_path / "run")[-1] == 16
    assert sorted(path.name for path in (tmp_path / "run/damaged").iterdir()) == ["16"]
