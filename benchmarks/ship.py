"""Adds a run's best weights to the package: python -m benchmarks.ship RUN NAME DIR ...

RUN is a workdir, NAME such as wdsr-a-4-x2, each DIR a set of `wdsr_jax.evaluate`, whose scores go into the
metadata. Kernels become float16. Besides the file, its line of pretrained/SHA256SUMS and its entry in
tests/weights/pretrained.json are written, which the tests hold it to.
"""

import argparse
import hashlib
import json
from fractions import Fraction
from pathlib import Path

import numpy as np

import wdsr_jax
from wdsr_jax.data.sample import sample_files
from wdsr_jax.errors import UserError
from wdsr_jax.evaluation.benchmark import evaluate
from wdsr_jax.evaluation.examples import examples_of_folders
from wdsr_jax.image.files import read_image
from wdsr_jax.system.compilation import enable_compilation_cache
from wdsr_jax.system.console import run_command
from wdsr_jax.system.files import write_whole
from wdsr_jax.weights.files import find_weights
from wdsr_jax.weights.safetensors_files import write_safetensors
from wdsr_jax.weights.store import read_safetensors

SHIPPED = Path(wdsr_jax.__file__).parent / "pretrained"
SUMS = SHIPPED / "SHA256SUMS"
STATED = Path(__file__).parents[1] / "tests/weights/pretrained.json"
_LARGEST = {"space": 3_000_000, "other": 2_600_000}  # bytes of a file; a space is two networks
PART = (84, 120, 72)  # y, x and side of the part of `chelsea` that tests measure: an eye
_TRAINED_ON = (
    "478 photographs under CC0, Unsplash, Pexels, CC-BY-SA, Free Art and BSD terms; 20 others to validate on"
)


def largest(name: str) -> int:
    """How many bytes a file of that name may have."""
    return _LARGEST["space" if "-space-" in name else "other"]


def chelsea() -> np.ndarray:
    """The photograph that stated PSNR is measured on; no training has seen it."""
    return read_image(next(path for path in sample_files()[1] if path.stem == "chelsea"))


def part_of(image: np.ndarray) -> np.ndarray:
    """`PART` of an image."""
    y, x, side = PART
    return image[y : y + side, x : x + side]


def psnr_of(name: str, hr: np.ndarray) -> float:
    """PSNR-Y of a shipped network on `hr` (H, W, 3), made small by bicubic."""
    model, params = wdsr_jax.load_pretrained(name)
    height, width = (side // model.scale * model.scale for side in hr.shape[:2])
    hr = hr[:height, :width]
    sr = wdsr_jax.upscale(model, params, wdsr_jax.imresize(hr, Fraction(1, model.scale)))
    return wdsr_jax.psnr(sr, hr, scale=model.scale)


def pack(run: Path, path: Path, steps: int, folders: list[str]) -> None:
    """Writes the weights of a run with kernels in float16, and what they are and score in the metadata.

    Raises:
        UserError: the run has no weights, or the file would be larger than `largest` allows.
    """
    metadata, tensors = read_safetensors(find_weights(run))
    tensors = {
        name: tensor.astype(np.float16) if name.endswith("kernel") else tensor
        for name, tensor in tensors.items()
    }
    about = {"model": metadata["model"], "steps": str(steps), "trained_on": _TRAINED_ON}
    about["licence"] = "Apache-2.0"
    write_safetensors(path, tensors, about)  # without scores, to measure them
    module, params = wdsr_jax.load_pretrained(path)
    scores = {}
    for name, examples in examples_of_folders(folders, module.scale).items():
        result = evaluate(examples, module.scale, module, params, bicubic=False, label=name)["model"]
        scores[name] = {key: round(result[key], 4) for key in ("psnr_y", "ssim_y")}
    write_safetensors(path, tensors, about | {"scores": json.dumps(scores)})
    print(f"{path.name}: {path.stat().st_size:,} bytes, {scores}")
    if path.stat().st_size > (most := largest(path.name)):
        raise UserError(f"{path}: more than {most:,} bytes")


def state(name: str) -> None:
    """Writes the checksum of all shipped files, and what `name` scores on `chelsea`."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(SHIPPED.glob("*.safetensors"))
    ]
    write_whole(SUMS, "".join(lines).encode())
    hr = chelsea()
    scores = {"chelsea": round(psnr_of(name, hr), 3), "part": round(psnr_of(name, part_of(hr)), 3)}
    stated = json.loads(STATED.read_text()) | {name: scores}
    write_whole(STATED, (json.dumps(dict(sorted(stated.items())), indent=1) + "\n").encode())


def main() -> None:
    """Reads the command line and writes the files."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ship", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="workdir of the training")
    parser.add_argument("name", metavar="NAME", help="such as wdsr-a-4-x2")
    parser.add_argument("folders", nargs="+", metavar="DIR", help="one folder a set, such as Set5")
    parser.add_argument("--steps", type=int, help="that were trained (default: by the run's config)")
    options = parser.parse_args()
    enable_compilation_cache()
    steps = options.steps or json.loads((options.run / "config.json").read_text())["train"]["steps"]
    pack(options.run, SHIPPED / f"{options.name}.safetensors", steps, options.folders)
    state(options.name)


if __name__ == "__main__":
    run_command(main)
