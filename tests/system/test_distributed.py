"""How processes find each other, and what one does alone. Several together: `tests/runs/test_processes`."""

import http.server
import re
import socket

import jax
import pytest

from wdsr_jax.errors import UserError
from wdsr_jax.system import distributed


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
def test_a_tpu_pod_is_recognised_by_its_metadata(monkeypatch, serve, workers, expected):
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
    environment = {"GCE_METADATA_IP": serve(Metadata).removeprefix("http://")}
    assert distributed._is_one_of_several(environment) == expected
    assert not distributed._is_one_of_several({**environment, "TPU_SKIP_MDS_QUERY": "1"})


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
