"""The command that enlarges photographs and videos: to what size, by which network, file by file."""

import argparse
import contextlib
import functools
import math
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from tqdm import tqdm

from wdsr_jax.errors import UserError
from wdsr_jax.image.files import to_float, to_uint8
from wdsr_jax.photo.compare import comparison_page
from wdsr_jax.photo.jobs import Job, find_jobs
from wdsr_jax.photo.photos import (
    OUTPUT_FORMATS,
    Photo,
    check_size,
    encode_photo,
    format_of,
    read_photo,
    write_photo,
)
from wdsr_jax.photo.upscaling import enlarge, target_size
from wdsr_jax.system.compilation import enable_compilation_cache
from wdsr_jax.system.console import ArgumentParser
from wdsr_jax.system.memory import host_memory
from wdsr_jax.video.transcode import is_video, upscale_video
from wdsr_jax.weights.store import list_pretrained, load_between, load_pretrained

_DESCRIPTION = "Enlarges photographs and videos."
_EXAMPLES = """examples:
  python -m wdsr_jax.upscale photo.jpg --out=large.png --scale=4
  python -m wdsr_jax.upscale photos/ --out=big/ --width=3840 --format=webp
  python -m wdsr_jax.upscale clip.mp4 --out=big.mp4 --scale=2
"""


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line, checked as far as that is possible without looking at files; or UserError."""
    parser = ArgumentParser(
        prog="python -m wdsr_jax.upscale",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("inputs", nargs="+", metavar="IN", help="file, folder, glob, or - for stdin")
    parser.add_argument("--out", required=True, help="folder, file for a single input, or - for stdout")
    size = parser.add_argument_group("size (one of; --width and --height may be combined)")
    size.add_argument("--scale", type=_positive(float), help="factor of both sides, such as 4 or 2.5")
    size.add_argument("--width", type=_positive(int), help="pixels")
    size.add_argument("--height", type=_positive(int), help="pixels")
    size.add_argument("--megapixels", type=_positive(float), help="pixels in all, in millions")
    network = parser.add_argument_group("network")
    network.add_argument("--model", help="shipped name, workdir or weights file (default: shipped, by scale)")
    network.add_argument("--tile", type=_positive(int), help="side of the tiles (default: by free memory)")
    network.add_argument(
        "--perceptual",
        type=float,
        metavar="0..1",
        help="of a --model fine-tuned with a discriminator: 0 is as before, 1 as after (default: 1)",
    )
    network.add_argument("--ensemble", action="store_true", help="average over 8 symmetries: 8 times as long")
    network.add_argument(
        "--consistent", action="store_true", help="make the bicubic downscale of the result equal the input"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--format", choices=list(OUTPUT_FORMATS), help="default: that of the input")
    output.add_argument("--quality", type=_positive(int), help="1 to 100: JPEG, WebP, AVIF, video")
    output.add_argument("--name", default="{stem}", help="of the outputs: {stem}, {scale} (default {stem})")
    output.add_argument("--overwrite", action="store_true", help="redo what is there already")
    output.add_argument("--compare", type=Path, metavar="FILE.html", help="page with before/after sliders")
    args = parser.parse_args(arguments)
    asked = [args.scale, args.width or args.height, args.megapixels]
    if sum(value is not None for value in asked) != 1:
        raise UserError("give the size as one of --scale, --megapixels, and --width and/or --height")
    if args.perceptual is not None and not 0 <= args.perceptual <= 1:
        raise UserError(f"--perceptual={args.perceptual}: from 0 to 1")
    if args.perceptual is not None and not args.model:
        raise UserError("--perceptual needs --model: the workdir of a fine-tuning with a discriminator")
    if args.quality is not None and args.quality > 100:
        raise UserError(f"--quality={args.quality}: 1 to 100")
    try:
        args.name.format(stem="a", scale="2")
    except (KeyError, ValueError, IndexError, AttributeError):
        raise UserError(
            f"--name={args.name}: may hold {{stem}} and {{scale}}, such as {{stem}}_x{{scale}}"
        ) from None
    return args


def _positive(number: type) -> Any:
    def parse(text: str) -> Any:
        value = number(text)
        if not (math.isfinite(value) and value > 0):
            raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
        return value

    parse.__name__ = {int: "whole number", float: "number"}[number]
    return parse


@functools.cache
def _load(name: str, perceptual: float | None = None) -> tuple[Any, Any]:
    return load_pretrained(name) if perceptual is None else load_between(name, perceptual)


def choose_model(name: str | None, factor: float, perceptual: float | None = None) -> tuple[Any, Any]:
    """The network to enlarge by `factor`: the one named, else of those shipped the next larger scale.

    Args:
        name: as for `load_pretrained`, or None.
        factor: of both sides.
        perceptual: of the one named, see `load_between`.

    Returns:
        module and params; (None, None) for a factor of at most 1 where none is named.

    Raises:
        UserError: no network is shipped, or that named cannot be loaded.
    """
    if name:
        return _load(name, perceptual)
    if factor <= 1:
        return None, None
    found = ((re.search(r"-x(\d+)$", shipped), shipped) for shipped in list_pretrained())
    scales = {int(match[1]): shipped for match, shipped in found if match}
    if not scales:
        raise UserError("no weights are shipped with this package; name yours with --model=WORKDIR or FILE")
    return _load(scales[min((s for s in scales if s >= factor - 1e-3), default=max(scales))])


def enlarge_photo(
    photo: Photo, job: Job, args: argparse.Namespace, on_pixels: Callable[[float], Any] = lambda count: None
) -> Photo:
    """One photograph, or one frame of a video, by the arguments of the command.

    Raises:
        UserError: the result is too large for its format or for the memory, or --consistent does not fit.
    """
    size = photo.pixels.shape[:2]
    wanted = target_size(
        size, scale=args.scale, width=args.width, height=args.height, megapixels=args.megapixels
    )
    module, params = choose_model(args.model, max(wanted[0] / size[0], wanted[1] / size[1]), args.perceptual)
    scale = module.scale if module else 1
    if module and args.tile and module.radius is None:
        raise UserError(
            f"--tile={args.tile}: this network takes means over the whole image, so it cannot work in tiles"
        )
    if module and args.tile and args.tile <= 2 * module.radius:
        raise UserError(f"--tile={args.tile}: must be more than {2 * module.radius} for this network")
    if args.consistent and module and scale == 1:
        raise UserError(f"{job.source}: --consistent at scale 1 would give the input back; leave it out")
    if args.consistent and wanted != (size[0] * scale, size[1] * scale):
        raise UserError(f"{job.source}: --consistent is for a scale that a network has, here {scale}")
    output_format = None if is_video(job.source) else format_of(job.target)
    if output_format:
        check_size(job.source, output_format, *wanted[::-1])
    _check_memory(job.source, photo, wanted, scale, args.consistent, output_format)
    enlarged, residuals = enlarge(
        photo,
        module,
        params,
        wanted,
        consistent=args.consistent,
        on_pixels=on_pixels,
        tile=args.tile,
        ensemble=args.ensemble,
    )
    if residuals:
        (before, most_before), (after, most_after) = residuals
        logging.info(
            "%s: the bicubic downscale of the result differs from it by %.2f levels RMS, %.1f at most "
            "(without --consistent %.2f and %.1f)",
            *(job.source, after, most_after, before, most_before),
        )
    return enlarged


def _check_memory(
    source: Path,
    photo: Photo,
    wanted: tuple[int, int],
    scale: int,
    consistent: bool,
    output_format: str | None,
) -> None:
    """Refuses what could only end in a process that is killed."""
    height, width, _ = photo.pixels.shape
    pixels = max(height * width * scale**2, wanted[0] * wanted[1])
    in_float = consistent or photo.alpha is not None  # some four images of float32, for a moment
    needed = pixels * (48 if in_float else 3 * photo.pixels.itemsize)
    needed += (
        wanted[0] * wanted[1] * {"png": 0, "tiff": 0, "avif": 27}.get(output_format, 4)
    )  # encoders' copies
    if needed > (free := host_memory()):
        raise UserError(
            f"{source}: {wanted[1]} x {wanted[0]} pixels take {needed / 1e9:.1f} GB of memory and "
            f"{free / 1e9:.1f} GB are free; choose a smaller size"
        )


def main() -> int:
    """Enlarges each file; one that cannot be is named, again at the end, and the others are done.

    Returns:
        0, or 1 where a file failed.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    args = parse_arguments(sys.argv[1:])
    enable_compilation_cache()
    if "-" in (*args.inputs, args.out):
        _through_pipes(args)
        return 0
    jobs = find_jobs(args)
    if args.model:
        _load(args.model, args.perceptual)  # what is wrong with it is said once, not for each file
    todo = [job for job in jobs if args.overwrite or not job.target.exists()]
    if len(todo) < len(jobs):
        logging.info("%d of %d are there already (--overwrite redoes them)", len(jobs) - len(todo), len(jobs))
        if args.compare:
            logging.info("%s will show only what is enlarged now", args.compare)
    failed = []
    with contextlib.ExitStack() as stack:
        compare = stack.enter_context(comparison_page(args.compare)) if args.compare else None
        bar = stack.enter_context(_progress(sum(map(_megapixels, todo))))
        for i, job in enumerate(todo, start=1):
            bar.set_description(f"{i}/{len(todo)} {job.source.name}")
            before = bar.n
            try:
                _make_folder(job.target.parent)
                if is_video(job.source):
                    _enlarge_video(job, args)
                else:
                    _enlarge_file(job, args, bar, compare)
            except UserError as error:
                if len(jobs) == 1:
                    raise
                logging.warning("%s", error)
                failed.append(str(job.source))
                bar.total -= _megapixels(job) - (bar.n - before)
    logging.info("%d enlarged, into %s", len(todo) - len(failed), args.out)
    if failed:
        logging.error("%d of %d failed: %s", len(failed), len(jobs), ", ".join(failed))
    return 1 if failed else 0


