"""What is said of a batch: before the work, during it, and at the end."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import logging

from wdsr_jax.photo.choice import Choice, network_name
from wdsr_jax.photo.jobs import Job, Plan, some_names
from wdsr_jax.system.console import Progress
from wdsr_jax.system.devices import on_cpu
from wdsr_jax.video.formats import is_video
from wdsr_jax.weights.files import FAMILIES

Lost = dict[str, list[Path]]  # what results do not keep, and of which files
OnPixels = Callable[[float], Any]  # called with the count of LR pixels that are done
OnChoice = Callable[[Path, Choice, float], None]  # called with a file, its network and the factor
Choices = dict[str, int]  # how many pictures were upscaled by each network that was chosen
_LONG = 600  # seconds, from which on it is said what would be faster


def report_plan(plan: Plan) -> None:
    """Says before the work what it is, what is done already, and what cannot be done."""
    for source, reason in plan.failures:
        logging.warning("%s: %s", source, reason)
    if plan.done:
        total = len(plan.jobs) + len(plan.done)
        logging.info("%d of %d there already (--overwrite redoes them)", len(plan.done), total)
    if plan.own:
        logging.info("results of earlier runs are not enlarged again: %s", some_names(plan.own))
    videos = sum(is_video(job.source) for job in plan.jobs)
    photographs = len(plan.jobs) - videos
    if len(plan.jobs) > 1:
        megapixels = sum(value for _, value in with_megapixels(plan.jobs))
        words = [f"{photographs} photographs of {megapixels:.3g} megapixels"] * bool(photographs)
        logging.info("%s", " and ".join(words + [f"{videos} videos"] * bool(videos)))


def with_megapixels(jobs: list[Job]) -> list[tuple[Job, float]]:
    """Each job with its LR megapixels, 0 for a video; where a size was not read, their mean."""
    known = [math.prod(job.size) / 1e6 for job in jobs if job.size]
    mean = sum(known) / len(known) if known else 0.0

    def megapixels(job: Job) -> float:
        return 0.0 if is_video(job.source) else math.prod(job.size) / 1e6 if job.size else mean

    return [(job, megapixels(job)) for job in jobs]


def paced(bar: Progress) -> OnPixels:
    """Moves the bar, and says after the second tile how long the rest will take if that is long.

    The first tile waits for the compiler.
    """
    seen: list[tuple[float, float]] = []  # seconds, megapixels

    def on_pixels(count: float) -> None:
        bar.update(count / 1e6)
        if len(seen) == 2:
            return
        seen.append((time.monotonic(), bar.done))
        if len(seen) == 2:
            (start, before), (stop, after) = seen
            seconds = (stop - start) / (after - before) * ((bar.total or 0) - after)
            if seconds > 60:
                logging.info("about %s to go%s", _duration(seconds), _faster(seconds))

    return on_pixels


def log_choice(source: Path, choice: Choice, factor: float) -> None:
    """Says which network a file is upscaled by and why, if there was a choice."""
    if choice.reason:
        name = network_name(choice.model, factor)
        logging.info("%s: %s, so by %s (--model=%s)", source, choice.reason, name, "|".join(FAMILIES))


def counting(choices: Choices) -> OnChoice:
    """Counts for `report_choices` instead of saying it of each file."""

    def on_choice(source: Path, choice: Choice, factor: float) -> None:
        if choice.reason:
            name = str(network_name(choice.model, factor))
            choices[name] = choices.get(name, 0) + 1

    return on_choice


def report_choices(choices: Choices) -> None:
    """Says how many files were upscaled by which network, if there was a choice."""
    if choices:
        counts = ", ".join(f"{count} by {name}" for name, count in sorted(choices.items()))
        logging.info("chosen by compression and noise: %s (--model=%s)", counts, "|".join(FAMILIES))


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _faster(seconds: float) -> str:
    """What would be faster, where the work is long."""
    if seconds < _LONG or not on_cpu():
        return ""
    return "; a smaller network (--model=fast), smaller pictures or a GPU would be faster"


def report_losses(lost: Lost) -> None:
    """Says what results do not keep: a line for each kind of loss."""
    for loss, sources in lost.items():
        logging.warning("not kept: %s (%d: %s)", loss, len(sources), some_names(sources))


def report_end(plan: Plan, failed: list[Path], lost: Lost, out: str | None, samples: bool = False) -> int:
    """Says at the end what was done, what was lost and left out, and what failed.

    Args:
        plan: of the files.
        failed: those that could not be upscaled, those of the plan among them.
        lost: what results do not keep.
        out: the argument --out.
        samples: whether each result is a folder of samples.

    Returns:
        The exit code.
    """
    count = len(plan.failures) + len(plan.jobs) - len(failed)
    folders = sorted({job.target.parent for job in plan.jobs})
    places = folders if samples or len(plan.jobs) > 1 else [job.target for job in plan.jobs]
    where = some_names(places) if samples or not out else out
    logging.info("%d enlarged%s", count, f", into {where}" if where else "")
    report_losses(lost)
    unread = [(kind, paths) for (kind, is_picture), paths in plan.left_out.items() if is_picture]
    others = [(kind, paths) for (kind, is_picture), paths in plan.left_out.items() if not is_picture]
    for kind, paths in unread:
        logging.warning("left out: %d %s (%s)", len(paths), kind, some_names(paths))
    if others:
        count = sum(len(paths) for _, paths in others)
        logging.info("left out: %d that are no pictures (%s)", count, ", ".join(kind for kind, _ in others))
    if failed:
        total = len(plan.jobs) + len(plan.done) + len(plan.failures)
        logging.error("%d of %d failed: %s", len(failed), total, ", ".join(map(str, failed)))
    return 1 if failed or unread else 0
