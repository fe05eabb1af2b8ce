"""Several processes: that they find each other, and that together they do what one process does."""

import http.server
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.tiny import (  # the first three are fixtures
    compile_cache,
    image_cache,
    photos,
    read_board,
    read_json,
)
from wdsr_jax import load_pretrained
from wdsr_jax.errors import UserError
from wdsr_jax.system import distributed
from wdsr_jax.training import checkpoints

__all__ = ["compile_cache", "image_cache", "photos"]
ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch/local_processes.sh"
MIDDLE = 8  # a step at which the runs below checkpoint, but do not end


@pytest.fixture
def launch(tmp_path, photos, image_cache, compile_cache):
    """Starts a run of some processes in `tmp_path / name`, in a process group of its own."""
    settings = {
        **{"model.blocks": 1, "model.filters": 4, "data.source": "folder", "data.root": photos},
        **{"data.cache_dir": image_cache, "data.patch_size": 8, "data.batch_size": 8},
        **{"train.steps": 2 * MIDDLE, "train.warmup_steps": 2, "train.log_every": 1},
        **{"train.eval_every": MIDDLE, "train.checkpoint_every": 4, "train.keep_checkpoints": 100},
    }
    started = []

    def start(name, processes, devices, *overrides):
        command = [LAUNCH, str(processes), "--config=configs/quickstart.py", f"--workdir={tmp_path / name}"]
        command += [f"--config.{key}={value}" for key, value in settings.items()]
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "JAX_NUM_CPU_DEVICES": str(devices),
            "JAX_COMPILATION_CACHE_DIR": str(compile_cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        }
        environment.pop("NPROC", None)
        with open(tmp_path / f"{name}.out", "a") as out:
            process = subprocess.Popen(
                [*command, *overrides],
                cwd=ROOT,
                env=environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def losses(workdir):
    return dict(read_board(workdir)["train/loss"])


def state_of(workdir, step):
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(workdir / "checkpoints" / str(step) / "state")


def assert_one_run_equals_another(a, b, tolerance):
    """Losses, validation and final parameters; returns by how much the parameters differ at the most."""
    assert losses(a).keys() == losses(b).keys() == set(range(1, 2 * MIDDLE + 1))
    np.testing.assert_allclose(list(losses(a).values()), list(losses(b).values()), rtol=tolerance)
    scores = [read_json(workdir / "evaluation.json")["validation"] for workdir in (a, b)]
    for who in ("bicubic", "model"):
        for metric, value in scores[0][who].items():
            assert scores[1][who][metric] == pytest.approx(value, abs=2e-3)
    (_, params), (_, others) = load_pretrained(a), load_pretrained(b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), params, others)


def test_two_processes_train_as_one(tmp_path, launch):
    assert launch("one", 1, 2).wait(300) == 0, (tmp_path / "one.out").read_text()
    assert launch("two", 2, 1).wait(300) == 0, (tmp_path / "two.out").read_text()
    assert_one_run_equals_another(tmp_path / "one", tmp_path / "two", 1e-5)
    out = (tmp_path / "two.out").read_text()
    assert "2 x cpu, 2 processes, batches of 8\n" in out
    # The lead alone logs: what comes from the other process are Gloo's lines.
    assert not re.findall(r"^\[1\] (?!\[Gloo\])", out, re.M)
    assert len(list((tmp_path / "two").glob("events.*"))) == 1


