"""Photographs that wait to be upscaled, one after the other, and their results: what the local page shows.

Each is a few files in one folder, named by a random id. The name that came with it is only shown.
"""

import argparse
import json
import math
import re
import secrets
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from PIL import Image

from wdsr_jax.errors import UserError
from wdsr_jax.image.files import open_image, reading
from wdsr_jax.image.pixels import to_float, to_uint8
from wdsr_jax.photo.batch import upscale_by_arguments
from wdsr_jax.photo.choice import Choice, network_name
from wdsr_jax.photo.compare import shown_parts
from wdsr_jax.photo.formats import check_size, format_of
from wdsr_jax.photo.jobs import Job
from wdsr_jax.photo.naming import Input, name_targets
from wdsr_jax.photo.photos import Photo, read_photo, upright_size, write_photo
from wdsr_jax.photo.report import log_choice
from wdsr_jax.photo.sizes import target_size
from wdsr_jax.system.files import open_regular, path_errors
from wdsr_jax.video.formats import is_video

# Pictures of a photograph for the page, with their types. Browsers show neither TIFF nor HEIC.
VIEWS = {"thumbnail": "image/png", "nearest": "image/png", "bicubic": "image/avif", "after": "image/avif"}
_THUMBNAIL = 192  # pixels of the longer side
_LONGEST_NAME = 200  # characters; file systems take 255 bytes, and the result's name is longer
_AVIF = {"quality": 95, "subsampling": "4:4:4", "speed": 10}  # as in the page of `compare`


class _Removed(Exception):
    """The photograph was removed while it was upscaled."""


@dataclass
class Picture:
    """A photograph of the queue; UserError for a video.

    Attributes:
        name: the file's, as the browser gave it, without folders; to show, never to open.
        args: of the command, with what was chosen for this photograph.
        folder: where its files are.
        id: random; part of its files' names.
        result_name: what the result is called when it is saved.
        size: (H, W), upright; None where the header does not tell.
        state: `waiting`, `working`, `done` or `failed`.
        done: LR pixels that are done.
        started: seconds of the clock and pixels done when the first tile was done, which the compiler delays.
        left: seconds that the rest will take; None where nothing tells.
        choice: why a network was chosen, and which; None where there is no choice, and before it.
        error: why it failed, in one line.
        lost: what the result does not keep.
        shown: (H, W) of the part of the result that the page shows.
        result_size: (H, W).
        result_bytes: of the file.
        has_thumbnail: whether it has been written; the other views are there when it is done.
        removed: whether it was taken off the queue.
    """

    name: str
    args: argparse.Namespace
    folder: Path
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    result_name: str = ""
    size: tuple[int, int] | None = None
    state: str = "waiting"
    done: float = 0.0
    started: tuple[float, float] | None = None
    left: float | None = None
    choice: tuple[str, str | None] | None = None
    error: str = ""
    lost: tuple[str, ...] = ()
    shown: tuple[int, int] | None = None
    result_size: tuple[int, int] | None = None
    result_bytes: int | None = None
    has_thumbnail: bool = False
    removed: bool = False

    def __post_init__(self) -> None:
        self.name = _plain_name(self.name)
        if is_video(self.name):
            advice = "a video; the command line takes it: python -m wdsr_jax.upscale FILE"
            raise UserError(f"{self.name}: {advice}")
        targets, _ = name_targets([Input(Path(self.name), None, None)], self.args)
        (self.result_name,) = (target.name for target in targets.values())

    @property
    def upload(self) -> Path:
        """The file as it came."""
        return self.folder / f"{self.id}.upload"

    @property
    def result(self) -> Path:
        """The file upscaled."""
        return self.folder / f"{self.id}.{format_of(self.result_name)}"

    def view(self, name: str) -> Path:
        """The file of one of `VIEWS`."""
        return self.folder / f"{self.id}.{name}"

    def delete_files(self) -> None:
        """Deletes what is there of its files."""
        for path in (self.upload, self.result, *map(self.view, VIEWS)):
            path.unlink(missing_ok=True)

    def as_json(self) -> dict[str, Any]:
        """What the page shows of it."""
        size = self.size
        share = min(1.0, self.done / math.prod(size)) if size and self.done else None
        return {
            **{
                name: getattr(self, name)
                for name in ("id", "name", "state", "left", "choice", "error", "lost")
            },
            "scale": f"{self.args.scale:g}",
            "size": self.size,
            "share": share,
            "shown": self.shown,
            "resultSize": self.result_size,
            "resultName": self.result_name,
            "bytes": self.result_bytes,
            "hasThumbnail": self.has_thumbnail,
        }


