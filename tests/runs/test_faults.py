"""What happens to machines: kills, full disks, damaged files, and runs that go on for days."""

import hashlib
import io
import itertools
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import psutil
import pytest
from PIL import Image

from tests.fuzz import mutated
from tests.runs.whole_runs import batches_of, state_of
from tests.tiny import tiny_config, write_photo
from wdsr_jax.data import load_data
from wdsr_jax.data.pipeline import training_batches
from wdsr_jax.errors import UserError
from wdsr_jax.models import create_model
from wdsr_jax.training import checkpoints, loop
from wdsr_jax.training.loop import train_and_evaluate
from wdsr_jax.training.step import init_params
from wdsr_jax.training.workdir import start_workdir
from wdsr_jax.weights.conversion import convert
from wdsr_jax.weights.store import load_pretrained, save_weights

ROOT = Path(__file__).parents[2]
MODEL = {"name": "wdsr_a", "scale": 2, "filters": 4, "blocks": 1}


# --- kills ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_fifty_times_at_random(tmp_path, launch):
    """SIGKILL at 50 moments drawn uniformly from the life of a process: starting, stepping, saving."""
    assert launch("whole", 1, 0).wait(300) == 0
    rng, alive = random.Random(7), 0
    began = time.monotonic()
    process = launch("timed", 1, 0)
    assert process.wait(300) == 0
    lifetime = time.monotonic() - began
    for _ in range(50):
        process = launch("killed", 1, 0)
        try:
            process.wait(rng.uniform(0, lifetime))
        except subprocess.TimeoutExpired:
            alive += 1
        process.kill()
        process.wait()
    assert launch("killed", 1, 0).wait(300) == 0, (tmp_path / "killed.out").read_text()[-2000:]
    # Early kills come before the first checkpoint; late ones find a run that is done.
    assert alive > 10
    assert batches_of(tmp_path / "killed.log") == batches_of(tmp_path / "whole.log")
    (step, state), (whole_step, whole) = state_of(tmp_path / "killed"), state_of(tmp_path / "whole")
    assert step == whole_step
    jax.tree.map(np.testing.assert_array_equal, state, whole)
    out = (tmp_path / "killed.out").read_text()
    assert "damaged" not in out and "Traceback" not in out


# --- the folder of a run, and its images ----------------------------------------------------------


def test_a_second_run_in_one_workdir_is_refused(tmp_path):
    with start_workdir(tmp_path / "run", {"model": {}}):
        with (
            pytest.raises(
                UserError, match=r"--workdir=.*run: another run is at work in it; wait for its end"
            ),
            start_workdir(tmp_path / "run", {"model": {"name": "other"}}),
        ):
            pass
        assert '"other"' not in (tmp_path / "run/config.json").read_text()
    with start_workdir(tmp_path / "run", {"model": {}}):
        pass


@pytest.mark.ci  # tests/system/test_locks.py has it for the lock by itself
def test_the_lock_ends_with_its_process(tmp_path):
    code = "import sys, time; from pathlib import Path; from wdsr_jax.training.workdir import start_workdir\n"
    code += "with start_workdir(Path(sys.argv[1]), {}): print('locked', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout.readline() == b"locked\n"
    with pytest.raises(UserError, match="another run"), start_workdir(tmp_path, {}):
        pass
    process.kill()
    process.wait()
    with start_workdir(tmp_path, {}):
        pass


def damage_images(folder, cache):
    (folder / "photo0.png").write_bytes(b"not an image any more")
    (folder / "photo1.png").unlink()
    write_photo(folder / "photo2.png", seed=77)
    shutil.rmtree(cache)