@pytest.mark.slow
def test_layouts_train_alike_and_resume_each_other(tmp_path, launch):
    layouts = {"1x4": (1, 4), "2x2": (2, 2), "4x1": (4, 1)}
    for name, (processes, devices) in layouts.items():
        assert launch(name, processes, devices).wait(600) == 0, (tmp_path / f"{name}.out").read_text()
    for name in ("2x2", "4x1"):
        assert_one_run_equals_another(tmp_path / "1x4", tmp_path / name, 1e-5)

    # Goes on from the middle of 4x1, as it was, in the two other layouts.
    for name in ("1x4", "2x2"):
        workdir = tmp_path / f"4x1-{name}"
        subprocess.run(["cp", "-r", tmp_path / "4x1", workdir], check=True)
        for step in checkpoints.saved_steps(workdir):
            if step > MIDDLE:
                subprocess.run(["rm", "-r", workdir / "checkpoints" / str(step)], check=True)
        assert launch(workdir.name, *layouts[name]).wait(600) == 0
        assert f"resuming at step {MIDDLE} of {2 * MIDDLE}" in (tmp_path / f"{workdir.name}.out").read_text()
        assert_one_run_equals_another(tmp_path / "4x1", workdir, 1e-5)


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


def running_until_signal(tmp_path, launch, which, number, step):
    """An endless run of two processes; one of them has been sent a signal after the checkpoint of a step."""
    run = launch("run", 2, 1, "--config.train.steps=100000")
    wait_for_step(tmp_path / "run", step)
    (pid,) = process_ids(run, which)
    os.kill(pid, number)
    return run


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_where_one_is_killed_the_others_end_and_all_resume(tmp_path, launch, victim):
    run = running_until_signal(tmp_path, launch, victim, signal.SIGKILL, step=8)
    killed = time.monotonic()
    assert run.wait(distributed.HEARTBEAT_SECONDS + 30) != 0
    assert time.monotonic() - killed < distributed.HEARTBEAT_SECONDS + 10
    out = (tmp_path / "run.out").read_text()
    # Either a collective fails, or JAX's own watch is faster.
    assert "another process of this run has ended" in out or "another task died" in out

    last = checkpoints.saved_steps(tmp_path / "run")[-1]
    again = launch("run", 2, 1, "--config.train.steps=100000")
    wait_for_step(tmp_path / "run", last + 4)
    again.terminate()
    assert again.wait(120) == 143
    assert f"resuming at step {last} of" in (tmp_path / "run.out").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
def test_a_signal_to_one_stops_all_at_one_step(tmp_path, launch, which):
    run = running_until_signal(tmp_path, launch, which, signal.SIGTERM, step=4)
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
def test_a_damaged_checkpoint_is_set_aside_once(tmp_path, launch):
    assert launch("run", 2, 1).wait(300) == 0
    arrays = next((tmp_path / "run/checkpoints/16/state").rglob("d/*"))
    arrays.write_bytes(arrays.read_bytes()[:-20])
    assert launch("run", 2, 1).wait(300) == 0
    out = (tmp_path / "run.out").read_text()
    assert out.count("checkpoint 16 is damaged") == 1
    assert "resuming at step 12 of 16" in out
    assert checkpoints.saved_steps(tmp_path / "run")[-1] == 16
    assert sorted(path.name for path in (tmp_path / "run/damaged").iterdir()) == ["16"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("node:1", None, None), "give all three or none"),
        ((None, 2, 0), "give all three or none"),
        (("node", 2, 0), "--coordinator must be HOST:PORT, such as node1:1234, not 'node'"),
        (("node:1", 2, 2), "--process=2 must be from 0 to 1, --processes=2"),
        (("node:1", 2, -1), "--process=-1 must be from 0 to 1, --processes=2"),
        (("node:1", 0, 0), "--processes must be at least 1, not 0"),
    ],
)
def test_flags_that_make_no_sense(arguments, message):
    with pytest.raises(UserError, match=re.escape(message)):
        distributed.initialize(*arguments)


def test_one_process_needs_no_others():
    distributed.initialize("nowhere:1", 1, 0)
    distributed.initialize(None, None, None)
    assert not jax.distributed.is_initialized()
    assert distributed.gather([1.5, None]) == [[1.5, None]]
    with distributed.raise_on_all_processes():
        pass
    with pytest.raises(UserError, match=r"^mine$"), distributed.raise_on_all_processes():
        raise UserError("mine")


