"""Several processes as one run: how they find each other, and the steps that they take together.

A process is a host with all its devices, or a part of them. All run the same command; each trains on its
share of every batch and measures its share of the validation images. The functions here are called by all
processes or by none, and do nothing where there is only one.
"""

import importlib.util
import json
import os
import re
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from wdsr_jax.errors import UserError

# How long a silent process counts as alive: where one is lost the others end within this time.
HEARTBEAT_SECONDS = 30
_START_SECONDS = 300  # within which all processes have to be there


def initialize(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Joins the other processes of the run, before the first use of a device.

    Args:
        coordinator: HOST:PORT on which process 0 listens; None to find out from Slurm, Open MPI, Kubernetes
            or a TPU pod, and to run alone where there is none of them, or a single process in it.
        processes: how many there are; with `coordinator` only.
        process: which of them this is, from 0; likewise.

    Raises:
        UserError: the arguments do not make sense, or the others cannot be reached.
    """
    options: dict[str, Any] = {}
    if coordinator is not None or processes is not None or process is not None:
        if coordinator is None or processes is None or process is None:
            raise UserError("--coordinator, --processes and --process: give all three or none")
        if not re.fullmatch(r".+:\d+", coordinator):
            raise UserError(f"--coordinator must be HOST:PORT, such as node1:1234, not {coordinator!r}")
        if processes < 1:
            raise UserError(f"--processes must be at least 1, not {processes}")
        if not 0 <= process < processes:
            raise UserError(f"--process={process} must be from 0 to {processes - 1}, --processes={processes}")
        if processes == 1:
            return
        options = dict(coordinator_address=coordinator, num_processes=processes, process_id=process)
        options["cluster_detection_method"] = "deactivate"
    elif not _is_one_of_several(os.environ):
        return
    elif gpus := _gpus_of_only_task(os.environ):
        options["local_device_ids"] = gpus
    # It would take SIGTERM for itself; `train` has the processes agree on where to stop without it.
    if "jax_enable_preemption_service" in jax.config.values:
        jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            **options,
            initialization_timeout=_START_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:  # RuntimeError: of XLA, too
        where = f"the coordinator {coordinator}" if coordinator else "the other processes"
        message = " ".join(str(error).split())[:200]
        raise UserError(f"{where} could not be reached within {_START_SECONDS} s ({message})") from None
    if not is_lead():
        logging.set_verbosity(logging.WARNING)  # the lead alone reports what happens in all processes


def _is_one_of_several(environment: Mapping[str, str]) -> bool:
    """Whether a launcher that JAX knows has started this process as one of several."""

    def count(variable: str) -> int:
        return int(environment.get(variable, "1"))

    # A batch script and a shell on a node have the job's count of tasks, too; a step has a node list besides.
    if "SLURM_STEP_NODELIST" in environment and count("SLURM_NTASKS") > 1:
        return True
    if count("OMPI_COMM_WORLD_SIZE") > 1:
        if "OMPI_MCA_orte_hnp_uri" not in environment:  # Open MPI 5
            raise UserError(
                "this version of Open MPI does not say where its processes are; add --coordinator=HOST:PORT "
                "--processes=$OMPI_COMM_WORLD_SIZE --process=$OMPI_COMM_WORLD_RANK"
            )
        return True
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        return True
    hosts = environment.get("TPU_PROCESS_ADDRESSES", environment.get("TPU_WORKER_HOSTNAMES"))
    return "," in (_tpu_workers(environment) if hosts is None else hosts)


def _tpu_workers(environment: Mapping[str, str]) -> str:
    """The workers of the TPU pod that this virtual machine belongs to, as its metadata server lists them."""
    if not _has_tpu() or "TPU_SKIP_MDS_QUERY" in environment:
        return ""
    server = environment.get("GCE_METADATA_IP", "metadata.google.internal")
    request = urllib.request.Request(
        f"http://{server}/computeMetadata/v1/instance/attributes/worker-network-endpoints",
        headers={"Metadata-Flavor": "Google"},
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.read().decode()
    except OSError:  # elsewhere than in Google's cloud, such as in Colab
        return ""


def _has_tpu() -> bool:
    chips = [*Path("/dev").glob("accel[0-9]*"), *Path("/dev").glob("vfio/[0-9]*")]
    return bool(chips) and importlib.util.find_spec("libtpu") is not None


def _gpus_of_only_task(environment: Mapping[str, str]) -> list[int]:
    """All GPUs of the node where Slurm runs one task a node; JAX would take the first one alone."""
    tasks, gpus = environment.get("SLURM_STEP_TASKS_PER_NODE", ""), environment.get("SLURM_GPUS_ON_NODE", "")
    return list(range(int(gpus))) if re.fullmatch(r"1(\(x\d+\))?", tasks) and gpus.isdecimal() else []


def describe() -> str:
    """The devices and processes of the run, such as `4 x cpu, 2 processes`."""
    devices, processes = jax.devices(), jax.process_count()
    kinds = f"{len(devices)} x {devices[0].device_kind}"
    return f"{kinds}, {processes} process{'es' if processes > 1 else ''}"


def is_lead() -> bool:
    """Whether this is the process that writes logs, pictures and results."""
    return jax.process_index() == 0


def gather(value: Any) -> list[Any]:
    """The values of all processes, in their order; a value is what JSON can hold.

    Returns once all have called it.
    """
    if jax.process_count() == 1:
        return [value]
    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array([data.size], np.int32)).ravel()  # (processes,)
    # A power of two: each length would be a compilation.
    padded = np.zeros(1 << int(lengths.max()).bit_length(), np.uint8)
    padded[: data.size] = data
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]


@contextmanager
def raise_on_all_processes() -> Iterator[None]:
    """A UserError that one process raises in the `with` block is raised in all, so that none waits for it.

    All processes leave the block at the same time.

    Raises:
        UserError: that of the block; in the processes that had none, the first that had one is quoted.
    """
    own = None
    try:
        yield
    except UserError as error:
        own = error
    messages = gather(own and f"process {jax.process_index()}: {own}")
    if own:
        raise own
    for message in filter(None, messages):
        raise UserError(message)


def lost_process(error: Exception) -> UserError | None:
    """The UserError to raise where `error` says that another process has ended; else None."""
    if jax.process_count() == 1 or not re.search("gloo|nccl|coordination service", str(error), re.I):
        return None
    return UserError(
        "another process of this run has ended, its last lines say why; start all of them again: they go on "
        "from the newest checkpoint"
    )


@contextmanager
def explain_lost_process() -> Iterator[None]:
    """Raises a UserError where the `with` block fails because another process has ended."""
    try:
        yield
    except (ValueError, RuntimeError) as error:  # of XLA
        raise (lost_process(error) or error) from None
