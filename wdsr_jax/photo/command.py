"""The command that upscales photographs and videos: its arguments, and the files that they name.

What upscales is in `batch`. It is imported after the arguments have been checked, because JAX takes seconds.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from wdsr_jax.errors import UserError
from wdsr_jax.photo.formats import OUTPUT_FORMATS
from wdsr_jax.photo.naming import FIELDS
from wdsr_jax.system.console import (
    DEFAULT_TEMPERATURE,
    LARGEST_SEED,
    ArgumentParser,
    exit_on_signals,
    number_from,
    run_command,
    temperature,
)
from wdsr_jax.video.formats import VIDEO_FORMATS
from wdsr_jax.weights.files import FAMILIES, check_model, pretrained_for

_LARGEST = 10**9  # of numbers: more pixels than any format holds
DEFAULT_SCALE = 4  # the largest that shipped weights have
_MOST_SAMPLES = 64  # of one photograph: the page shows them all
_DESCRIPTION = "Upscales photographs and videos."
_EXAMPLES = """examples:
  python -m wdsr_jax.upscale photo.jpg                          x4, as photo_x4.jpg beside it
  python -m wdsr_jax.upscale photos/ --scale=2                  a folder, as photos_x2/
  python -m wdsr_jax.upscale photo.jpg --out=large.png
  python -m wdsr_jax.upscale photos/ --out=big/ --width=3840 --format=webp
  python -m wdsr_jax.upscale photo.jpg --samples=6              six answers, in photo_x4/
  python -m wdsr_jax.upscale clip.mp4 --out=big.mp4 --scale=2
  python -m wdsr_jax.upscale --serve                            a page on which photographs are dropped
"""
_NOT_SERVED = ("out", "width", "height", "megapixels", "name", "overwrite", "compare", "samples")


def run() -> None:
    """Runs the command and exits with its code."""
    run_command(main)


def main() -> int:
    """Upscales the files that the command line names.

    Returns:
        0, or 1 where a file failed.
    """
    exit_on_signals()
    args = parse_arguments(sys.argv[1:])
    check_model(args.model)  # here, before JAX is imported
    if args.serve is not None:
        from wdsr_jax.photo.serve import serve

        serve(args)
        return 0
    if "-" in args.inputs or args.out == "-":
        return _through_pipes(args)
    from wdsr_jax.photo.jobs import find_jobs

    jobs = find_jobs(args)
    from wdsr_jax.photo.batch import upscale_files

    return upscale_files(jobs, args)


def _through_pipes(args: argparse.Namespace) -> int:
    args.out = args.out or "-"
    if len(args.inputs) > 1:
        raise UserError("- is for a single photograph: give no other input with it")
    if args.format in VIDEO_FORMATS:
        raise UserError(f"--format={args.format}: - is for photographs; a video needs names of files")
    if args.out == "-" and sys.stdout.isatty():
        raise UserError("--out=-: stdout is a terminal; redirect it to a file or pipe it into a program")
    from wdsr_jax.photo.batch import upscale_stream

    upscale_stream(args)
    return 0


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line, checked as far as possible without looking at files.

    Raises:
        UserError: a mistake in it.
    """
    parser = _parser()
    args = parser.parse_args(arguments)
    if args.serve is not None:
        _check_serve(args)
    elif not args.inputs:
        parser.error("the following arguments are required: IN")
    sizes = [args.scale, args.width or args.height, args.megapixels]
    if sum(size is not None for size in sizes) > 1:
        raise UserError("give the size as one of --scale, --megapixels, and --width and/or --height")
    if not any(sizes):
        args.scale = DEFAULT_SCALE
    _check_samples(args)
    if args.perceptual is not None and not 0 <= args.perceptual <= 1:
        raise UserError(f"--perceptual={args.perceptual}: from 0 to 1")
    if args.perceptual is not None and args.model in (None, *FAMILIES):
        raise UserError("--perceptual needs --model: the workdir of a fine-tuning with a discriminator")
    if args.quality is not None and args.quality > 100:
        raise UserError(f"--quality={args.quality}: 1 to 100")
    try:
        (args.name or "").format(**dict.fromkeys(FIELDS, "a"))
    except (KeyError, ValueError, IndexError, AttributeError):
        fields = " ".join(f"{{{field}}}" for field in FIELDS)
        raise UserError(f"--name={args.name}: may hold {fields}, such as {{stem}}_x{{scale}}") from None
    return args


