"""`wdsr_jax.upscale` without it: python -m benchmarks.script_upscale pytorch|onnx WEIGHTS IN OUT"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


def main() -> None:
    """Enlarges each image of the folder IN, whole, into the folder OUT."""
    how, weights, source, target = sys.argv[1:]
    apply = _load_pytorch(weights) if how == "pytorch" else _load_onnx(weights)
    Path(target).mkdir(exist_ok=True)
    for path in sorted(Path(source).iterdir()):
        lr = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255  # (H, W, 3)
        sr = apply(lr.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0)
        pixels = np.floor(np.clip(sr, 0, 1) * 255 + 0.5).astype(np.uint8)
        Image.fromarray(pixels).save(Path(target) / path.name)


def _load_pytorch(weights: str) -> Callable[[np.ndarray], np.ndarray]:
    import torch

    from benchmarks.pytorch import WDSR

    saved = torch.load(weights, weights_only=True)
    network = WDSR(**saved["model"]).eval()
    network.load_state_dict(saved["params"])
    network = network.to(memory_format=torch.channels_last)

    def apply(lr: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            x = torch.from_numpy(lr).contiguous(memory_format=torch.channels_last)
            return network(x).numpy()

    return apply


def _load_onnx(weights: str) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
    return lambda lr: session.run(["sr"], {"lr": np.ascontiguousarray(lr)})[0]


if __name__ == "__main__":
    main()
