"""`wdsr_jax.evaluate` in PyTorch: python -m benchmarks.script_evaluate WEIGHTS SCALE FOLDER OUT.json

For each pair of SelfExSR's naming: the network, bicubic by PyTorch, and PSNR and SSIM by both protocols.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.pytorch import WDSR

F = torch.nn.functional


def luma(image: torch.Tensor) -> torch.Tensor:
    """BT.601 of (1, 3, H, W) in 0..255."""
    return (image * torch.tensor([65.481, 128.553, 24.966]).double().view(1, 3, 1, 1) / 255).sum(1, True) + 16


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """In dB."""
    return float(10 * torch.log10(255**2 / torch.mean((a - b) ** 2)))


def ssim(a: torch.Tensor, b: torch.Tensor) -> float:
    """Of (1, 1, H, W), 11x11 Gaussian of sigma 1.5, valid region."""
    g = torch.exp(-((torch.arange(11.0, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    g = g / g.sum()

    def blur(x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.conv2d(x, g.view(1, 1, 11, 1)), g.view(1, 1, 1, 11))

    ma, mb = blur(a), blur(b)
    va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float(((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))).mean())


def scores(sr: torch.Tensor, hr: torch.Tensor, scale: int) -> list[float]:
    """PSNR and SSIM by `y`, then by `ntire`."""
    result = []
    for shave, colour in ((scale, False), (scale + 6, True)):
        a, b = (x.double()[..., shave:-shave, shave:-shave] for x in (sr, hr))
        ya, yb = luma(a), luma(b)
        result += [psnr(a, b) if colour else psnr(ya, yb), ssim(ya, yb)]
    return result


def read(path: Path) -> torch.Tensor:
    """(1, 3, H, W) in 0..255."""
    return torch.from_numpy(np.asarray(Image.open(path).convert("RGB"), np.float32)).permute(2, 0, 1)[None]


def main() -> None:
    """Measures a folder."""
    weights, scale, folder, out = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    saved = torch.load(weights, weights_only=True)
    network = WDSR(**saved["model"]).eval()
    network.load_state_dict(saved["params"])
    network = network.to(memory_format=torch.channels_last)
    rows = []
    with torch.inference_mode():
        for path in sorted(folder.glob("*_HR.png")):
            hr, lr = read(path), read(path.with_name(path.name.replace("_HR", "_LR")))
            sr = network((lr / 255).contiguous(memory_format=torch.channels_last)) * 255
            bicubic = F.interpolate(lr, scale_factor=scale, mode="bicubic", antialias=False)
            rows.append(
                [scores(x.clamp(0, 255).add(0.5).floor(), hr, scale) for x in (sr, bicubic)],
            )
    mean = np.mean(rows, axis=0)  # (network and bicubic, 4)
    Path(out).write_text(json.dumps({"network": mean[0].tolist(), "bicubic": mean[1].tolist()}))


if __name__ == "__main__":
    main()
