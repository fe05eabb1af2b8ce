"""The work of the command that upscales: file by file, by its arguments."""

import argparse
import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import logging

from wdsr_jax.errors import UserError
from wdsr_jax.image.pixels import to_float, to_uint8
from wdsr_jax.photo.choice import Choice, choose_model, choose_video_model
from wdsr_jax.photo.compare import comparison_page
from wdsr_jax.photo.formats import OUTPUT_FORMATS, check_size, format_of
from wdsr_jax.photo.jobs import Job, Plan
from wdsr_jax.photo.network import Network, choose_network, load_network
from wdsr_jax.photo.photos import Photo, encode_photo, read_photo, write_photo
from wdsr_jax.photo.record import add_to_record
from wdsr_jax.photo.report import (
    Choices,
    Lost,
    OnChoice,
    OnPixels,
    counting,
    log_choice,
    paced,
    report_choices,
    report_end,
    report_losses,
    report_plan,
    with_megapixels,
)
from wdsr_jax.photo.sizes import target_size
from wdsr_jax.photo.upscaling import bytes_needed, upscale_photo
from wdsr_jax.system.console import Progress
from wdsr_jax.system.devices import on_cpu
from wdsr_jax.system.files import path_errors
from wdsr_jax.system.memory import host_memory
from wdsr_jax.video.formats import is_video
from wdsr_jax.weights.files import FAMILIES, pretrained_for

# What not every command needs (JAX, PyAV) is imported where it is used: that takes up to half a second.
if TYPE_CHECKING:
    from wdsr_jax.inference.network import Noise
    from wdsr_jax.inference.tiles import Tiling

Tilings = Callable[[Network | None], "list[Tiling] | None"]  # the shapes of tiles that a network may use


def upscale_files(plan: Plan, args: argparse.Namespace) -> int:
    """Upscales each file; one that fails is named, again at the end, and the others are done.

    Args:
        plan: see `jobs.find_jobs`.
        args: see `command.parse_arguments`.

    Returns:
        Exit code: 0, or 1 where a file failed, or a folder has pictures of a kind that is not read.

    Raises:
        UserError: the model or the page cannot be used, or the only file fails.
    """
    if args.model and args.model not in FAMILIES:  # a mistake in it is named once, not for each file
        load_network(args.model, args.perceptual, args.engine, samples=bool(args.samples))
    jobs = with_megapixels(plan.jobs)
    failed, lost = [source for source, _ in plan.failures], Lost()
    choices: Choices = {}
    report_plan(plan)
    tilings = _tilings(plan.jobs, args)
    on_choice = log_choice if len(plan.jobs) == 1 else counting(choices)
    with contextlib.ExitStack() as stack:
        compare = stack.enter_context(comparison_page(args.compare)) if args.compare else None
        bar = stack.enter_context(Progress(sum(megapixels for _, megapixels in jobs), "MP", digits=2))
        on_pixels = paced(bar)
        for i, (job, megapixels) in enumerate(jobs, start=1):
            bar.describe(f"{i}/{len(jobs)} {job.source.name}")
            before = bar.done
            try:
                _make_folder(job.target.parent)
                if args.samples:
                    losses = _draw_samples(job, args, tilings, on_pixels)
                elif is_video(job.source):
                    losses = _upscale_video(job, args, on_choice)
                else:
                    losses = _upscale_photo(job, args, tilings, on_pixels, on_choice, compare)
                for loss in losses:
                    lost.setdefault(loss, []).append(job.source)
                add_to_record(job.target, job.entry)
            except UserError as error:
                if _is_alone(plan):
                    raise
                logging.warning("%s", error)
                failed.append(job.source)
            except Exception as error:  # a fault of this program or of a library costs one file, not a night
                if _is_alone(plan):
                    raise
                logging.warning("%s: failed (%s: %s)", job.source, type(error).__name__, error)
                failed.append(job.source)
            if bar.total:  # the size was a guess, or the file failed
                bar.total += bar.done - before - megapixels
    report_choices(choices)
    return report_end(plan, failed, lost, args.out, samples=bool(args.samples))


def _is_alone(plan: Plan) -> bool:
    """Whether one file is all that there is."""
    return len(plan.jobs) == 1 and not (plan.done or plan.failures or plan.left_out)


def upscale_stream(args: argparse.Namespace) -> None:
    """Upscales a single photograph from stdin, to stdout, or both.

    Args:
        args: see `command.parse_arguments`; the input or `args.out` is "-".

    Raises:
        UserError: it cannot be read, upscaled or written.
    """
    (source,) = args.inputs
    to_stdout = args.out == "-"
    target = "stdout" + OUTPUT_FORMATS[args.format or "png"] if to_stdout else args.out
    photo = read_photo(sys.stdin.buffer, "-") if source == "-" else read_photo(source)
    height, width, _ = photo.pixels.shape
    job = Job(Path(source), Path(target), (height, width), entry={})
    with Progress(height * width / 1e6, "MP", source, digits=2) as bar:
        upscaled = upscale_by_arguments(photo, job, args, paced(bar))
    if to_stdout:
        output_format = format_of(target)
        lost = encode_photo(
            sys.stdout.buffer, upscaled, format=output_format, quality=args.quality, name="stdout"
        )
    else:
        lost = write_photo(target, upscaled, quality=args.quality)
    report_losses({loss: [job.source] for loss in (*photo.lost, *lost)})