def _megapixels(job: Job) -> float:
    return math.prod(job.size or (0, 0)) / 1e6


def _progress(megapixels: float) -> tqdm:
    form = "{desc}{percentage:3.0f}%|{bar}| {n:.2f}/{total:.2f} MP [{elapsed}<{remaining}, {rate_noinv_fmt}]"
    return tqdm(total=megapixels, unit="MP", bar_format=form, leave=False, disable=megapixels == 0 or None)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: the folder cannot be made ({error.strerror})") from None
    if not os.access(folder, os.W_OK):  # before minutes of work, not after
        raise UserError(f"{folder}: the folder cannot be written to")


def _enlarge_file(job: Job, args: argparse.Namespace, bar: tqdm, compare: Any) -> None:
    photo = read_photo(job.source)
    enlarged = enlarge_photo(photo, job, args, lambda count: bar.update(count / 1e6))
    write_photo(job.target, enlarged, quality=args.quality)
    if compare:
        pixels = (_rgb_of_8_bits(image.pixels) for image in (photo, enlarged))
        compare(job.source.name, *pixels, None if photo.pixels.shape[2] == 1 else photo.metadata.icc or None)


def _rgb_of_8_bits(pixels: np.ndarray) -> np.ndarray:
    rgb = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    return rgb if rgb.dtype == np.uint8 else to_uint8(to_float(rgb))


