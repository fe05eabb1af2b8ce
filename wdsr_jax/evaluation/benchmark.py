"""Benchmark evaluation: PSNR and SSIM of a network and of bicubic, by the papers' protocols.

python -m wdsr_jax.evaluate --model=bicubic|WORKDIR|FILE|NAME --scale=S [--shift=N] [--out=FILE.json]
    DIR [DIR ...]

Each DIR is a set: HR images alone (LR is made by MATLAB's bicubic), or with LR images beside them, in the
naming of DIV2K (0001.png, 0001x2.png) or of SelfExSR (img_001_SRF_2_HR.png, img_001_SRF_2_LR.png). At scale 1
LR images must be there (in folders HR and LR, say), and what is called bicubic is the LR image as it is.

FILE.json gets `{"SET": {"bicubic": SCORES, "model": SCORES, "images": [{"name", "bicubic", "model"}, ...]}}`,
where SCORES are `{"psnr_y", "ssim_y", "psnr_rgb", "ssim_ntire"}`: PSNR and SSIM by protocol `y`, then by
protocol `ntire` (see `metrics`). A score that does not exist is null: the image is too small, or PSNR is
infinite. With --model=bicubic the model is bicubic: "model" repeats "bicubic". Images that could not be read
are in no average; "left_out" then has their names.

--shift=N is for pairs that do not lie on each other, such as those of NTIRE 2018's realistic tracks. SCORES
then have `psnr_shift` and `ssim_shift`, by protocol `ntire_shift` (see `alignment`): at the best of all
shifts of up to N HR pixels, which is `shift_y` and `shift_x` (down and right from HR to SR). The table leaves
out the SSIM of pairs as they are.
"""

import json
import math
import os
import tempfile
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from absl import logging
from tqdm import tqdm

from wdsr_jax.data.dataset import Pairs
from wdsr_jax.data.names import Pair, check_pair_sizes, find_pairs, image_size, set_name
from wdsr_jax.errors import UserError
from wdsr_jax.image.alignment import align, best_shift
from wdsr_jax.image.files import read_image, to_float, to_uint8
from wdsr_jax.image.metrics import TooSmallError, psnr, ssim
from wdsr_jax.image.resize import imresize
from wdsr_jax.inference.network import Batch, apply_batches, fold_for_inference
from wdsr_jax.system import distributed
from wdsr_jax.system.compilation import keep_compilations
from wdsr_jax.system.console import ArgumentParser
from wdsr_jax.system.files import write_whole
from wdsr_jax.weights.store import load_pretrained

# Compilations a set costs at most: images are padded to this many shapes.
MAX_SHAPES = 6
# Images being scored at once; each that waits holds LR, HR and SR in memory.
_THREADS = min(16, os.cpu_count() or 1)
_MANY_SHAPES = 100

# "psnr_y", "ssim_y" (protocol y), "psnr_rgb", "ssim_ntire" (protocol ntire); "psnr_shift", "ssim_shift",
# "shift_y", "shift_x" (protocol ntire_shift) where they were asked for.
Scores = dict[str, float | None]


class Example(NamedTuple):
    """An image to measure on.

    Attributes:
        name: for tables.
        lr_shape: (H, W) of the LR image.
        load: gives LR (H, W, 3) and HR (H * scale, W * scale, 3), uint8.
    """

    name: str
    lr_shape: tuple[int, int]
    load: Callable[[], tuple[np.ndarray, np.ndarray]]


def examples_of_pairs(pairs: Pairs) -> list[Example]:
    """The images of a validation set."""
    return [
        Example(name, shape, lambda i=i: pairs[i])
        for i, (name, shape) in enumerate(zip(pairs.names, pairs.lr_shapes, strict=True))
    ]


def examples_of_folder(folder: str | os.PathLike, scale: int) -> list[Example]:
    """The images of a benchmark set on disk; HR is cropped to a multiple of `scale` before LR is made.

    Only the headers of the files are read here. What cannot be measured (damage, fewer than `scale` pixels a
    side) is found out when it is loaded, and left out then.

    Raises:
        UserError: no such folder, LR images that do not fit (or are missing, at scale 1), or no file in it
            that is an image large enough.
    """
    files = find_pairs(folder, scale)
    try:
        check_pair_sizes(files, scale)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None  # it names images, of which set it cannot know
    if scale == 1 and files[0].lr is None:
        raise UserError(f"{folder}: no LR images beside the HR; at scale 1 they cannot be made from HR")
    sizes = [image_size(file.hr) or (0, 0) for file in files]
    if all(min(size) < scale for size in sizes):
        raise UserError(f"{folder}: no image in it that can be read and has {scale} pixels a side")
    return [_example_of_pair(file, size, scale) for file, size in zip(files, sizes, strict=True)]


