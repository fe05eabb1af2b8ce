"""A network for programs without this package: StableHLO for JAX, ONNX for ONNX Runtime and others.

`wdsr_jax/export.py` says what the files are and who reads them.
"""

import os
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from absl import logging

from wdsr_jax.errors import UserError
from wdsr_jax.inference.network import inference_function
from wdsr_jax.inference.onnx_engine import import_onnxruntime
from wdsr_jax.system.files import write_whole
from wdsr_jax.weights.files import check_export
from wdsr_jax.weights.store import load_pretrained

PLATFORMS = ("cpu", "cuda", "tpu")
_TOLERANCE = 1e-4  # of ONNX Runtime against JAX, relative to the largest value above 1


def to_stablehlo(module: nn.Module, params: Any, name: str) -> bytes:
    """A network for `jax.export.deserialize`.

    Args:
        module: a network from `create_model` or `load_pretrained`.
        params: its parameters.
        name: the `fun_name` of the result.

    Returns:
        A serialized `jax.export.Exported`, whose `call` takes float32 (B, H, W, 3) to
        (B, H * scale, W * scale, 3) and cannot be differentiated.
    """
    network = inference_function(module, params)
    network.__name__ = name
    lr = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("b, h, w"), 3), jnp.float32)
    return bytes(jax.export.export(jax.jit(network), platforms=PLATFORMS)(lr).serialize())


def to_onnx(module: nn.Module, params: Any, name: str) -> bytes:
    """A network as an ONNX model that was compared with JAX in ONNX Runtime.

    Args:
        module: a network from `create_model` or `load_pretrained`.
        params: its parameters.
        name: of the graph, and `model` in the metadata.

    Returns:
        A serialized ModelProto; for its input, output and metadata see `wdsr_jax/export.py`.

    Raises:
        UserError: the extra `onnx` is not installed, the network does something that `onnx_graph` cannot
            translate, or ONNX Runtime's output is another.
    """
    try:
        onnxruntime = import_onnxruntime()
        from wdsr_jax.inference.onnx_graph import IR_VERSION, OPSET, onnx_model
    except ImportError as error:
        raise UserError(f"--format=onnx needs pip install 'wdsr_jax[onnx]' ({error})") from None
    metadata = {
        "model": name,
        "scale": str(module.scale),
        "channel_order": "RGB",
        "layout": "NCHW",
        "range": "[0, 1]",
        "clipped": "no",
    }
    network = inference_function(module, params)
    data = onnx_model(network, name, metadata).SerializeToString(deterministic=True)

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    lr = np.random.default_rng(0).uniform(size=(2, 5, 7, 3)).astype(np.float32)
    sr = np.asarray(session.run(["sr"], {"lr": lr.transpose(0, 3, 1, 2)})[0])
    expected = np.asarray(jax.jit(network)(lr))
    difference = np.abs(sr.transpose(0, 2, 3, 1) - expected).max()
    if not difference <= _TOLERANCE * max(1, np.abs(expected).max()):
        raise UserError(f"{name}: as ONNX it would compute something else, by {difference:.2g}")
    versions = f"opset {OPSET}, IR version {IR_VERSION}"
    logging.info("%s; ONNX Runtime differs from JAX by at most %.2g", versions, difference)
    return data


def export(name_or_path: str | os.PathLike, file_format: str, path: str | os.PathLike) -> None:
    """Writes a network for other programs.

    Args:
        name_or_path: as for `load_pretrained`.
        file_format: `stablehlo` or `onnx`.
        path: the file to write; it appears whole or not at all.

    Raises:
        UserError: there is no such format, the network cannot be loaded (`load_pretrained`) or exported
            (`to_onnx`), or the file is a folder, the network's own or cannot be written.
    """
    check_export(name_or_path, file_format, path)
    module, params = load_pretrained(name_or_path)
    source = Path(name_or_path).expanduser().resolve()
    name = source.stem if source.is_file() else source.name
    data = (to_onnx if file_format == "onnx" else to_stablehlo)(module, params, name)
    write_whole(path, data)
    logging.info("%s: %s x%d, %.1f MB", path, name, module.scale, len(data) / 1e6)
