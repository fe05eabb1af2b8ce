"""From the names on a command line to pairs of input and output files."""

import argparse
import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from wdsr_jax.errors import UserError
from wdsr_jax.image.files import IMAGE_SUFFIXES, image_size
from wdsr_jax.photo.formats import OUTPUT_FORMATS, format_of
from wdsr_jax.video.formats import VIDEO_SUFFIXES, WRITABLE_SUFFIXES, is_video

# Endings of the files that are taken from a folder.
_SUFFIXES = (*IMAGE_SUFFIXES, ".gif", ".jp2", ".jfif", *VIDEO_SUFFIXES)
# Image formats that an output keeps; the others (GIF, BMP, JPEG 2000, PPM) become PNG.
_KEPT_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".avif")


class Job(NamedTuple):
    """A file to upscale.

    Attributes:
        source: the file.
        target: where the result goes.
        size: (H, W) of an image as its header gives it; None where it does not, and of a video.
    """

    source: Path
    target: Path
    size: tuple[int, int] | None


def find_jobs(args: argparse.Namespace) -> list[Job]:
    """The files to upscale and where the results go, in order.

    A folder is searched with its subfolders for images and videos by their endings, without hidden files;
    below `--out` it keeps its structure.

    Args:
        args: see `command.parse_arguments`.

    Raises:
        UserError: an input is missing, or inputs and outputs do not fit together.
    """
    out = Path(args.out)
    found = [(path, inner) for name in args.inputs for path, inner in _expand(name, out)]
    single = len(args.inputs) == len(found) == 1 and not os.path.isdir(args.inputs[0])
    to_file = single and bool(out.suffix) and not args.out.endswith("/") and not out.is_dir()
    if to_file and not is_video(out):
        format_of(out)  # or UserError; a folder with a dot in its name ends in /
    if out.exists() and not out.is_dir() and not to_file:
        raise UserError(f"--out={out}: is a file, but several outputs need a folder")
    jobs: list[Job] = []
    targets: dict[str, Path] = {}
    for source, inner in dict(found).items():
        target = out if to_file else out / inner.parent / _output_name(source, args)
        key = os.path.realpath(target)
        if key == os.path.realpath(source):
            raise UserError(f"{source}: the output would replace the input; choose another --out or --name")
        if key in targets:
            raise UserError(f"{source} and {targets[key]} would both become {target}; choose another --name")
        targets[key] = source
        jobs.append(Job(source, target, None if is_video(source) else image_size(source)))
    inputs = {os.path.realpath(job.source) for job in jobs}
    for job in jobs:
        if os.path.realpath(job.target) in inputs:
            raise UserError(f"{job.target}: is an input and would be an output; choose another --out")
    return jobs


def _expand(name: str, out: Path) -> Iterator[tuple[Path, Path]]:
    """The files that an argument names, each with its path below the folder searched."""
    path = Path(name)
    if path.is_dir():
        files = sorted(
            file for file in path.rglob("*") if _is_picture(file) and not _is_left_out(file, path, out)
        )
        if not files:
            raise UserError(f"{name}: no image or video in it (by ending: {', '.join(_SUFFIXES)})")
        yield from ((file, file.relative_to(path)) for file in files)
    elif path.exists():
        yield path, Path(path.name)
    elif glob.has_magic(name):  # a shell that does not expand it, or no match
        matches = [Path(match) for match in sorted(glob.glob(name, recursive=True))]
        matches = [match for match in matches if _is_picture(match)]
        if not matches:
            raise UserError(f"{name}: no image or video fits")
        yield from ((match, Path(match.name)) for match in matches)
    else:
        raise UserError(f"{name}: no such file or folder")


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in _SUFFIXES and file.is_file()


def _is_left_out(file: Path, folder: Path, out: Path) -> bool:
    """Whether a file in a folder is left out: it is hidden, or the output of an earlier run."""
    out, folder_itself = out.resolve(), folder.resolve()
    is_output = folder_itself in out.parents and out in file.resolve().parents
    return is_output or any(part.startswith(".") for part in file.relative_to(folder).parts)


def _output_name(source: Path, args: argparse.Namespace) -> str:
    """By --name, in --format or the input's format where it can be written, else PNG or MP4."""
    suffix = source.suffix
    if is_video(source):
        suffix = suffix if suffix.lower() in WRITABLE_SUFFIXES else ".mp4"
    elif args.format:
        suffix = OUTPUT_FORMATS[args.format]
    elif suffix.lower() not in _KEPT_SUFFIXES:
        suffix = ".png"
    scale = "" if args.scale is None else f"{args.scale:g}"
    return args.name.format(stem=source.stem, scale=scale) + suffix
