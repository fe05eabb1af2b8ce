"""The benches of whole commands: each call is a new process, from its start to its end."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from PIL import Image

import wdsr_jax
from benchmarks import networks
from benchmarks.compute import Setting
from benchmarks.report import OURS, Row, compare
from benchmarks.rounds import progress
from wdsr_jax.errors import UserError
from wdsr_jax.weights.store import save_weights

_SET14 = Path(__file__).parents[2] / "shared/data/benchmarks/Set14/image_SRF_2"
_LIBRARIES = {"pytorch": "PyTorch", "onnx": "ONNX Runtime"}


def _run(command: Sequence[str], setting: Setting, cache: Path) -> tuple[float, float]:
    """Wall seconds of a command and its peak resident memory in bytes; RuntimeError where it fails."""
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(setting.threads))
    environment = {**os.environ, **counts, "XDG_CACHE_HOME": str(cache)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, *command], stdout=errors, stderr=errors, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(errors.read().decode(errors="replace").strip().splitlines()[-1])
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _in_turns(
    title: str,
    commands: Mapping[str, tuple[Sequence[str], Path]],
    setting: Setting,
    rounds: int,
    before: Callable[[str], None] = lambda name: None,
) -> dict[str, list[tuple[float, float]]]:
    """Runs each command once unmeasured, so that files are in memory, then `rounds` times in turns."""
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    setting.say(f"{title}: {rounds + 1} rounds of {', '.join(commands)}, the first unmeasured")
    start = time.monotonic()
    for i in range(rounds + 1):
        if i:
            setting.say(progress(i, rounds + 1, measured, start))
        for name in list(measured):
            before(name)
            try:
                result = _run(*commands[name][:1], setting, commands[name][1])
            except RuntimeError as error:
                setting.say(f"{name} is left out: {error}")
                del measured[name]
                continue
            if i:
                measured[name].append(result)
    return measured


def _rows(
    bench: str, work: str, measured: Mapping[str, list[tuple[float, float]]], flop: float | None = None
) -> list[Row]:
    rows = []
    for name, runs in measured.items():
        times = [seconds for seconds, _ in runs]
        median = statistics.median(times)
        gflops = flop / median / 1e9 if flop else None
        rows.append(Row(bench, work, name, "float32", median, "s", median, min(times), gflops))
    return compare(rows)


def _write_network(folder: Path, setting: Setting) -> tuple[dict[str, str], dict]:
    """A network for x2 as each contender wants it: by contender the file, and its config."""
    folder.mkdir(exist_ok=True)
    if setting.quick:
        model = networks.quick_model(dict(networks.WDSR_A, scale=2), True)
        params = networks.draw_params(model)
    else:  # the default of the command
        module, tree = wdsr_jax.load_pretrained("wdsr-a-16-x2")
        model = dict(networks.WDSR_A, scale=2, mean=module.mean)
        params = flatten_dict(jax.device_get(tree), sep=".")
    tree = unflatten_dict(params, sep=".")
    files = {OURS: str(folder / "network.safetensors")}
    save_weights(files[OURS], model, tree)
    folded = flatten_dict(jax.device_get(wdsr_jax.fold_weight_norm(tree)), sep=".")
    plain = {**model, "norm": "none"}
    try:
        import torch

        from benchmarks.pytorch import torch_params

        fields = {**plain, "mean": list(plain.get("mean", (0.4488, 0.4371, 0.4040)))}
        torch.save({"model": fields, "params": torch_params(folded, 2)}, folder / "network.pt")
        files["pytorch"] = str(folder / "network.pt")
    except ImportError as error:
        setting.say(f"PyTorch is left out: {error}")
    try:
        (folder / "network.onnx").write_bytes(networks.onnx_bytes(plain, folded))
        files["onnx"] = str(folder / "network.onnx")
    except (ImportError, UserError) as error:  # no onnx or no onnxruntime
        setting.say(f"ONNX Runtime is left out: {error}")
    return files, plain


def cold(setting: Setting) -> Iterator[Row]:
    """The `upscale` command with an empty and with a full cache of compilations.

    On one image of 512x512, and on a folder of ten images of ten sizes, 0.32 megapixels in all.
    """
    side = 24 if setting.quick else 512
    sizes = [((16 + 9 * i, 30 - 2 * i) if setting.quick else (120 + 12 * i, 240 - 12 * i)) for i in range(10)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files, model = _write_network(folder, setting)
        yield from _cold(setting, files, model, folder / "one", [(side, side)], f"{side}x{side}")
        yield from _cold(setting, files, model, folder / "ten", sizes, "a folder of 10 sizes")


def _cold(
    setting: Setting,
    files: Mapping[str, str],
    model: Mapping[str, Any],
    folder: Path,
    sizes: Sequence[tuple[int, int]],
    work: str,
) -> Iterator[Row]:
    images = folder / "images"
    images.mkdir(parents=True)
    for i, size in enumerate(sizes):
        Image.fromarray((_smooth(*size) * 255).astype(np.uint8)).save(images / f"{i}.png")
    out = {name: folder / name for name in ("empty", "full", *_LIBRARIES)}
    ours = ["-m", "wdsr_jax.upscale", "--scale=2", "--overwrite", str(images), f"--model={files[OURS]}"]
    commands = {
        f"{OURS}, {name} cache": ([*ours, f"--out={out[name]}"], folder / f"cache-{name}")
        for name in ("empty", "full")
    }
    for kind, library in _LIBRARIES.items():
        if kind in files:
            script = ["-m", "benchmarks.script_upscale", kind, files[kind], str(images), str(out[kind])]
            commands[f"{library} script"] = script, folder

    def empty(name: str) -> None:
        if "empty" in name:
            shutil.rmtree(folder / "cache-empty", ignore_errors=True)

    rounds = 1 if setting.quick else min(5, setting.rounds)
    title = f"{networks.title(model)}, {work}, new process"
    measured = _in_turns(f"cold: {title}", commands, setting, rounds, empty)
    for i in range(len(sizes)):
        _check_images([path / f"{i}.png" for path in out.values() if path.exists()])
    flop = networks.operations(model, training=False) * sum(height * width for height, width in sizes)
    yield from _rows("cold", title, measured, flop)


def _smooth(height: int, width: int) -> np.ndarray:
    """A picture without noise, (H, W, 3) in [0, 1], that PNG neither stores nor expands in no time."""
    y, x = np.mgrid[:height, :width] / 40
    return np.stack([0.5 + 0.4 * np.sin(x * (i + 1) + np.cos(y) * 2) * np.cos(y) for i in range(3)], axis=-1)


def _check_images(paths: Sequence[Path]) -> None:
    images = [np.asarray(Image.open(path), int) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if np.abs(image - images[0]).max() > 1:
            raise ValueError(f"{path.stem} computes another image than {paths[0].stem}")


def evaluate(setting: Setting) -> Iterator[Row]:
    """Set14 at x2, 14 images of as many sizes, in a new process with an empty and with a full cache."""
    if not _SET14.is_dir() and not setting.quick:
        setting.say(f"evaluate is left out: no {_SET14}")
        return
    rounds = 1 if setting.quick else min(3, setting.rounds)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files, model = _write_network(folder, setting)
        images = _SET14
        if setting.quick:
            images = folder / "set"
            images.mkdir()
            for i, side in enumerate((24, 32)):
                hr = Image.fromarray((_smooth(2 * side, 2 * side) * 255).astype(np.uint8))
                hr.save(images / f"img_00{i}_SRF_2_HR.png")
                hr.resize((side, side)).save(images / f"img_00{i}_SRF_2_LR.png")
        pixels = sum(w * h for w, h in (Image.open(path).size for path in images.glob("*_LR.png")))
        ours = ["-m", "wdsr_jax.evaluate", "--scale=2", f"--model={files[OURS]}"]
        commands = {
            f"{OURS}, {which} cache": ([*ours, f"--out={folder / which}.json", str(images)], folder / which)
            for which in ("empty", "full")
        }
        if "pytorch" in files:
            script = ["-m", "benchmarks.script_evaluate", files["pytorch"], "2", str(images)]
            commands["PyTorch script"] = [*script, str(folder / "theirs.json")], folder

        def empty(name: str) -> None:
            if "empty" in name:
                subprocess.run(["rm", "-rf", str(folder / "empty")], check=True)

        title = f"{networks.title(model)}, {'Set14' if images == _SET14 else '2 images'}, new process"
        measured = _in_turns(f"evaluate: {title}", commands, setting, rounds, empty)
        if "PyTorch script" in measured:
            _check_scores(folder)
        flop = networks.operations(model, training=False) * pixels
        yield from _rows("evaluate", title, measured, flop)


def _check_scores(folder: Path) -> None:
    result = next(iter(json.loads((folder / "full.json").read_text()).values()))
    ours = [result["model"][key] for key in ("psnr_y", "ssim_y", "psnr_rgb", "ssim_ntire")]
    theirs = json.loads((folder / "theirs.json").read_text())["network"]
    if not np.allclose(ours, theirs, atol=1e-2):
        raise ValueError(f"the PyTorch script measures something else: {theirs} against {ours}")


def memory(setting: Setting) -> Iterator[Row]:
    """Peak resident memory of the `upscale` command on one and on 24 megapixels, at x2."""
    sizes = ((16, 16), (100, 150)) if setting.quick else ((1000, 1000), (4000, 6000))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files, model = _write_network(folder, setting)
        pace = 0.0  # seconds a pixel
        for height, width in sizes:
            work = f"{networks.title(model)}, {width}x{height}, peak resident"
            left = f": at most {pace * height * width:.0f} s left" if pace else ""
            setting.say(f"memory: {work}{left}")
            image, out = folder / "image.png", folder / "out.png"
            Image.fromarray((_smooth(height, width) * 255).astype(np.uint8)).save(image)
            command = ["-m", "wdsr_jax.upscale", "--scale=2", "--overwrite", str(image)]
            command += [f"--model={files[OURS]}", f"--out={out}"]
            seconds, peak = _run(command, setting, folder / "cache")
            gflops = networks.operations(model, training=False) * height * width / seconds / 1e9
            pace = seconds / (height * width)
            yield Row("memory", work, OURS, "float32", peak / 1e9, "GB", seconds, seconds, gflops)