def _check_samples(args: argparse.Namespace) -> None:
    """Refuses what does not go with --samples, or without; fills in what it needs."""
    if args.samples is None:
        for name in ("temperature", "seed"):
            if getattr(args, name) is not None:
                raise UserError(f"--{name} is for --samples=N, which is not there")
        return
    for name in ("compare", "ensemble", "perceptual"):
        if getattr(args, name):
            raise UserError(f"--samples does without --{name}")
    if "-" in args.inputs or args.out == "-":
        raise UserError("--samples writes several files: it does not go through pipes")
    if args.samples > _MOST_SAMPLES:
        raise UserError(f"--samples={args.samples}: at most {_MOST_SAMPLES}")
    args.model = args.model or pretrained_for(args.scale or DEFAULT_SCALE, "space")
    if args.model is None:
        raise UserError("--samples: no network with many answers is shipped; name yours with --model")
    args.temperature = DEFAULT_TEMPERATURE if args.temperature is None else args.temperature
    args.seed = args.seed or 0


def _check_serve(args: argparse.Namespace) -> None:
    """Refuses what a page has no use for."""
    if args.inputs:
        raise UserError(f"--serve opens a page to drop photographs on: leave out {args.inputs[0]}")
    for name in _NOT_SERVED:
        if getattr(args, name):
            raise UserError(f"--serve does without --{name}: the page asks for what it needs")
    if args.format in VIDEO_FORMATS:
        raise UserError(f"--format={args.format}: the page of --serve is for photographs")
    if args.serve > 65535:
        raise UserError(f"--serve={args.serve}: a port is at most 65535")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m wdsr_jax.upscale",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("inputs", nargs="*", metavar="IN", help="file, folder, glob, or - for stdin")
    out = "folder, file for a single input, or - for stdout (default: beside the input)"
    parser.add_argument("-o", "--out", help=out)
    page = "page on this machine to drop photographs on (port: 8642 or the next free one)"
    parser.add_argument("--serve", nargs="?", type=_positive(int), const=0, metavar="PORT", help=page)
    size = parser.add_argument_group("size (one of; --width and --height may be combined)")
    factor = f"factor of both sides, such as 2 or 2.5 (default: {DEFAULT_SCALE})"
    size.add_argument("-s", "--scale", type=_positive(float), help=factor)
    size.add_argument("--width", type=_positive(int), help="pixels")
    size.add_argument("--height", type=_positive(int), help="pixels")
    size.add_argument("--megapixels", type=_positive(float), help="pixels in all, in millions")
    network = parser.add_argument_group("network")
    families = "clean, photo (noise, JPEG), fast, a shipped name, workdir or file (default: by the picture)"
    network.add_argument("-m", "--model", help=families)
    network.add_argument(
        "-t", "--tile", type=_positive(int), help="side of the tiles (default: by free memory)"
    )
    network.add_argument(
        "--perceptual",
        type=float,
        metavar="0..1",
        help="for a --model fine-tuned with a discriminator: 0 as before it, 1 as after it (default: 1)",
    )
    engines = "what computes (default: on CPUs onnx, where pip install 'wdsr_jax[onnx]' was run, else xla)"
    network.add_argument("--engine", choices=("xla", "onnx"), help=engines)
    network.add_argument("--ensemble", action="store_true", help="average over 8 symmetries: 8 times as long")
    network.add_argument(
        "--consistent", action="store_true", help="make the bicubic downscale of the result equal the input"
    )
    space = parser.add_argument_group("many answers (a network of configs/space.py)")
    several = "so many images, drawn at random; a page of them, and a map of where they differ"
    space.add_argument("--samples", type=_positive(int), metavar="N", help=several)
    liveliness = f"0: all the same; 1: as photographs are (default: {DEFAULT_TEMPERATURE})"
    space.add_argument("--temperature", type=temperature, metavar="T", help=liveliness)
    space.add_argument(
        "--seed", type=number_from(0, LARGEST_SEED), metavar="S", help="others for each S (default: 0)"
    )
    output = parser.add_argument_group("output")
    formats = [*OUTPUT_FORMATS, *VIDEO_FORMATS]
    output.add_argument(
        "--format", choices=formats, help="of images or of videos; default: that of the input"
    )
    output.add_argument("--quality", type=_positive(int), help="1 to 100: JPEG, WebP, AVIF, video")
    fields = " ".join(f"{{{field}}}" for field in FIELDS)
    output.add_argument("--name", help=f"of the outputs, without ending: {fields} (default: {{stem}})")
    output.add_argument("--overwrite", action="store_true", help="redo what is there already")
    output.add_argument("--compare", type=Path, metavar="FILE.html", help="page with before/after sliders")
    return parser


def _positive(number: type[int] | type[float]) -> Callable[[str], float]:
    """A parser of numbers above 0 and up to `_LARGEST`, for argparse."""

    def parse(text: str) -> float:
        value = number(text)
        if not 0 < value <= _LARGEST:
            above = "a number above 0" if not value > 0 else f"at most {_LARGEST:,}"
            raise argparse.ArgumentTypeError(f"{text} is not {above}")
        return value

    parse.__name__ = {int: "whole number", float: "number"}[number]
    return parse
