"""Networks in ONNX Runtime, whose convolutions are faster than XLA's on CPUs, without compilation.

A graph needs neither JAX nor `onnx` to be computed: they are imported where one is made.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from wdsr_jax.errors import UserError
from wdsr_jax.inference.windows import (
    MEMORY_SHARE,
    check_image,
    check_tile,
    even_windows,
    upscale_in_windows,
)
from wdsr_jax.system.devices import on_cpu
from wdsr_jax.system.memory import host_memory
from wdsr_jax.system.pool import PROCESSORS

ENGINES = ("xla", "onnx")
_MISSING = "engine onnx needs pip install 'wdsr_jax[onnx]' ({})"
_MOST_SESSIONS = 8  # in memory
# What ONNX Runtime takes for a LR pixel, at most: WDSR a third of it.
_BYTES_A_PIXEL = 1 << 13
_sessions: dict[str, Any] = {}  # by `_digest`: an InferenceSession, or the UserError that there is none


def has_session(engine: str | None) -> bool:
    """Whether ONNX Runtime is to compute: where it is asked for, and by default on CPUs if it is installed.

    Args:
        engine: of `ENGINES`, or None for the default.

    Raises:
        UserError: it is asked for and not installed.
        ValueError: there is no such engine.
    """
    if engine not in (None, *ENGINES):
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}")
    if engine == "xla" or (engine is None and not on_cpu()):
        return False
    try:
        import_onnxruntime()
    except ImportError as error:
        if engine:
            raise UserError(_MISSING.format(error)) from None
        return False
    return True


def import_onnxruntime() -> Any:
    """The module. Version 1.32 collects telemetry under an id that it keeps on disk: not from here.

    Whoever wants that sets ORT_DISABLE_TELEMETRY to 0.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it reads it once, as it is imported
    import onnxruntime

    return onnxruntime


def find_session(module: Any, params: Any, engine: str | None) -> Any:
    """What computes a network in place of XLA; it is kept in memory.

    Args:
        module: a network from `create_model` or `load_pretrained`.
        params: its parameters.
        engine: see `has_session`.

    Returns:
        An `onnxruntime.InferenceSession`; None for XLA, which is the default for what ONNX cannot express.

    Raises:
        UserError: ONNX Runtime is asked for and not installed, or cannot compute the network.
        ValueError: there is no such engine.
    """
    if not has_session(engine):
        return None
    key = _digest(module, params)
    if key not in _sessions:
        if len(_sessions) >= _MOST_SESSIONS:
            _sessions.clear()
        try:
            _sessions[key] = start_session(network_graph(module, params))
        except UserError as error:
            _sessions[key] = error
    session = _sessions[key]
    if isinstance(session, UserError) and engine:
        raise session
    return None if isinstance(session, UserError) else session


def _digest(module: Any, params: Any) -> str:
    """Names a network and its parameters."""
    import jax

    digest = hashlib.sha256(repr((type(module), module)).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(f"{path} {leaf.shape}".encode() + np.asarray(leaf).tobytes())
    return digest.hexdigest()


def network_graph(module: Any, params: Any) -> bytes:
    """A network as an ONNX model, which says its scale and radius.

    Args:
        module: a network from `create_model` or `load_pretrained`.
        params: its parameters.

    Raises:
        UserError: it is from outside, takes means over the whole image, draws samples, or does what has no
            translation; or `onnx` is not installed.
    """
    try:
        return _graph(module, params)
    except ImportError as error:
        raise UserError(_MISSING.format(error)) from None
    except UserError as error:
        reason = str(error).partition(";")[0]  # behind it is advice on exporting
        raise UserError(f"engine onnx cannot compute this network, engine xla can ({reason})") from None


def _graph(module: Any, params: Any) -> bytes:
    from wdsr_jax.inference.network import inference_function
    from wdsr_jax.models.flow import FlowSampler

    if not type(module).__module__.startswith("wdsr_jax."):
        raise UserError("it is from outside wdsr_jax")
    if module.radius is None or isinstance(module, FlowSampler):
        raise UserError("it takes means over the whole image, or draws samples")
    from wdsr_jax.inference.onnx_graph import onnx_model

    about = {"scale": str(module.scale), "radius": str(module.radius)}
    return onnx_model(inference_function(module, params), "network", about).SerializeToString()


def start_session(graph: bytes) -> Any:
    """An `onnxruntime.InferenceSession` on all processors that this process may use."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = PROCESSORS, 3  # errors alone
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def scale_and_radius(session: Any) -> tuple[int, int]:
    """Of the network of a session, as `network_graph` has written them."""
    about = session.get_modelmeta().custom_metadata_map
    return int(about["scale"]), int(about["radius"])


def upscale_by_session(
    session: Any,
    image: np.ndarray,
    *,
    tile: int | None = None,
    ensemble: bool = False,
    on_pixels: Callable[[int], object] | None = None,
) -> np.ndarray:
    """`tiles.upscale` by ONNX Runtime, with the same arguments and results.

    Args:
        session: of a `network_graph`.
        image: see `tiles.upscale`, as all others.
        tile: side of the tiles.
        ensemble: whether to average over the symmetries.
        on_pixels: is told what is done.

    Raises:
        ValueError: another shape or type of image, floats far outside [0, 1], a tile that is too small.
    """
    image = check_image(image)
    height, width, _ = image.shape
    scale, radius = scale_and_radius(session)
    check_tile(radius, (height, width), tile)
    room = int(MEMORY_SHARE * host_memory() / _BYTES_A_PIXEL)
    return upscale_in_windows(
        lambda windows: apply_session(session, windows),
        image,
        (tile, tile) if tile else even_windows((height, width), radius, room),
        scale=scale,
        radius=radius,
        ensemble=ensemble,
        on_pixels=on_pixels,
    )


def apply_session(session: Any, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """SR of each LR, float32 (h, w, 3) of any sizes, one ahead: computed while the one before is used."""
    options = import_onnxruntime().RunOptions()

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