def _enlarge_video(job: Job, args: argparse.Namespace) -> None:
    def enlarge_frame(frame: np.ndarray) -> np.ndarray:
        return enlarge_photo(Photo(frame), job, args).pixels

    upscale_video(job.source, job.target, enlarge_frame, quality=args.quality)


def _through_pipes(args: argparse.Namespace) -> None:
    """A single photograph from stdin, to stdout, or both."""
    if len(args.inputs) > 1:
        raise UserError("- is for a single photograph: give no other input with it")
    if args.out == "-" and sys.stdout.isatty():
        raise UserError("--out=-: stdout is a terminal; redirect it to a file or pipe it into a program")
    to_stdout = args.out == "-"
    source, target = (
        args.inputs[0],
        "stdout" + OUTPUT_FORMATS[args.format or "png"] if to_stdout else args.out,
    )
    photo = read_photo(sys.stdin.buffer, "-") if source == "-" else read_photo(source)
    job = Job(Path(source), Path(target), photo.pixels.shape[:2])
    with _progress(_megapixels(job)) as bar:
        enlarged = enlarge_photo(photo, job, args, lambda count: bar.update(count / 1e6))
    if to_stdout:
        encode_photo(
            sys.stdout.buffer, enlarged, format=format_of(target), quality=args.quality, name="stdout"
        )
    else:
        write_photo(target, enlarged, quality=args.quality)
