"""`wdsr_jax.upscale` without it: python -m benchmarks.script_upscale pytorch|onnx WEIGHTS IN OUT"""

import sys

import numpy as np
from PIL import Image


def main() -> None:
    """Enlarges one image, whole."""
    how, weights, source, target = sys.argv[1:]
    lr = np.asarray(Image.open(source).convert("RGB"), np.float32) / 255  # (H, W, 3)
    if how == "pytorch":
        import torch

        from benchmarks.pytorch import WDSR

        saved = torch.load(weights, weights_only=True)
        network = WDSR(**saved["model"]).eval()
        network.load_state_dict(saved["params"])
        network = network.to(memory_format=torch.channels_last)
        with torch.inference_mode():
            x = torch.from_numpy(lr).permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)
            sr = network(x)[0].permute(1, 2, 0).numpy()
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
        sr = session.run(["sr"], {"lr": np.ascontiguousarray(lr.transpose(2, 0, 1))[None]})[0][0]
        sr = sr.transpose(1, 2, 0)
    pixels = np.floor(np.clip(sr, 0, 1) * 255 + 0.5).astype(np.uint8)
    Image.fromarray(pixels).save(target)


if __name__ == "__main__":
    main()