def _upscale_photo(
    job: Job,
    args: argparse.Namespace,
    tilings: Tilings,
    on_pixels: OnPixels,
    on_choice: OnChoice,
    compare: Callable[..., None] | None,
) -> tuple[str, ...]:
    photo = read_photo(job.source)
    upscaled = upscale_by_arguments(photo, job, args, on_pixels, tilings, on_choice)
    lost = write_photo(job.target, upscaled, quality=args.quality)
    if compare:
        pixels = (_rgb_of_8_bits(image.pixels) for image in (photo, upscaled))
        compare(job.source.name, *pixels, _profile(photo))
    return (*photo.lost, *lost)


def _draw_samples(
    job: Job,
    args: argparse.Namespace,
    tilings: Tilings,
    on_pixels: OnPixels,
) -> tuple[str, ...]:
    """Writes the samples of a photograph into their folder, the page and the map; number 1 last."""
    from wdsr_jax.inference.sampling import noise_of
    from wdsr_jax.photo.samples import SAMPLE_FILES, without_empty, write_sample_files

    if is_video(job.source):
        raise UserError(f"{job.source}: --samples is for photographs, not for videos")
    photo = read_photo(job.source)

    def draw(number: int) -> Photo:
        noise = noise_of(args.seed, number, args.temperature)
        count = functools.partial(_count_share, on_pixels, args.samples)
        return upscale_by_arguments(photo, job, args, count, tilings, noise=noise)

    def write(number: int, sample: Photo) -> tuple[str, ...]:
        path = job.target.with_stem(str(number))
        lost = write_photo(path, sample, quality=args.quality)
        if path != job.target:
            add_to_record(path, job.entry)
        return lost

    folder, shown = job.target.parent, {}
    with without_empty(folder):
        for number in range(2, args.samples + 1):
            sample = draw(number)
            shown[number] = _rgb_of_8_bits(sample.pixels)
            write(number, sample)
        first = draw(1)  # written last, for it says that all are there
        shown[1] = _rgb_of_8_bits(first.pixels)
        lr = _rgb_of_8_bits(photo.pixels)
        write_sample_files(folder, job.source.name, lr, shown, _profile(photo))
    for name in SAMPLE_FILES:
        add_to_record(folder / name, job.entry)
    return (*photo.lost, *write(1, first))


def _count_share(on_pixels: OnPixels, parts: int, count: float) -> None:
    on_pixels(count / parts)


def _profile(photo: Photo) -> bytes | None:
    """The ICC profile of a picture's colours; None for sRGB, and for a grey one."""
    return None if photo.pixels.shape[2] == 1 else photo.metadata.icc or None


def _rgb_of_8_bits(pixels: np.ndarray) -> np.ndarray:
    rgb = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    return rgb if rgb.dtype == np.uint8 else to_uint8(to_float(rgb))


def _upscale_video(job: Job, args: argparse.Namespace, on_choice: OnChoice) -> tuple[str, ...]:
    from wdsr_jax.video.transcode import upscale_video

    chosen: Choice | None = None

    def upscale_frame(frame: np.ndarray) -> np.ndarray:
        nonlocal chosen
        if chosen is None:  # by the first frame, for all
            factor = _factor(frame.shape[:2], args)
            chosen = choose_video_model(args.model, factor, on_cpu=on_cpu())
            on_choice(job.source, chosen, factor)
        named = argparse.Namespace(**vars(args) | {"model": chosen.model or "clean"})
        return upscale_by_arguments(Photo(frame), job, named).pixels

    return upscale_video(job.source, job.target, upscale_frame, quality=args.quality)