def _example_of_pair(file: Pair, size: tuple[int, int], scale: int) -> Example:
    height, width = (side // scale for side in size)

    def load() -> tuple[np.ndarray, np.ndarray]:
        hr = read_image(file.hr)[: height * scale, : width * scale]
        if not hr.size:
            raise UserError(f"{file.hr}: too small for x{scale}")
        if file.lr is None:
            return imresize(hr, Fraction(1, scale)), hr
        return read_image(file.lr)[:height, :width], hr

    return Example(file.name, (max(1, height), max(1, width)), load)


def padded_shapes(shapes: Sequence[tuple[int, int]], at_most: int = MAX_SHAPES) -> list[tuple[int, int]]:
    """For each of `shapes` (H, W) the shape it is padded to: few different ones, and few pixels added.

    Starts with every shape by itself and merges, again and again, the two groups whose union adds the
    fewest pixels. Where the shapes are very many, near ones are merged beforehand, to be done in a second.
    """
    grid = 1
    while len({(h // grid, w // grid) for h, w in shapes}) > _MANY_SHAPES:
        grid *= 2
    cells = defaultdict(list)
    for i, (h, w) in enumerate(shapes):
        cells[h // grid, w // grid].append(i)
    groups = {
        (max(shapes[i][0] for i in members), max(shapes[i][1] for i in members)): members
        for members in cells.values()
    }
    while len(groups) > at_most:

        def added(a: tuple[int, int], b: tuple[int, int]) -> int:
            height, width = max(a[0], b[0]), max(a[1], b[1])
            areas = len(groups[a]) * a[0] * a[1] + len(groups[b]) * b[0] * b[1]
            return (len(groups[a]) + len(groups[b])) * height * width - areas

        a, b = min(((a, b) for a in groups for b in groups if a < b), key=lambda pair: (added(*pair), pair))
        members = groups.pop(a) + groups.pop(b)
        union = (max(a[0], b[0]), max(a[1], b[1]))
        groups[union] = groups.get(union, []) + members
    target = {i: shape for shape, members in groups.items() for i in members}
    return [target[i] for i in range(len(shapes))]


def super_resolve(
    module: nn.Module, params: Any, examples: Sequence[Example]
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Runs the network over images of many sizes, an image a device, with few compilations.

    A network without a radius (see `inference`) is compiled for each size.

    Yields:
        Position in `examples`, LR, HR and SR, uint8; in the order of their padded shapes, large ones first.
        Those that cannot be loaded are logged and left out.
    """
    module, params = fold_for_inference(module, params)
    devices = jax.local_device_count()
    shapes = [example.lr_shape for example in examples]
    if module.radius is not None:
        shapes = padded_shapes(shapes)
    loaded: deque[tuple[int, np.ndarray, np.ndarray]] = deque()

    def batches() -> Iterator[Batch]:
        for shape in sorted(set(shapes), reverse=True):  # what is left to score at the end is small
            members = [i for i, padded in enumerate(shapes) if padded == shape]
            filled = all(examples[i].lr_shape == shape for i in members)
            for first in range(0, len(members), devices):
                if chunk := list(_load(examples, members[first : first + devices])):
                    loaded.extend(chunk)
                    yield Batch([to_float(lr) for _, lr, _ in chunk], shape, filled)

    for sr in apply_batches(module, params, batches(), devices):
        i, lr, hr = loaded.popleft()
        yield i, lr, hr, to_uint8(sr[: hr.shape[0], : hr.shape[1]])


def _load(
    examples: Sequence[Example], positions: Iterable[int]
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    for i in positions:
        try:
            yield i, *examples[i].load()
        except UserError as error:
            logging.warning("left out: %s", error)


def score(sr: np.ndarray, hr: np.ndarray, scale: int, shift: int = 0) -> Scores:
    """All metrics of one image, uint8 (H, W, 3); None where the image is too small for one.

    With `shift` also those at the best shift of up to so many HR pixels.
    """

    def measure(metric: Callable[..., float], protocol: str, sr=sr, hr=hr) -> float | None:
        try:
            return metric(sr, hr, scale=scale, protocol=protocol)
        except TooSmallError:
            return None

    scores = {
        "psnr_y": measure(psnr, "y"),
        "ssim_y": measure(ssim, "y"),
        "psnr_rgb": measure(psnr, "ntire"),
        "ssim_ntire": measure(ssim, "ntire"),
    }
    if not shift:
        return scores
    try:
        dy, dx = best_shift(sr, hr, scale=scale, window=shift)
    except TooSmallError:
        return scores | dict.fromkeys(("psnr_shift", "ssim_shift", "shift_y", "shift_x"))
    pair = align(sr, hr, (dy, dx), shift)
    return scores | {
        "psnr_shift": measure(psnr, "ntire", *pair),
        "ssim_shift": measure(ssim, "ntire", *pair),
        "shift_y": float(dy),
        "shift_x": float(dx),
    }


def evaluate(
    examples: Sequence[Example],
    scale: int,
    module: nn.Module | None = None,
    params: Any = None,
    *,
    bicubic: bool = True,
    shift: int = 0,
    label: str = "evaluating",
) -> dict[str, Any]:
    """Measures one set; of several processes each does a share of the images, and all get the result.

    Args:
        examples: its images.
        scale: the upscaling factor.
        module: the network; None to measure bicubic alone.
        params: its parameters.
        bicubic: whether to measure bicubic.
        shift: see `score`.
        label: what the progress bar says.

    Returns:
        `{"bicubic": Scores, "model": Scores, "images": [{"name", "bicubic", "model"}, ...]}`, the first two
        averaged over the images that have the score, and absent where they were not asked for. Where images
        could not be read, `"left_out"` has their names.

    Raises:
        UserError: no image could be read.
    """
    share = examples[jax.process_index() :: jax.process_count()]
    everything = range(len(share))
    outputs = _load(share, everything) if module is None else super_resolve(module, params, share)

    def measure(i: int, lr: np.ndarray, hr: np.ndarray, sr: np.ndarray | None = None) -> tuple[int, dict]:
        result: dict[str, Any] = {"name": share[i].name}
        if bicubic:
            result["bicubic"] = score(imresize(lr, scale), hr, scale, shift)
        if sr is not None:
            result["model"] = score(sr, hr, scale, shift)
        return jax.process_index() + i * jax.process_count(), result

    results: dict[int, dict] = {}
    pending: deque = deque()
    pool = ThreadPoolExecutor(_THREADS)
    with tqdm(
        total=len(share), desc=label, unit="img", leave=False, disable=not distributed.is_lead()
    ) as bar:

        def collect(at_most: int) -> None:
            while len(pending) > at_most:
                i, result = pending.popleft().result()
                results[i] = result
                bar.update()

        try:
            for output in outputs:
                pending.append(pool.submit(measure, *output))
                collect(at_most=2 * _THREADS)
            collect(at_most=0)
        finally:
            pool.shutdown(cancel_futures=True)  # an interrupt need not wait for what is queued
    results = {i: result for each in distributed.gather(list(results.items())) for i, result in each}
    if not results:
        raise UserError(f"{label}: no image could be read; the lines above say why")
    images = [results[i] for i in sorted(results)]
    averages = {
        who: _average([image[who] for image in images]) for who in ("bicubic", "model") if who in images[0]
    }
    left_out = [example.name for i, example in enumerate(examples) if i not in results]
    return {**averages, "images": images, **({"left_out": left_out} if left_out else {})}


def _average(scores: list[Scores]) -> Scores:
    def mean(metric: str) -> float | None:
        values = [s[metric] for s in scores if s[metric] is not None]
        return sum(values) / len(values) if values else None

    return {metric: mean(metric) for metric in scores[0]}


def markdown_table(results: dict[str, dict[str, Any]], scale: int) -> str:
    """A row a set: by metric and protocol, bicubic and the model beside each other in a cell.

    Args:
        results: by set name, what `evaluate` returned.
        scale: for the heading.

    Returns:
        Lines of at most 120 characters, but for long names of sets.
    """
    methods = [who for who in ("bicubic", "model") if any(who in result for result in results.values())]
    metrics = {"PSNR-Y": "psnr_y", "SSIM-Y": "ssim_y", "PSNR ntire": "psnr_rgb", "SSIM ntire": "ssim_ntire"}
    if any("psnr_shift" in result[who] for result in results.values() for who in methods if who in result):
        metrics = {"PSNR-Y": "psnr_y", "PSNR ntire": "psnr_rgb"}
        metrics |= {"PSNR shift": "psnr_shift", "SSIM shift": "ssim_shift"}
    rows = [[f"x{scale}: {' / '.join(methods)}", "images", *metrics]]
    for name, result in results.items():
        count, left_out = len(result["images"]), len(result.get("left_out", []))
        images = f"{count} of {count + left_out}" if left_out else str(count)
        cells = [
            " / ".join(_format(key, result[who][key]) for who in methods if who in result)
            for key in metrics.values()
        ]
        rows.append([name, images, *cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])

    def line(row: list[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        return f"| {' | '.join(cells)} |"

    return "\n".join(map(line, rows))


def _format(metric: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if metric.startswith("psnr") else f"{value:.4f}"


def write_json(path: str | os.PathLike, results: dict[str, dict[str, Any]]) -> None:
    """Writes results by set name; a PSNR of identical images, infinite, becomes null.

    Raises:
        UserError: the file cannot be written.
    """

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: finite(child) for key, child in value.items()}
        if isinstance(value, list):
            return [finite(child) for child in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    write_whole(path, (json.dumps(finite(results), indent=2) + "\n").encode())


def main() -> None:
    """The command line; see the module's docstring."""
    parser = ArgumentParser(
        prog="python -m wdsr_jax.evaluate", description="PSNR and SSIM by the papers' protocols."
    )
    parser.add_argument("--model", required=True, help="bicubic, a workdir, a weights file or a shipped name")
    parser.add_argument("--scale", required=True, type=int, help="upscaling factor")
    parser.add_argument(
        "--shift", default=0, type=int, metavar="N", help="for misaligned pairs: the best shift of N pixels"
    )
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("folders", nargs="+", metavar="DIR", help="one folder a set")
    args = parser.parse_args()
    if args.scale < 1:
        raise UserError(f"--scale must be a whole number from 1 up, not {args.scale}")
    if args.shift < 0:
        raise UserError(f"--shift must be a whole number from 0 up, not {args.shift}")
    if args.out:
        _check_writable(args.out)
    keep_compilations()
    module, params = (None, None) if args.model == "bicubic" else load_pretrained(args.model)
    if module is not None and module.scale != args.scale:
        raise UserError(f"--scale={args.scale}: {args.model} is a model for x{module.scale}")
    folders = list(dict.fromkeys(map(os.path.normpath, args.folders)))
    sets = {
        name: examples_of_folder(folder, args.scale)
        for name, folder in zip(_set_names(folders), folders, strict=True)
    }
    results = {
        name: evaluate(examples, args.scale, module, params, shift=args.shift, label=name)
        for name, examples in sets.items()
    }
    try:
        if args.out:
            write_json(args.out, _repeat_bicubic(results) if module is None else results)
    finally:
        print(markdown_table(results, args.scale))


def _set_names(folders: Sequence[str]) -> list[str]:
    """The set's name for each folder; the folder itself where two sets have one name."""
    names = [set_name(folder) for folder in folders]
    return [name if names.count(name) == 1 else folder for name, folder in zip(names, folders, strict=True)]


def _check_writable(path: Path) -> None:
    """Says before an hour's work, not after, that its results could not be written."""
    try:
        if path.is_dir():
            raise UserError(f"--out={path}: is a folder; give the name of a file")
        if not path.absolute().parent.is_dir():
            raise UserError(f"--out={path}: no such folder")
        with tempfile.TemporaryFile(dir=path.absolute().parent):
            pass
    except OSError as error:
        raise UserError(f"--out={path}: cannot be written ({error.strerror})") from None


def _repeat_bicubic(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same with bicubic as the model that was asked for."""
    return {
        name: {
            "bicubic": result["bicubic"],
            "model": result["bicubic"],
            **result,
            "images": [{**image, "model": image["bicubic"]} for image in result["images"]],
        }
        for name, result in results.items()
    }
