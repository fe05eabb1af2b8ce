"""From the names on a command line to pairs of input and output files.

A file that cannot be planned is a failure of its own: its name and the reason are kept, and the others go on.
"""

import argparse
import functools
import glob
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from wdsr_jax.errors import UserError
from wdsr_jax.photo.folders import is_taken, pictures_in
from wdsr_jax.photo.formats import format_of
from wdsr_jax.photo.naming import Input, name_targets
from wdsr_jax.photo.photos import upright_size
from wdsr_jax.photo.record import entry_of, is_same, options_of, read_record
from wdsr_jax.video.formats import is_video

_MOST_SIZES = 1000
_real_folder = functools.cache(os.path.realpath)
_Records = Callable[[Path], dict[str, dict[str, Any]]]


class Job(NamedTuple):
    """A file to upscale.

    Attributes:
        source: the file.
        target: where the result goes.
        size: (H, W) of an image, upright, as its header gives it; None where that was not read, and of a
            video.
        entry: what the record says of the result, see `record`.
    """

    source: Path
    target: Path
    size: tuple[int, int] | None
    entry: dict[str, Any]


class Plan(NamedTuple):
    """What a command line asks for.

    Attributes:
        jobs: to do, in order.
        done: results that are there already, of the same files and options.
        failures: (name, why) of what cannot be done.
        left_out: the files of folders that are not taken, by kind and whether that is a kind of picture.
        own: results of earlier runs among the inputs, which are not upscaled again.
    """

    jobs: list[Job]
    done: list[Path]
    failures: list[tuple[Path, str]]
    left_out: dict[tuple[str, bool], list[Path]]
    own: list[Path]


def find_jobs(args: argparse.Namespace) -> Plan:
    """The files to upscale and where the results go.

    A folder is searched with its subfolders, see `folders.pictures_in`; names: see `naming.name_targets`.

    Args:
        args: see `command.parse_arguments`.

    Raises:
        UserError: an argument names nothing, `--out` does not fit, or the only file cannot be planned.
    """
    _real_folder.cache_clear()  # links and the current folder may be others now
    plan = Plan([], [], [], {}, [])
    records = functools.cache(read_record)
    found = _without_own(_inputs(args, plan), args, records, plan)
    # The sizes of the first tell how long the work takes; of 100,000 they would take a minute to read.
    most = len(found) if args.scale is None and "{scale" in (args.name or "") else _MOST_SIZES
    inputs = [
        Input(path, folder, upright_size(path) if i < most and not is_video(path) else None)
        for i, (path, folder) in enumerate(found)
    ]
    out = Path(args.out) if args.out else None
    to_file = len(args.inputs) == len(inputs) == 1 and not inputs[0].folder and _is_file_name(args.out)
    if out and to_file:
        if not is_video(out):
            format_of(out)  # or UserError; a folder with a dot in its name ends in /
        targets = {inputs[0]: out}
    elif out and os.path.lexists(out) and not os.path.isdir(out):
        raise UserError(f"--out={out}: is a file, but several outputs need a folder")
    else:
        targets, kept = name_targets(inputs, args)
        if kept:
            logging.info("two inputs of one name: the old ending is kept in %s", some_names(kept))
    if args.samples:  # a folder for each, with number 1 as what says that all are there
        targets = {item: path.with_suffix("") / f"1{path.suffix}" for item, path in targets.items()}
    _plan(targets, args, records, plan)
    if len(args.inputs) == len(plan.failures) == 1 and not plan.jobs and not plan.left_out:
        raise UserError("{}: {}".format(*plan.failures[0]))
    return plan


def some_names(paths: Iterable[Path]) -> str:
    """The first names of many, for a message."""
    names = [str(path) for path in paths]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _real_path(path: Path) -> str:
    """`os.path.realpath`, ten times as fast for many files of few folders."""
    real = os.path.join(_real_folder(str(path.parent)), path.name)
    return os.path.realpath(real) if os.path.islink(real) else real


def _is_file_name(out: str | None) -> bool:
    """Whether `--out` names a file for a single result: it has an ending and is no folder."""
    return out is not None and bool(Path(out).suffix) and not out.endswith("/") and not os.path.isdir(out)


