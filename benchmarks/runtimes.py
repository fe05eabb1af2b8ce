"""The same networks, exported, in ONNX Runtime and OpenVINO."""

from collections.abc import Callable
from typing import Any

import numpy as np


def onnxruntime_inference(model: bytes, lr: np.ndarray, threads: int) -> tuple[Callable[[], Any], np.ndarray]:
    """ONNX Runtime on the CPU, with all its optimisations; arrays (1, H, W, 3) outside, NCHW inside."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    x = np.ascontiguousarray(lr.transpose(0, 3, 1, 2))

    def call() -> np.ndarray:
        return session.run(["sr"], {"lr": x})[0]

    return call, call().transpose(0, 2, 3, 1)


def openvino_inference(
    model: bytes, lr: np.ndarray, threads: int, precision: str
) -> tuple[Callable[[], Any], np.ndarray]:
    """OpenVINO on the CPU; `precision` is f32 or bf16. The shape is fixed, which it makes use of."""
    import openvino

    core = openvino.Core()
    x = np.ascontiguousarray(lr.transpose(0, 3, 1, 2))
    network = core.read_model(model, b"")
    network.reshape({"lr": x.shape})
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }
    compiled = core.compile_model(network, "CPU", settings)
    request = compiled.create_infer_request()

    def call() -> np.ndarray:
        return next(iter(request.infer({"lr": x}, share_inputs=True).values()))

    return call, np.array(call()).transpose(0, 2, 3, 1)
