"""Sets of pictures to measure on, and a small network."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.numpy_wdsr import random_params
from wdsr_jax.image.resize import imresize
from wdsr_jax.models import create_model
from wdsr_jax.weights.store import save_weights

BENCHMARKS = Path(__file__).parents[3] / "shared/data/benchmarks"
SCORES = ["psnr_y", "ssim_y", "psnr_rgb", "ssim_ntire"]
CONFIG = {"name": "wdsr_a", "scale": 2, "filters": 8, "blocks": 2, "expansion": 2}
SIZES = [(30, 40), (40, 30), (33, 47), (34, 46), (64, 50), (63, 51), (31, 41)]  # (height, width) of HR
needs_benchmarks = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="no benchmark sets beside the checkout")


def network(seed=0, **fields):
    """The network of CONFIG and `fields`, and random parameters."""
    module = create_model(CONFIG | fields)
    return module, random_params(module, seed)


def picture(height=40, width=50, seed=0, channels=3):
    """Something with edges: noise, enlarged."""
    noise = np.random.default_rng(seed).integers(
        0, 256, (-(-height // 4), -(-width // 4), channels), np.uint8
    )
    return imresize(noise, 4)[:height, :width]


def save(path, image=None, mode=None):
    """Writes a picture and gives its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture() if image is None else image, mode).save(path)
    return path


def folder_of(root, sizes=SIZES):
    """A folder of pictures of those sizes."""
    for i, size in enumerate(sizes):
        save(root / f"{i}.png", picture(*size, seed=i))
    return root


def write_sets():
    """Writes a bit of everything to the current folder: sets good and bad, and weights."""
    save(Path("good/a.png"))
    save(Path("good/b.png"), picture(seed=1))
    whole = Path("good/b.png").read_bytes()
    for folder in ("mixed", "damaged"):
        Path(folder).mkdir()
        Path(folder, "cut.png").write_bytes(whole[: len(whole) // 2])
        Path(folder, "text.png").write_text("no image")
    Path("mixed/a.png").write_bytes(Path("good/a.png").read_bytes())
    save(Path("mixed/dot.png"), np.zeros((1, 1, 3), np.uint8))
    save(Path("dot/dot.png"), np.zeros((1, 1, 3), np.uint8))
    save(Path("misfit/0001.png"))
    save(Path("misfit/0001x2.png"), picture(20, 24))
    save(Path("x4/0001.png"))
    save(Path("x4/0001x4.png"), picture(10, 12))
    for folder in ("empty", "workdir"):
        Path(folder).mkdir()
    Path("notes").mkdir()
    Path("notes/text.txt").write_text("no image")
    save_weights("x2.safetensors", CONFIG, network()[1])
    Path("cut.safetensors").write_bytes(Path("x2.safetensors").read_bytes()[:2000])
    Path("text.safetensors").write_text("no weights")
