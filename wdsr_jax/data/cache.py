"""Decoded images on disk: uint8 pixels in one memory-mapped file, built once and shared by later runs.

Cropping a patch from a PNG costs the decoding of the whole image; from a memory map it costs the patch.
"""

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from absl import logging

from wdsr_jax.errors import UserError
from wdsr_jax.system.console import Progress
from wdsr_jax.system.files import default_cache_dir, open_regular, path_errors, read_regular
from wdsr_jax.system.locks import lock_folder
from wdsr_jax.system.pool import map_ordered

_FORMAT = 1  # of the files below; part of every key, so that another format is another cache
_STALE_SECONDS = 24 * 3600  # a temporary folder not written to for so long was left by a killed run


class ImageCache:
    """Read-only images of any sizes, memory-mapped; picklable, a process that unpickles it maps it anew.

    Attributes:
        folder: where `pixels` and `index.json` lie.
        names: the name of each image.
        shapes: (H, W) of each image.
        left_out: name -> reason of the images that could not be read.
    """

    def __init__(self, folder: str | os.PathLike):
        """Opens the cache in `folder`; OSError, ValueError, LookupError or TypeError where it is damaged."""
        self.folder = Path(folder)
        index = json.loads(read_regular(self.folder / "index.json"))
        self.names = tuple(index["names"])
        self.shapes = tuple((int(height), int(width)) for height, width in index["shapes"])
        self.left_out = dict(index["left_out"])
        self._ends = np.cumsum([3 * height * width for height, width in self.shapes]).tolist()
        with open_regular(self.folder / "pixels") as file:
            # A plain array over the map: slicing np.memmap itself is several times slower.
            self._pixels = np.asarray(np.memmap(file, np.uint8, "r"))
        if len(self.names) != len(self.shapes) or self._pixels.size != self._ends[-1]:
            raise ValueError(f"{self.folder}: the pixels do not fit the index")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> np.ndarray:
        """Image `i` as a read-only uint8 view (H, W, 3) of the map; nothing is read until it is used."""
        height, width = self.shapes[i]
        end = self._ends[i]
        return self._pixels[end - 3 * height * width : end].reshape(height, width, 3)  # (3HW,) -> (H, W, 3)

    def __reduce__(self):
        return ImageCache, (self.folder,)


def content_key(*parts: str | int) -> str:
    """32 hexadecimal digits (BLAKE2b) that stand for `parts` and for the format of the cache."""
    return hashlib.blake2b(json.dumps([_FORMAT, *parts]).encode(), digest_size=16).hexdigest()


def hash_files(paths: Sequence[Path]) -> list[str]:
    """BLAKE2b of the contents of each file, in threads; one that cannot be opened is hashed as its error."""

    def digest(path: Path) -> str:
        try:
            with open_regular(path) as file:
                return hashlib.file_digest(file, "blake2b").hexdigest()
        except OSError as error:
            return f"unreadable: {error.strerror}"  # it is reported when it is decoded

    digests = []
    with Progress(len(paths), "files", "checking files") as progress:
        for each in map_ordered(digest, paths):
            digests.append(each)
            progress.update()
    return digests


def build_cache(
    cache_dir: str | os.PathLike | None,
    key: str,
    names: Sequence[str],
    load: Callable[[int], np.ndarray],
    *,
    label: str = "decoding",
) -> ImageCache:
    """Opens the cache `key`, after building it where it is absent or damaged.

    Images are loaded in parallel, a bounded number ahead, and appear on disk under their final name only
    when all are there, so that processes that build the same cache at once all end with a good one.

    Args:
        cache_dir: folder of all caches; `default_cache_dir()` if None or empty.
        key: what the images are, as a file name; equal keys share a cache.
        names: name of each image, for the index and for messages.
        load: image `i` of `names` as uint8 (H, W, 3); called from several threads. Where it raises
            `UserError` the image is left out, and its message is logged (again by later runs).
        label: what the progress bar says.

    Returns:
        The images that could be loaded, in the order of `names`.

    Raises:
        UserError: no image could be loaded, or the cache cannot be written (it says where to).
    """
    folder = Path(cache_dir or default_cache_dir()).expanduser().absolute() / key
    cache = _open(folder)
    if cache is None:
        if folder.exists():
            logging.warning("%s: damaged image cache, rebuilt", folder)
        temporary = folder.parent / f".{key}.{uuid.uuid4().hex}"
        advice = "make room or choose another folder with --config.data.cache_dir=DIR"
        try:
            with path_errors(folder.parent, "the image cache cannot be written", advice):
                folder.parent.mkdir(parents=True, exist_ok=True)
                _remove_stale(folder)
                temporary.mkdir()
                _write(temporary, names, load, label)
                cache = _publish(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        logging.info("%d images cached in %s (%.1f GB)", len(cache), folder, cache._ends[-1] / 1e9)
    for reason in cache.left_out.values():
        logging.warning("left out: %s", reason)
    return cache


def _open(folder: Path) -> ImageCache | None:
    """The cache in `folder`; None where there is none or it is damaged."""
    try:
        return ImageCache(folder)
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _write(folder: Path, names: Sequence[str], load: Callable[[int], np.ndarray], label: str) -> None:
    """Writes `pixels` and `index.json` into `folder` and flushes them to the disk."""

    def attempt(i: int) -> np.ndarray | UserError:
        try:
            return load(i)
        except UserError as error:
            return error

    good, shapes, left_out = [], [], {}
    with open(folder / "pixels", "wb") as file, Progress(len(names), "images", label) as progress:
        for name, image in zip(names, map_ordered(attempt, range(len(names))), strict=True):
            if isinstance(image, UserError):
                left_out[name] = str(image)
            else:
                # Written, not mapped: a full disk is then an OSError and not a SIGBUS.
                file.write(np.ascontiguousarray(image, np.uint8).data)
                good.append(name)
                shapes.append(image.shape[:2])
            progress.update()
        _sync(file)
    if not good:
        raise UserError(
            f"none of {len(names)} images can be read: {next(iter(left_out.values()), 'no image')}"
        )
    with open(folder / "index.json", "w", encoding="utf-8") as file:
        json.dump({"names": good, "shapes": shapes, "left_out": left_out}, file)
        _sync(file)


def _publish(temporary: Path, folder: Path) -> ImageCache:
    """Renames `temporary` to `folder`, or opens the good cache that another process has put there."""
    with lock_folder(folder.parent):
        cache = _open(folder)
        if cache is None:
            if folder.exists():  # damaged; moved in one piece, for those who have it open
                damaged = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
                os.rename(folder, damaged)
                shutil.rmtree(damaged) if damaged.is_dir() else damaged.unlink()
            os.rename(temporary, folder)
            cache = ImageCache(folder)
        return cache


def _remove_stale(folder: Path) -> None:
    """Removes the temporary folders that killed builds of the same cache have left."""
    for old in folder.parent.glob(f".{folder.name}.*"):
        with suppress(OSError):  # a build that goes on beside this one may take its folder away
            times = [path.stat().st_mtime for path in (old, *old.glob("*"))]
            if max(times) < time.time() - _STALE_SECONDS:
                shutil.rmtree(old, ignore_errors=True)


def _sync(file) -> None:
    file.flush()
    os.fsync(file.fileno())
