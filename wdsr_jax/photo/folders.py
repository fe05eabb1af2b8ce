"""The pictures and videos in a folder, and what else lies there."""

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from wdsr_jax.image.files import IMAGE_SUFFIXES
from wdsr_jax.video.formats import VIDEO_SUFFIXES

# Endings of pictures that need a plug-in of Pillow: the module, and the extra of this package that has it.
_PLUGINS = {
    **dict.fromkeys((".heic", ".heif", ".hif"), ("HEIC", "pillow_heif", "heif")),
    ".jxl": ("JPEG XL", "pillow_jxl", "jxl"),
}
# Endings of pictures that are not read at all.
_UNREAD = {
    **dict.fromkeys(
        (
            *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mrw", ".nef"),
            *(".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".sr2", ".srf", ".srw", ".x3f"),
        ),
        "camera raw",
    ),
    **dict.fromkeys((".psd", ".psb"), "Photoshop"),
    **dict.fromkeys((".exr",), "OpenEXR"),
    **dict.fromkeys((".hdr", ".rgbe"), "Radiance HDR"),
    **dict.fromkeys(
        (".tga", ".pcx", ".ico", ".icns", ".xcf", ".jxr", ".wdp", ".pfm", ".dds"), "other pictures"
    ),
}
# Endings of the files that are taken from a folder.
_READ = frozenset((*IMAGE_SUFFIXES, *(".gif", ".jpe", ".jfif", ".mpo", ".apng", ".dib", ".pbm", ".pnm")))
_READ |= frozenset((".jp2", ".j2k", ".jpc", ".j2c", ".jpf", ".jpx", *VIDEO_SUFFIXES))

OnFailure = Callable[[Path, str], None]  # called with an entry that cannot be read, and why
OnLeftOut = Callable[[Path, str, bool], None]  # with a file, its kind, and whether it is a picture


def is_taken(name: str) -> bool:
    """Whether a file of that name is taken from a folder: by its ending, and if it can be read here."""
    suffix = os.path.splitext(name)[1].lower()
    return suffix in _READ or (suffix in _PLUGINS and find_spec(_PLUGINS[suffix][1]) is not None)


def kind_left_out(name: str) -> tuple[str, bool]:
    """The kind, for people, of a file that is not taken, and whether it is a picture."""
    suffix = os.path.splitext(name)[1].lower()
    if suffix in _PLUGINS:
        kind, _, extra = _PLUGINS[suffix]
        return f"{kind}, which pip install 'wdsr_jax[{extra}]' reads", True
    if suffix in _UNREAD:
        return _UNREAD[suffix], True
    return suffix or "without an ending", False


def pictures_in(folder: Path, out: str, on_failure: OnFailure, on_left_out: OnLeftOut) -> Iterator[Path]:
    """The pictures and videos in a folder and its subfolders, in the order of their names.

    Hidden files and folders are left out in silence, as is the folder of results. Links to folders are
    followed, and each folder is entered once.

    Args:
        folder: where to look.
        out: real path of the folder of results.
        on_failure: is told of what cannot be read: a folder, a broken link, a pipe.
        on_left_out: is told of the files that are not taken.
    """
    seen = set()
    with tqdm(desc=f"listing {folder}", unit=" names", leave=False, delay=1, disable=None) as bar:
        folders = [folder]
        while folders:
            current = folders.pop()
            try:
                status = os.stat(current)
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                with os.scandir(current) as entries:
                    visible = [entry for entry in entries if not entry.name.startswith(".")]
            except OSError as error:
                on_failure(current, f"cannot be read ({error.strerror or error})")
                continue
            deeper = []
            for entry in sorted(visible, key=lambda entry: entry.name):
                bar.update()
                path = Path(entry.path)
                taken = is_taken(entry.name)
                try:
                    if entry.is_dir():
                        if os.path.realpath(path) != out:
                            deeper.append(path)
                    elif entry.is_file() and taken:
                        yield path
                    elif entry.is_file():
                        on_left_out(path, *kind_left_out(entry.name))
                    elif taken:
                        on_failure(path, "not a regular file")
                except OSError as error:
                    on_failure(path, f"cannot be read ({error.strerror or error})")
            folders += reversed(deeper)
