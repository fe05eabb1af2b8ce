"""HDF5 files of Keras (`save`, `save_weights` to .h5), read by `hdf5_process` in a process of its own."""

import inspect
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader, BufferedWriter
from typing import Any, cast

import numpy as np

from wdsr_jax.errors import UserError
from wdsr_jax.system.files import open_regular
from wdsr_jax.system.text import printable
from wdsr_jax.weights import hdf5_process
from wdsr_jax.weights.tensors import MAX_BYTES, Head, TensorFile, shown

HDF5_START = b"\x89HDF\r\n\x1a\n"
_MAX_FILE = 4 * MAX_BYTES  # with the optimiser's state
_LONGEST_ANSWER = 1 << 24  # bytes
_LONGEST_WAIT = 10  # seconds


@contextmanager
def open_keras(path: str | os.PathLike) -> Iterator[TensorFile]:
    """A file of Keras, whose names and shapes are read, and whose numbers are not.

    Its tensors are named `layer/weight`, and in the order of the layers. The metadata has `layers`, the names
    of all layers, those without weights too, in lines.

    Raises:
        UserError: there is no such file, it is damaged or not of Keras, or a tensor is no plain data set.
    """
    try:
        file = open_regular(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    with file:
        if os.fstat(file.fileno()).st_size > _MAX_FILE:
            raise UserError(f"{path}: of more than {_MAX_FILE:,} bytes, which no file of weights has")
        with _reading_process(path, file) as process:
            requests = cast(BufferedWriter, process.stdin)
            answers = cast(BufferedReader, process.stdout)
            heads, layers = _read_heads(path, process, answers)
            indices = {name: i for i, name in enumerate(heads)}

            def read(name: str) -> np.ndarray:
                block = np.empty(heads[name].nbytes, np.uint8)
                with suppress(BrokenPipeError):
                    requests.write(f"{indices[name]}\n".encode())
                    requests.flush()
                if answers.readinto(block.data) < block.size:
                    raise UserError(f"{path}: tensor {shown(name)} cannot be read ({_end_of(process)})")
                return block.view(heads[name].dtype).reshape(heads[name].shape)

            yield TensorFile(heads, read, {"layers": "\n".join(layers)})


@contextmanager
def _reading_process(path: str | os.PathLike, file: BufferedReader) -> Iterator[subprocess.Popen[bytes]]:
    """`hdf5_process` at work on a file; it ends with the block."""
    if not sys.executable or getattr(sys, "frozen", False):  # which would start the whole program again
        raise UserError(f"{path}: HDF5 is read by a Python of its own, which a frozen program does not have")
    # Its source, not its path: the package may lie in a zip file.
    command = [sys.executable, "-P", "-c", inspect.getsource(hdf5_process), str(file.fileno())]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=[file.fileno()],
        # One thread: each of OpenBLAS' counts against the memory.
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _read_heads(
    path: str | os.PathLike, process: subprocess.Popen[bytes], answers: BufferedReader
) -> tuple[dict[str, Head], list[str]]:
    """The process' first line: the tensors' heads and the names of all layers; UserError where it says no."""
    line = answers.readline(_LONGEST_ANSWER)
    answer: Any = json.loads(line) if line.endswith(b"\n") else {"error": _end_of(process)}
    if "error" in answer:
        raise UserError(f"{path}: damaged, or not weights that Keras saved ({printable(answer['error'])})")
    heads = {}
    for name, shape, dtype in answer["tensors"]:
        heads[name] = Head(tuple(shape), np.dtype(dtype), np.dtype(dtype).itemsize)
    return heads, answer["layers"]


def _end_of(process: subprocess.Popen[bytes]) -> str:
    """Why the process has ended, for people."""
    try:
        code = process.wait(_LONGEST_WAIT)
    except subprocess.TimeoutExpired:  # its line has no end
        return "its names are too long"
    if code == -signal.SIGXCPU:
        return f"the HDF5 library takes more than {hdf5_process.CPU_SECONDS} s for it"
    return "the HDF5 library fails on it"