def upscale_by_arguments(
    photo: Photo,
    job: Job,
    args: argparse.Namespace,
    on_pixels: OnPixels = lambda count: None,
    tilings: Tilings = lambda network: None,
    on_choice: OnChoice = log_choice,
    noise: "Noise | None" = None,
) -> Photo:
    """One photograph, or one frame of a video, by the arguments of the command.

    Args:
        photo: what is upscaled.
        job: its `source` is for messages; the ending of its `target` names the format.
        args: see `command.parse_arguments`.
        on_pixels: is called with the count of LR pixels done since the last call.
        tilings: see `Tilings`; None where the network chooses them by itself.
        on_choice: is called with the network that is taken, and why.
        noise: of a sample; None for the network's one result.

    Raises:
        UserError: the result is too large for its format or for the memory, or an option does not fit.
    """
    height, width, _ = photo.pixels.shape
    size = _target_size((height, width), args)
    factor = _factor((height, width), args)
    choice = choose_model(args.model, photo, factor)
    on_choice(job.source, choice, factor)
    samples = noise is not None
    network = choose_network(choice.model, factor, args.perceptual, args.engine, samples=samples)
    scale = network.scale if network else 1
    _check_options(job, args, network, (height * scale, width * scale), size)
    output_format = "" if is_video(job.source) else format_of(job.target)
    if output_format:
        check_size(job.source, output_format, size[1], size[0])
    consistent = args.consistent or samples
    needed = bytes_needed(photo, size, scale, consistent=consistent, output_format=output_format)
    needed += 3 * size[0] * size[1] * (args.samples or 0)  # which the page has at once
    if needed > (free := host_memory()):  # the system would kill the process
        count = f"{args.samples} times " if args.samples else ""
        raise UserError(
            f"{job.source}: {count}{size[1]} x {size[0]} pixels take {needed / 1e9:.1f} GB of memory and "
            f"{free / 1e9:.1f} GB are free; choose a smaller size{' or fewer samples' if count else ''}"
        )
    upscaled, residuals = upscale_photo(
        photo,
        network,
        size,
        consistent=consistent,
        noise=noise,
        on_pixels=on_pixels,
        tile=args.tile,
        tilings=tilings(network),
        ensemble=args.ensemble,
    )
    if residuals and args.consistent:
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
    network: Network | None,
    network_size: tuple[int, int],
    size: tuple[int, int],
) -> None:
    """Refuses --tile, --samples and --consistent where the network cannot do as they say.

    Args:
        job: for messages.
        args: of the command.
        network: None to resample only.
        network_size: (H, W) of the network's result.
        size: (H, W) of the result that is wanted.
    """
    radius, scale = (network.radius, network.scale) if network else (0, 1)
    if args.tile and radius is None:
        raise UserError(
            f"--tile={args.tile}: this network takes means over the whole image, so it cannot work in tiles"
        )
    if network and args.tile and radius is not None and args.tile <= 2 * radius:
        raise UserError(f"--tile={args.tile}: must be more than {2 * radius} for this network")
    option = "--samples" if args.samples else "--consistent" if args.consistent else ""
    if option and network and scale == 1:
        raise UserError(f"{job.source}: {option} at scale 1 would give the input back; leave it out")
    if option and size != network_size:
        raise UserError(f"{job.source}: {option} is for a scale that a network has, here {scale}")


def _target_size(size: tuple[int, int], args: argparse.Namespace) -> tuple[int, int]:
    """(H', W') of the result of an image of `size` (H, W)."""
    return target_size(
        size, scale=args.scale, width=args.width, height=args.height, megapixels=args.megapixels
    )


def _factor(size: tuple[int, int], args: argparse.Namespace) -> float:
    """By which an image of `size` (H, W) is upscaled, at least one of its sides."""
    target = _target_size(size, args)
    return max(target[0] / size[0], target[1] / size[1])


def _candidates(size: tuple[int, int], args: argparse.Namespace) -> list[Network | None]:
    """The networks that an image of `size` may be upscaled by; None to resample only."""
    factor = _factor(size, args)
    has_choice = args.model is None and pretrained_for(factor, "photo")
    models = ("clean", "photo") if has_choice else (args.model,)
    return [
        choose_network(model, factor, args.perceptual, args.engine, samples=bool(args.samples))
        for model in models
    ]


def _tilings(jobs: Iterable[Job], args: argparse.Namespace) -> Tilings:
    """A function from a network to the few shapes of tiles for all the photographs that it upscales.

    For XLA a shape is a compilation, which costs as much as a small photograph. Networks that differ in their
    weights alone share it, so each is planned for all photographs that it may be chosen for.
    """
    known = [job.size for job in jobs if job.size]
    sizes: dict[int, list[tuple[int, int]]] = {}
    planned: dict[int, list[Tiling] | None] = {}

    def tilings(network: Network | None) -> "list[Tiling] | None":
        # No need to load what a single photograph might be upscaled by.
        if len(known) < 2 or network is None or network.module is None:
            return None
        if not sizes:
            for size in known:
                for candidate in _candidates(size, args):
                    sizes.setdefault(id(candidate), []).append(size)
        key = id(network)
        if key not in planned:
            from wdsr_jax.inference.tiles import plan_tilings

            options = dict(tile=args.tile, ensemble=args.ensemble)
            own = sizes.get(key, [])
            planned[key] = plan_tilings(network.module, own, **options) if len(own) > 1 else None
        return planned[key]

    return tilings


def _make_folder(folder: Path) -> None:
    with path_errors(folder, "the folder cannot be made"):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):  # before minutes of work, not after
        raise UserError(f"{folder}: the folder cannot be written to")