def test_images_that_change_or_go_change_no_batch(tmp_path, photos):
    digests = []
    for name in ("whole", "changed"):
        folder, cache = tmp_path / f"photos-{name}", tmp_path / f"cache-{name}"
        shutil.copytree(photos, folder)
        dataset, _ = load_data("folder", scale=2, root=str(folder), cache_dir=cache)
        batches = training_batches(dataset, patch_size=8, batch_size=4, seed=0)
        digests.append(hashlib.sha256())
        for i, batch in enumerate(itertools.islice(batches, 12)):
            if i == 2 and name == "changed":
                damage_images(folder, cache)
            digests[-1].update(batch["lr"].tobytes() + batch["hr"].tobytes())
        batches.close()
        assert cache.exists() == (name == "whole")
    assert digests[0].digest() == digests[1].digest()


@pytest.mark.ci
@pytest.mark.usefixtures("compile_cache")
def test_images_that_change_or_go_while_training_change_nothing(tmp_path, photos, monkeypatch):
    """They have been decoded into the cache, which is mapped: even deleted it stays until the run ends."""
    digests = []
    for name in ("whole", "changed"):
        folder, cache = tmp_path / f"photos-{name}", tmp_path / f"cache-{name}"
        shutil.copytree(photos, folder)
        original = loop.training_batches

        def batches(*args, original=original, folder=folder, cache=cache, **options):
            for i, batch in enumerate(original(*args, **options)):
                if i == 2 and "changed" in folder.name:
                    damage_images(folder, cache)
                yield batch

        monkeypatch.setattr(loop, "training_batches", batches)
        assert train_and_evaluate(tiny_config(folder, cache), tmp_path / name) == 0
        monkeypatch.setattr(loop, "training_batches", original)
        _, state = state_of(tmp_path / name)
        leaves = jax.tree.leaves(state)
        digests.append(hashlib.sha256(b"".join(np.ascontiguousarray(leaf) for leaf in leaves)).hexdigest())
    assert digests[0] == digests[1]


# --- damaged files --------------------------------------------------------------------------------


def mutated_images(folder: Path, count: int) -> list[Path]:
    rng = random.Random(3)
    pixels = np.random.default_rng(3).integers(0, 256, (24, 20, 4), np.uint8)
    paths = []
    for i in range(count):
        image_format = ("PNG", "JPEG", "TIFF", "WEBP")[i % 4]
        buffer = io.BytesIO()
        depth = 3 if image_format == "JPEG" or i % 8 < 4 else 4
        Image.fromarray(pixels[..., :depth]).save(buffer, image_format)
        paths.append(folder / f"{i:03}.{image_format.lower()}")
        paths[-1].write_bytes(mutated(buffer.getvalue(), rng))
    return paths


def run(*arguments, timeout):
    """Exit code, stderr and peak memory in GB of a command of this package."""
    code = "import resource, sys; from runpy import run_module; from contextlib import suppress\n"
    code += "sys.argv = sys.argv[1:]\n"
    code += "try: run_module(sys.argv[0], run_name='__main__')\n"
    code += "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    *lines, peak = result.stderr.strip().splitlines()
    return result.returncode, "\n".join(lines), int(peak) / 1e6


