"""The work of the command that upscales: file by file, by its arguments."""

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from tqdm import tqdm

from wdsr_jax.errors import UserError
from wdsr_jax.image.pixels import to_float, to_uint8
from wdsr_jax.photo.compare import comparison_page
from wdsr_jax.photo.formats import OUTPUT_FORMATS, check_size, format_of
from wdsr_jax.photo.jobs import Job
from wdsr_jax.photo.network import choose_network, load_network
from wdsr_jax.photo.photos import Photo, encode_photo, read_photo, write_photo
from wdsr_jax.photo.upscaling import bytes_needed, target_size, upscale_photo
from wdsr_jax.system.compilation import enable_compilation_cache
from wdsr_jax.system.files import path_errors
from wdsr_jax.system.memory import host_memory
from wdsr_jax.video.formats import is_video
from wdsr_jax.video.transcode import upscale_video

OnPixels = Callable[[float], Any]  # called with the count of LR pixels that are done


def upscale_files(jobs: list[Job], args: argparse.Namespace) -> int:
    """Upscales each file; one that fails is named, again at the end, and the others are done.

    Args:
        jobs: see `jobs.find_jobs`.
        args: see `command.parse_arguments`.

    Returns:
        Exit code: 0, or 1 where a file failed.

    Raises:
        UserError: the model or the page cannot be used, or the only file fails.
    """
    enable_compilation_cache()
    if args.model:
        load_network(args.model, args.perceptual)  # a mistake in it is named once, not for each file
    todo = [job for job in jobs if args.overwrite or not job.target.exists()]
    if len(todo) < len(jobs):
        logging.info("%d of %d are there already (--overwrite redoes them)", len(jobs) - len(todo), len(jobs))
        if args.compare:
            logging.info("%s will show only what is upscaled now", args.compare)
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
                    _upscale_video(job, args)
                else:
                    _upscale_photo(job, args, bar, compare)
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


def upscale_stream(args: argparse.Namespace) -> None:
    """Upscales a single photograph from stdin, to stdout, or both.

    Args:
        args: see `command.parse_arguments`; the input or `args.out` is "-".

    Raises:
        UserError: it cannot be read, upscaled or written.
    """
    enable_compilation_cache()
    (source,) = args.inputs
    to_stdout = args.out == "-"
    target = "stdout" + OUTPUT_FORMATS[args.format or "png"] if to_stdout else args.out
    photo = read_photo(sys.stdin.buffer, "-") if source == "-" else read_photo(source)
    height, width, _ = photo.pixels.shape
    job = Job(Path(source), Path(target), (height, width))
    with _progress(_megapixels(job)) as bar:
        upscaled = _upscaled(photo, job, args, lambda count: bar.update(count / 1e6))
    if to_stdout:
        output_format = format_of(target)
        encode_photo(sys.stdout.buffer, upscaled, format=output_format, quality=args.quality, name="stdout")
    else:
        write_photo(target, upscaled, quality=args.quality)


def _upscale_photo(
    job: Job, args: argparse.Namespace, bar: tqdm, compare: Callable[..., None] | None
) -> None:
    photo = read_photo(job.source)
    upscaled = _upscaled(photo, job, args, lambda count: bar.update(count / 1e6))
    write_photo(job.target, upscaled, quality=args.quality)
    if compare:
        pixels = (_rgb_of_8_bits(image.pixels) for image in (photo, upscaled))
        compare(job.source.name, *pixels, None if photo.pixels.shape[2] == 1 else photo.metadata.icc or None)


def _rgb_of_8_bits(pixels: np.ndarray) -> np.ndarray:
    rgb = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    return rgb if rgb.dtype == np.uint8 else to_uint8(to_float(rgb))


def _upscale_video(job: Job, args: argparse.Namespace) -> None:
    def upscale_frame(frame: np.ndarray) -> np.ndarray:
        return _upscaled(Photo(frame), job, args).pixels

    upscale_video(job.source, job.target, upscale_frame, quality=args.quality)


def _upscaled(
    photo: Photo, job: Job, args: argparse.Namespace, on_pixels: OnPixels = lambda count: None
) -> Photo:
    """One photograph, or one frame of a video, by the arguments of the command.

    Raises:
        UserError: the result is too large for its format or for the memory, or an option does not fit.
    """
    height, width, _ = photo.pixels.shape
    size = target_size(
        (height, width), scale=args.scale, width=args.width, height=args.height, megapixels=args.megapixels
    )
    module, params = choose_network(args.model, max(size[0] / height, size[1] / width), args.perceptual)
    scale: int = module.scale if module else 1
    _check_options(job, args, module, (height * scale, width * scale), size)
    output_format = "" if is_video(job.source) else format_of(job.target)
    if output_format:
        check_size(job.source, output_format, size[1], size[0])
    needed = bytes_needed(photo, size, scale, consistent=args.consistent, output_format=output_format)
    if needed > (free := host_memory()):  # the system would kill the process
        raise UserError(
            f"{job.source}: {size[1]} x {size[0]} pixels take {needed / 1e9:.1f} GB of memory and "
            f"{free / 1e9:.1f} GB are free; choose a smaller size"
        )
    upscaled, residuals = upscale_photo(
        photo,
        module,
        params,
        size,
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
    return upscaled


def _check_options(
    job: Job,
    args: argparse.Namespace,
    module: Any,
    network_size: tuple[int, int],
    size: tuple[int, int],
) -> None:
    """Refuses --tile and --consistent where the network cannot do as they say.

    Args:
        job: for messages.
        args: of the command.
        module: the network, a flax module; None to resample only.
        network_size: (H, W) of the network's result.
        size: (H, W) of the result that is wanted.
    """
    radius: int | None = module.radius if module else 0
    scale: int = module.scale if module else 1
    if module and args.tile and radius is None:
        raise UserError(
            f"--tile={args.tile}: this network takes means over the whole image, so it cannot work in tiles"
        )
    if module and args.tile and radius is not None and args.tile <= 2 * radius:
        raise UserError(f"--tile={args.tile}: must be more than {2 * radius} for this network")
    if args.consistent and module and scale == 1:
        raise UserError(f"{job.source}: --consistent at scale 1 would give the input back; leave it out")
    if args.consistent and size != network_size:
        raise UserError(f"{job.source}: --consistent is for a scale that a network has, here {scale}")


def _megapixels(job: Job) -> float:
    return math.prod(job.size or (0, 0)) / 1e6


def _progress(megapixels: float) -> tqdm:
    form = "{desc}{percentage:3.0f}%|{bar}| {n:.2f}/{total:.2f} MP [{elapsed}<{remaining}, {rate_noinv_fmt}]"
    return tqdm(total=megapixels, unit="MP", bar_format=form, leave=False, disable=megapixels == 0 or None)


def _make_folder(folder: Path) -> None:
    with path_errors(folder, "the folder cannot be made"):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):  # before minutes of work, not after
        raise UserError(f"{folder}: the folder cannot be written to")