def _inputs(args: argparse.Namespace, plan: Plan) -> list[tuple[Path, Path | None]]:
    """The files that the arguments name, each once, with the folder that they were found in.

    A file that has a name of its own and names that are links is taken by its own; the log says so.

    Raises:
        UserError: an argument names nothing.
    """
    files: dict[str, tuple[Path, Path | None]] = {}
    links = []
    for name in args.inputs:
        # An empty folder or a missing file at the end may be meant as the folder of results.
        meant_as_out = name == args.inputs[-1] and len(args.inputs) > 1 and not args.out
        advice = f"; if the results are to go there, type --out={name}" if meant_as_out else ""
        for path, folder in _found_by(name, args, plan, advice):
            real = _real_path(path)
            first, _ = files.setdefault(real, (path, folder))
            if first is path or os.path.abspath(first) == os.path.abspath(path):
                continue
            if os.path.abspath(path) == real:
                files[real], path = (path, folder), first
            links.append(path)
    if links:
        logging.info("links to files that are taken already, left out: %s", some_names(links))
    return list(files.values())


def _found_by(
    name: str, args: argparse.Namespace, plan: Plan, advice: str
) -> Iterator[tuple[Path, Path | None]]:
    path = Path(name)
    if os.path.isdir(path):
        before = _count(plan)
        files = pictures_in(path, os.path.realpath(args.out) if args.out else "", *_reporters(plan))
        found = [(file, path) for file in files]
        if not found and before == _count(plan):
            raise UserError(f"{name}: no image or video in it{advice}")
        yield from found
    elif os.path.lexists(path):
        yield path, None
    elif glob.has_magic(str(path)):  # a shell that does not expand it, or no match
        matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
        matches = [match for match in matches if is_taken(match.name) and os.path.isfile(match)]
        if not matches:
            raise UserError(f"{name}: no image or video fits")
        yield from ((match, None) for match in matches)
    else:
        raise UserError(f"{name}: no such file or folder{advice}")


def _reporters(plan: Plan) -> tuple[Callable[[Path, str], None], Callable[[Path, str, bool], None]]:
    def on_failure(path: Path, reason: str) -> None:
        plan.failures.append((path, reason))

    def on_left_out(path: Path, kind: str, is_picture: bool) -> None:
        plan.left_out.setdefault((kind, is_picture), []).append(path)

    return on_failure, on_left_out


def _count(plan: Plan) -> int:
    return len(plan.failures) + sum(map(len, plan.left_out.values()))


def _without_own(
    found: Iterable[tuple[Path, Path | None]], args: argparse.Namespace, records: _Records, plan: Plan
) -> list[tuple[Path, Path | None]]:
    """The files that are no results of earlier runs; a single file that is named is taken as it is."""
    found = list(found)
    sources = {os.path.abspath(path) for path, _ in found}
    kept = []
    for path, folder in found:
        entry = records(path.parent).get(path.name)
        # Many names may come from a pattern that the shell expands; one that is typed is meant.
        if entry and (folder or (len(args.inputs) > 1 and entry.get("source") in sources)):
            plan.own.append(path)
        else:
            kept.append((path, folder))
    return kept


def _plan(targets: dict[Input, Path], args: argparse.Namespace, records: _Records, plan: Plan) -> None:
    """Sorts the inputs into jobs, results that are there, and failures."""
    options = options_of(args)
    sources = {_real_path(item.source) for item in targets}
    makers: dict[str, Path] = {}
    for item, target in targets.items():
        source, real = item.source, _real_path(target)
        try:
            entry = entry_of(source, options)
            recorded = records(target.parent).get(target.name)
            if real in sources and real == _real_path(source):
                raise UserError("the output would replace the input; choose another --out or --name")
            if real in sources:
                raise UserError(f"its output {target} is an input, too; choose another --out or --name")
            if real in makers:
                raise UserError(f"{makers[real]} becomes {target}, too; choose another --name")
            makers[real] = source
            if os.path.isdir(target):
                raise UserError(f"its output {target} is a folder")
            if args.overwrite or not os.path.lexists(target) or (recorded and not is_same(recorded, entry)):
                plan.jobs.append(Job(source, target, item.size, entry))
            elif recorded:
                plan.done.append(target)
            else:
                raise UserError(f"{target} is there and was made by something else; --overwrite replaces it")
        except (UserError, OSError) as error:
            plan.failures.append((source, getattr(error, "strerror", None) or str(error)))