@pytest.mark.slow
def test_500_damaged_images_are_enlarged_or_named(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    paths = mutated_images(folder, 500)
    module = create_model(MODEL)
    save_weights(tmp_path / "m.safetensors", MODEL, init_params(module, 0))
    model = f"--model={tmp_path / 'm.safetensors'}"
    code, err, peak = run("wdsr_jax.upscale", folder, f"--out={out}", "--scale=2", model, timeout=500)
    done = {path.stem for path in out.iterdir()}
    assert code == 1 and "Traceback" not in err
    assert 50 < len(done) < 450
    failed = "\n".join(line for line in err.splitlines() if "not kept:" not in line)
    for path in paths:
        assert (path.stem in done) != (path.name in failed), path.name
    assert not list(out.glob("*.tmp"))
    assert peak < 2, peak


@pytest.mark.slow
def test_500_damaged_images_do_not_stop_the_cache(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    paths = mutated_images(folder, 500)
    write_photo(folder / "whole.png", seed=1)
    code = (
        "import sys; from wdsr_jax.data import load_data; from wdsr_jax.system.console import run_command\n"
    )
    code += "def main():\n"
    code += "    train, val = load_data('folder', scale=2, root=sys.argv[1], cache_dir=sys.argv[2])\n"
    code += "    print(*train.names, *val.names)\nrun_command(main)"
    result = subprocess.run(
        [sys.executable, "-c", code, folder, tmp_path / "cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0 and "Traceback" not in result.stderr
    used = set(result.stdout.split())
    assert "whole" in used and 50 < len(used) < 450
    for path in paths:
        assert (path.stem in used) or (path.name in result.stderr), path.name


def weight_files(folder: Path, shared: Path) -> dict[str, bytes]:
    module = create_model(MODEL)
    save_weights(folder / "own.safetensors", MODEL, init_params(module, 0))
    files = {".safetensors": (folder / "own.safetensors").read_bytes()}
    for path in (shared / "weights").glob("*"):
        files["".join(path.suffixes[-2:]) if path.suffix == ".tar" else path.suffix] = path.read_bytes()
    return files


@pytest.mark.slow
def test_200_damaged_weight_files(tmp_path, shared):
    """Converted and loaded, or refused in one line that names the file; the memory is bounded."""
    files, rng = weight_files(tmp_path, shared), random.Random(5)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for i in range(200):
        suffix = list(files)[i % len(files)]
        path = tmp_path / f"damaged{suffix}"
        path.write_bytes(mutated(files[suffix], rng))
        for read in (load_pretrained, lambda path: convert(path, tmp_path / "out.safetensors")):
            try:
                read(path)
            except UserError as error:
                refused += 1
                assert str(path) in str(error) and "\n" not in str(error)
    assert refused > 50
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KB


# --- days -----------------------------------------------------------------------------------------


def soak(workdir: Path, photos: Path, cache: Path, cycles: int) -> dict[str, list[float]]:
    """Trains with a checkpoint and a validation each step; memory (MB), open files and threads over time."""
    process = psutil.Process()
    measured: dict[str, list[float]] = {"step": [], "memory": [], "files": [], "threads": []}
    save = checkpoints.save

    def measuring_save(manager, state, step, *args):
        if step % max(1, cycles // 100) == 0:
            values = step, process.memory_info().rss / 1e6, process.num_fds(), threading.active_count()
            for name, value in zip(measured, values, strict=True):
                measured[name].append(value)
        return save(manager, state, step, *args)

    config = tiny_config(photos, cache)
    config.train.update(steps=cycles, eval_every=1, checkpoint_every=1, log_every=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "save", measuring_save)
        assert train_and_evaluate(config, workdir) == 0
    return measured


@pytest.mark.slow
@pytest.mark.usefixtures("compile_cache")
def test_2000_checkpoints_and_validations_leak_nothing(tmp_path, photos, image_cache):
    measured = soak(tmp_path / "run", photos, image_cache, 2000)
    plot(measured, Path(os.environ.get("SOAK_PLOT", tmp_path / "soak.png")))
    half = len(measured["step"]) // 2  # the first half warms up: compilations, allocators, caches
    # Values go up and down with the saves in progress; what leaks goes up with the cycles. Orbax 0.12.8 keeps
    # 40 to 50 kB a save by itself: its CheckpointManager alone, in a loop, does so.
    for name, bound in {"memory": 70, "files": 5, "threads": 2}.items():
        slope, _ = np.polyfit(measured["step"][half:], measured[name][half:], 1)
        assert slope * 1000 < bound, f"{name}: {slope * 1000:.1f} in 1000 cycles"
    assert max(measured["files"]) < 100 and max(measured["threads"]) < 100


def plot(measured: dict[str, list[float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
    for axis, (name, label) in zip(
        axes,
        {"memory": "resident memory, MB", "files": "open files", "threads": "threads"}.items(),
        strict=True,
    ):
        axis.plot(measured["step"], measured[name])
        axis.set(xlabel="checkpoints and validations", ylabel=label, ylim=(0, 1.2 * max(measured[name])))
    figure.savefig(path, dpi=100)
    plt.close(figure)
