"""Networks in ONNX Runtime, whose convolutions are faster than XLA's on CPUs, without compilation."""

import functools
import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Float32

from wdsr_jax import models
from wdsr_jax.errors import UserError
from wdsr_jax.inference.network import inference_function
from wdsr_jax.models.flow import FlowSampler
from wdsr_jax.system.files import default_cache_dir, read_regular, write_whole
from wdsr_jax.system.pool import PROCESSORS

ENGINES = ("xla", "onnx")
_MOST_SESSIONS = 8  # in memory
_sessions: dict[str, Any] = {}  # by `_digest`: an InferenceSession, or the UserError that there is none


def find_session(module: nn.Module, params: Any, engine: str | None) -> Any:
    """What computes a network in place of XLA.

    Its graph is kept in memory and on disk: a second process neither traces the network nor imports `onnx`.

    Args:
        module: a network from `create_model` or `load_pretrained`.
        params: its parameters.
        engine: of `ENGINES`; None for ONNX Runtime on CPUs where it is installed and can, else XLA.

    Returns:
        An `onnxruntime.InferenceSession`; None for XLA.

    Raises:
        UserError: ONNX Runtime is asked for and not installed, or cannot compute the network.
        ValueError: there is no such engine.
    """
    if engine not in (None, *ENGINES):
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
    if engine == "xla" or (engine is None and jax.default_backend() != "cpu"):
        return None
    key = _digest(module, params)
    if key not in _sessions:
        if len(_sessions) >= _MOST_SESSIONS:
            _sessions.clear()
        try:
            _sessions[key] = _start(module, params, key)
        except ImportError as error:
            _sessions[key] = UserError(f"engine onnx needs pip install 'wdsr_jax[onnx]' ({error})")
        except UserError as error:
            reason = str(error).partition(";")[0]  # behind it is advice on exporting
            _sessions[key] = UserError(f"engine onnx cannot compute this network, engine xla can ({reason})")
    session = _sessions[key]
    if isinstance(session, UserError) and engine:
        raise session
    return None if isinstance(session, UserError) else session


def apply_session(session: Any, images: Iterable[np.ndarray]) -> Iterator[Float32[np.ndarray, "H W 3"]]:
    """SR of each LR, float32 (h, w, 3) of any sizes, one ahead: computed while the one before is used."""
    import onnxruntime

    options = onnxruntime.RunOptions()

    def run(lr: np.ndarray) -> np.ndarray:
        (sr,) = session.run(["sr"], {"lr": np.ascontiguousarray(lr.transpose(2, 0, 1)[None])}, options)
        return sr[0].transpose(1, 2, 0)

    with ThreadPoolExecutor(1) as pool:  # waiting inside the runtime would hold Ctrl-C back
        try:
            started = (pool.submit(run, lr) for lr in images)
            ahead = next(started, None)
            while ahead:
                current, ahead = ahead, next(started, None)
                yield current.result()
        finally:
            options.terminate = True  # what runs or waits, where the caller has stopped early


def _digest(module: nn.Module, params: Any) -> str:
    """Names what a graph is made of: a network, its parameters, and the code of both."""
    digest = hashlib.sha256(repr((type(module), module)).encode() + _sources())
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(f"{path} {leaf.shape}".encode() + np.asarray(leaf).tobytes())
    return digest.hexdigest()


@functools.cache  # a video asks for each frame
def _sources() -> bytes:
    """Of the code of networks and of the graph."""
    folder = Path(models.__file__).parent
    paths = [*sorted(folder.glob("*.py")), folder.parent / "inference/onnx_graph.py"]
    return b"".join(path.read_bytes() for path in paths)


def _start(module: nn.Module, params: Any, key: str) -> Any:
    import onnxruntime

    if not type(module).__module__.startswith("wdsr_jax."):
        raise UserError("it is from outside wdsr_jax")
    if module.radius is None or isinstance(module, FlowSampler):
        raise UserError("it takes means over the whole image, or draws samples")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = PROCESSORS, 3  # errors alone
    provider = ["CPUExecutionProvider"]
    start = functools.partial(onnxruntime.InferenceSession, sess_options=options, providers=provider)
    with suppress(Exception):  # nothing is kept, there is no home, or what is kept is damaged
        return start(read_regular(default_cache_dir() / "onnx" / key))
    return start(_graph(module, params, key))


def _graph(module: nn.Module, params: Any, key: str) -> bytes:
    """The network as ONNX, which is kept for the next process."""
    from wdsr_jax.inference.onnx_graph import onnx_model

    data = onnx_model(inference_function(module, params), "network", {}).SerializeToString()
    with suppress(OSError, RuntimeError, UserError):
        (default_cache_dir() / "onnx").mkdir(parents=True, exist_ok=True)
        write_whole(default_cache_dir() / "onnx" / key, data)
    return data
