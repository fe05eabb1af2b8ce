"""Long runs, watched from outside: resident memory, open files and threads over time, and what they grow by.

python -m tests.runs.long [--plot=FILE.png] [--divide=N]

- training: 20,000 steps of a tiny network with 200 checkpoints and 20 validations;
- upscale: 3,000 small pictures in one command;
- cache: 3,000 small pictures decoded for training, and one step.

--divide makes all of it N times as short. Prints a table in Markdown; a quarter of an hour on two cores.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from tests.tiny import write_photo
from wdsr_jax.models import create_model
from wdsr_jax.training.step import init_params
from wdsr_jax.weights.store import save_weights

ROOT = Path(__file__).parents[2]
MODEL = {"name": "wdsr_a", "scale": 2, "filters": 4, "blocks": 1}
STEPS, PICTURES = 20_000, 3_000
TINY = [
    *("--config=configs/quickstart.py", "--config.data.source=folder", "--config.data.patch_size=8"),
    *("--config.data.batch_size=4", "--config.model.filters=4", "--config.model.blocks=1"),
    *("--config.train.warmup_steps=1", "--config.train.log_every=100"),
]
MEASURES = {"memory": "resident memory, MB", "files": "open files", "threads": "threads"}


class Samples(NamedTuple):
    """What was seen of a process: seconds since its start, MB, counts."""

    seconds: list[float]
    memory: list[float]
    files: list[float]
    threads: list[float]

    def growth(self, measure: str) -> float:
        """By the slope from the middle to 9 tenths of the time, over half of it: then the process ends."""
        middle = slice(len(self.seconds) // 2, len(self.seconds) * 9 // 10)
        slope, _ = np.polyfit(self.seconds[middle], getattr(self, measure)[middle], 1)
        return float(slope * self.seconds[-1] / 2)


def watch(command: list[str]) -> Samples:
    """Runs a command to its end and looks at its process twice a second.

    Raises:
        RuntimeError: it failed.
    """
    samples, began = Samples([], [], [], []), time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, stdout=said, stderr=said)
        seen = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                values = seen.memory_info().rss / 1e6, seen.num_fds(), seen.num_threads()
            except psutil.Error:  # it has just ended
                break
            for values_so_far, value in zip(samples, (time.monotonic() - began, *values), strict=True):
                values_so_far.append(value)
            time.sleep(0.5)
        if process.wait() != 0:
            said.seek(0)
            raise RuntimeError(said.read().decode()[-2000:])
    return samples


def runs(folder: Path, divide: int) -> dict[str, tuple[list[str], int, str]]:
    """By name: the command, how many things it does, and what these are."""
    steps, pictures = STEPS // divide, PICTURES // divide
    for name, count in {"six": 6, "many": pictures}.items():
        (folder / name).mkdir()
        for i in range(count):
            write_photo(folder / name / f"{i:05}.png", seed=i % 50)
    model = folder / "model.safetensors"
    save_weights(model, MODEL, init_params(create_model(MODEL), 0))

    def training(photos: str, steps: int, checkpoint_every: int, eval_every: int) -> list[str]:
        options = [f"--config.data.root={folder / photos}", f"--config.data.cache_dir={folder / 'cache'}"]
        options += [f"--config.train.steps={steps}", f"--config.train.checkpoint_every={checkpoint_every}"]
        options += [f"--config.train.eval_every={eval_every}", f"--workdir={folder / photos}-run"]
        return ["wdsr_jax.main", *TINY, *options]

    upscale = ["wdsr_jax.upscale", str(folder / "many"), f"--out={folder / 'out'}", f"--model={model}"]
    return {
        "training": (training("six", steps, steps // 200, steps // 20), steps, "steps"),
        "upscale": ([*upscale, "--scale=2"], pictures, "pictures"),
        "cache": (training("many", 1, 1, 1), pictures, "pictures"),
    }


def plot(measured: dict[str, Samples], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(measured), 3, figsize=(11, 2.6 * len(measured)), layout="constrained")
    for row, (name, samples) in zip(axes, measured.items(), strict=True):
        for axis, (measure, label) in zip(row, MEASURES.items(), strict=True):
            values = getattr(samples, measure)
            axis.plot(samples.seconds, values)
            axis.set(xlabel=f"{name}: seconds", ylabel=label, ylim=(0, 1.2 * max(values)))
    figure.savefig(path, dpi=100)


def row(name: str, samples: Samples, count: int, things: str) -> str:
    """A line of the table; what grows does so by so much in 1,000 things."""
    cells = [f"{name}, {count:,} {things}", f"{samples.seconds[-1]:.0f}"]
    for measure in MEASURES:
        growth = samples.growth(measure) / (count / 2) * 1000
        cells.append(f"{max(getattr(samples, measure)):.0f}, {growth:+.1f} in 1,000")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.runs.long")
    parser.add_argument("--plot", type=Path, default=Path("long.png"))
    parser.add_argument("--divide", type=int, default=1, help="make all of it so many times as short")
    args = parser.parse_args()
    measured = {}
    print(f"| run | seconds | {' | '.join(MEASURES.values())} |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, (command, count, things) in runs(Path(folder), args.divide).items():
            measured[name] = watch(command)
            print(row(name, measured[name], count, things), flush=True)
    plot(measured, args.plot)


if __name__ == "__main__":
    main()