SLURM_STEP = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}, False),  # a batch script, or a shell on a node
        ({**SLURM_STEP, "SLURM_NTASKS": "2"}, True),
        ({**SLURM_STEP, "SLURM_NTASKS": "1"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:3"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),  # some pod
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2"}, True),
        ({"TPU_PROCESS_ADDRESSES": "a:1,b:1", "TPU_WORKER_HOSTNAMES": ""}, True),
    ],
)
def test_launchers_are_recognised(environment, expected):
    assert distributed._is_one_of_several(environment) == expected


def test_an_open_mpi_that_says_nothing():
    with pytest.raises(UserError, match=r"--processes=\$OMPI_COMM_WORLD_SIZE"):
        distributed._is_one_of_several({"OMPI_COMM_WORLD_SIZE": "4"})


@pytest.mark.parametrize(("workers", "expected"), [("10.0.0.1,10.0.0.2", True), ("10.0.0.1", False)])
def test_a_tpu_pod_is_recognised_by_its_metadata(monkeypatch, workers, expected):
    class Metadata(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            assert self.headers["Metadata-Flavor"] == "Google"
            assert self.path == "/computeMetadata/v1/instance/attributes/worker-network-endpoints"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(workers.encode())

        def log_message(self, *_):
            pass

    monkeypatch.setattr(distributed, "_has_tpu", lambda: True)
    with http.server.HTTPServer(("localhost", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {"GCE_METADATA_IP": f"localhost:{server.server_port}"}
        assert distributed._is_one_of_several(environment) == expected
        assert not distributed._is_one_of_several({**environment, "TPU_SKIP_MDS_QUERY": "1"})
        server.shutdown()


def test_no_metadata_server_no_pod(monkeypatch):
    monkeypatch.setattr(distributed, "_has_tpu", lambda: True)
    with socket.socket() as taken:
        taken.bind(("localhost", 0))  # and does not listen
        address = f"localhost:{taken.getsockname()[1]}"
        assert not distributed._is_one_of_several({"GCE_METADATA_IP": address})


@pytest.mark.parametrize(
    ("environment", "gpus"),
    [
        ({"SLURM_STEP_TASKS_PER_NODE": "1(x2)", "SLURM_GPUS_ON_NODE": "4"}, [0, 1, 2, 3]),
        ({"SLURM_STEP_TASKS_PER_NODE": "1", "SLURM_GPUS_ON_NODE": "2"}, [0, 1]),
        ({"SLURM_STEP_TASKS_PER_NODE": "4(x2)", "SLURM_GPUS_ON_NODE": "4"}, []),
        ({"SLURM_STEP_TASKS_PER_NODE": "1(x2)"}, []),
    ],
)
def test_the_only_task_of_a_node_gets_all_its_gpus(environment, gpus):
    assert distributed._gpus_of_only_task(environment) == gpus


def test_a_lost_process_is_named(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match="start all of them again"), distributed.explain_lost_process():
        raise ValueError("UNKNOWN: Gloo all-reduce failed: Connection reset by peer")
    with pytest.raises(ValueError, match="a mistake of ours"), distributed.explain_lost_process():
        raise ValueError("a mistake of ours")


def test_the_launcher_shows_what_it_would_do():
    environment = {**os.environ, "PORT": "1234"}
    out = subprocess.run(
        [LAUNCH, "--dry-run", "2", "--config=a b.py", "--workdir=run"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert out.splitlines() == [
        "python -m wdsr_jax.main --config=a\\ b.py --workdir=run "
        f"--coordinator=localhost:1234 --processes=2 --process={i} "
        for i in range(2)
    ]


@pytest.mark.parametrize("count", ["", "0", "two"])
def test_the_launcher_wants_a_number(count):
    result = subprocess.run([LAUNCH, count], capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.startswith("usage: ")