class Queue:
    """Photographs in the order in which they came; `run` upscales one at a time. Safe between threads."""

    def __init__(self) -> None:
        """An empty queue."""
        self._pictures: dict[str, Picture] = {}
        self._changed = threading.Condition()
        self._closed = False

    def add(self, picture: Picture) -> None:
        """Adds a photograph whose `upload` has been written; one that is refused leaves no file.

        Raises:
            UserError: it is no picture, of no format that is read, or too large for its format. Other reasons
                show when it is read as a whole.
        """
        try:
            with (
                reading(picture.name),
                open_regular(picture.upload) as file,
                open_image(file, picture.name),
            ):
                picture.size = upright_size(picture.upload)
            if picture.size:
                height, width = target_size(picture.size, scale=picture.args.scale)
                check_size(picture.name, format_of(picture.result_name), width, height)
                picture.result_size = height, width
        except UserError:
            picture.delete_files()
            raise
        with self._changed:
            self._pictures[picture.id] = picture
            self._changed.notify_all()

    def find(self, identifier: str) -> Picture | None:
        """The photograph of an id."""
        with self._changed:
            return self._pictures.get(identifier)

    def pictures(self) -> list[Picture]:
        """All, in order."""
        with self._changed:
            return list(self._pictures.values())

    def remove(self, picture: Picture) -> None:
        """Takes a photograph and its files away; one that is being upscaled stops after its tile."""
        with self._changed:
            self._pictures.pop(picture.id, None)
            picture.removed = True
            if picture.state != "working":
                picture.delete_files()

    def as_json(self) -> str:
        """What the page shows."""
        with self._changed:
            return json.dumps([picture.as_json() for picture in self._pictures.values()])

    def close(self) -> None:
        """Ends `run`: what is being upscaled stops after its tile."""
        with self._changed:
            self._closed = True
            for picture in self._pictures.values():
                picture.removed = True
            self._changed.notify_all()

    def run(self) -> None:
        """Upscales photographs until the queue is closed; of one that fails the reason is kept."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._next())
                picture = self._next()
                if self._closed or picture is None:
                    return
                picture.state = "working"
            state, error = "failed", ""
            try:
                _upscale(picture)
                state = "done"
                logging.info("%s: enlarged", picture.name)
            except _Removed:
                pass
            except UserError as user_error:
                error = _line(str(user_error), picture)
            except Exception as fault:  # of this program or of a library: it costs one file, not the server
                error = _line(f"{picture.name}: failed ({type(fault).__name__}: {fault})", picture)
            if error and not picture.removed:
                logging.warning("%s", error)
            picture.upload.unlink(missing_ok=True)
            with self._changed:
                picture.state, picture.error = state, error
                if picture.removed:
                    picture.delete_files()

    def _next(self) -> Picture | None:
        return next((picture for picture in self._pictures.values() if picture.state == "waiting"), None)


def _upscale(picture: Picture) -> None:
    """Reads, upscales and writes a photograph as the command does, and writes its views.

    Raises:
        UserError: it cannot be read, is too large, or an option does not fit.
        _Removed: it was removed meanwhile.
    """
    with open_regular(picture.upload) as file:
        photo = read_photo(file, picture.name)
    picture.size = photo.pixels.shape[0], photo.pixels.shape[1]
    _write_thumbnail(picture, photo)

    def on_pixels(count: float) -> None:
        if picture.removed:
            raise _Removed
        now = time.monotonic()
        picture.done += count
        if picture.started is None:
            picture.started = now, picture.done
        elif picture.done > picture.started[1]:
            start, before = picture.started
            rest = math.prod(photo.pixels.shape[:2]) - picture.done
            picture.left = max(0.0, (now - start) / (picture.done - before) * rest)

    def on_choice(source: Path, choice: Choice, factor: float) -> None:
        log_choice(source, choice, factor)
        if choice.reason:
            picture.choice = choice.reason, network_name(choice.model, factor)

    job = Job(Path(picture.name), picture.result, picture.size, entry={})
    upscaled = upscale_by_arguments(photo, job, picture.args, on_pixels, on_choice=on_choice)
    if picture.removed:
        raise _Removed
    picture.result_size = upscaled.pixels.shape[0], upscaled.pixels.shape[1]
    lost = write_photo(picture.result, upscaled, quality=picture.args.quality)
    _write_views(picture, photo, upscaled)
    picture.lost, picture.result_bytes = (*photo.lost, *lost), picture.result.stat().st_size


def _plain_name(name: str) -> str:
    """The last part of a name, without what controls terminals or headers, and not too long."""
    last = re.split(r"[/\\]", name)[-1]
    last = "".join(character for character in last if character.isprintable()).strip()
    stem, dot, suffix = last.rpartition(".")
    if dot and len(suffix) < 10:
        last = stem[: _LONGEST_NAME - len(suffix)] + dot + suffix
    return last[: _LONGEST_NAME + 1] if last.strip(".") else "picture"


def _line(message: str, picture: Picture) -> str:
    """A message in one line that names the photograph rather than its files here."""
    for path, name in ((picture.upload, picture.name), (picture.result, picture.result_name)):
        message = message.replace(str(path), name)
    return " ".join(message.split())


# Pictures for the page.


def _write_thumbnail(picture: Picture, photo: Photo) -> None:
    step = max(1, max(photo.pixels.shape) // (4 * _THUMBNAIL))  # few pixels, however large the photograph
    image = Image.fromarray(_on_white(photo, (slice(None, None, step), slice(None, None, step))))
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    _save(image, picture.view("thumbnail"), "PNG", photo)
    picture.has_thumbnail = True


def _write_views(picture: Picture, photo: Photo, upscaled: Photo) -> None:
    """Before and after: the same parts, and before in the size of after as well."""
    lr_part, sr_part = shown_parts(photo.pixels.shape, upscaled.pixels.shape)
    nearest, after = (Image.fromarray(_on_white(*item)) for item in ((photo, lr_part), (upscaled, sr_part)))
    _save(nearest, picture.view("nearest"), "PNG", photo)
    _save(nearest.resize(after.size, Image.Resampling.BICUBIC), picture.view("bicubic"), "AVIF", photo)
    _save(after, picture.view("after"), "AVIF", photo)
    picture.shown = after.height, after.width


def _save(image: Image.Image, path: Path, image_format: str, photo: Photo) -> None:
    icc = photo.metadata.icc if photo.pixels.shape[2] == 3 else b""  # a profile of grey fits no RGB
    with path_errors(path.name):
        image.save(path, image_format, icc_profile=icc or None, **_AVIF if image_format == "AVIF" else {})


def _on_white(photo: Photo, part: tuple[slice, ...]) -> np.ndarray:
    """Part of a photograph as uint8 (H, W, 3), what is transparent on white."""
    pixels = photo.pixels[part]  # (H, W, 1 or 3)
    if photo.alpha is not None:
        opacity = to_float(photo.alpha[part])[..., None]
        pixels = to_uint8(to_float(pixels) * opacity + (1 - opacity))
    elif pixels.dtype != np.uint8:
        pixels = to_uint8(to_float(pixels))
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
