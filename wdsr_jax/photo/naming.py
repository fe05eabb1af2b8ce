"""Names of results: of a single one, and of many so that no two are the same."""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from wdsr_jax.errors import UserError
from wdsr_jax.photo.choice import choose_model, choose_video_model, network_name
from wdsr_jax.photo.formats import OUTPUT_FORMATS
from wdsr_jax.photo.photos import read_photo
from wdsr_jax.photo.sizes import size_label, target_size
from wdsr_jax.system.devices import on_cpu
from wdsr_jax.video.formats import VIDEO_FORMATS, is_video
from wdsr_jax.weights.files import FAMILIES, find_weights, pretrained_for

# Image formats that an output keeps; the others (GIF, BMP, JPEG 2000, PPM) become PNG.
_KEPT_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".avif")
FIELDS = ("stem", "scale", "model", "ext", "parent")  # of --name


class Input(NamedTuple):
    """A file to upscale.

    Attributes:
        source: the file.
        folder: the folder among the arguments in which it was found; None for a file named itself.
        size: (H, W) of an image; None where that is not known, and of a video.
    """

    source: Path
    folder: Path | None
    size: tuple[int, int] | None


def name_targets(inputs: Iterable[Input], args: argparse.Namespace) -> tuple[dict[Input, Path], list[Path]]:
    """Where the result of each input goes.

    In `--out`, folders among the arguments keep their structure, and where there are several, their own
    names. Without `--out`, `photo.jpg` becomes `photo_x4.jpg` beside it, and the folder `photos` becomes
    `photos_x4`. Where two files would become one, files of several folders get a folder each, and then the
    old ending stays in the name: `a.jpg.png`.

    Args:
        inputs: to name.
        args: see `command.parse_arguments`.

    Returns:
        The targets, and those among them that keep the old ending. Where names still clash, so do targets.
    """
    inputs = list(inputs)
    folders = {item.folder for item in inputs if item.folder}
    targets = {item: _folder(item, folders, args) / _name(item, args) for item in inputs}
    if args.out:
        for group in _clashes(targets):
            parents = {item.source.parent for item in group if not item.folder}
            for item in group:
                if not item.folder and len(parents) > 1:
                    target = targets[item]
                    targets[item] = target.parent / _below_common(item.source.parent, parents) / target.name
    kept = []
    for group in _clashes(targets):
        for item in group:
            target, old = targets[item], item.source.suffix
            if old.lower() != target.suffix.lower():
                targets[item] = target.with_name(f"{target.stem}{old}{target.suffix}")
                kept.append(targets[item])
    return targets, kept


def _clashes(targets: dict[Input, Path]) -> list[list[Input]]:
    groups: dict[str, list[Input]] = {}
    for item, target in targets.items():
        groups.setdefault(os.path.normpath(target), []).append(item)
    return [group for group in groups.values() if len(group) > 1]


def _folder(item: Input, folders: set[Path], args: argparse.Namespace) -> Path:
    """The folder of a result."""
    if not item.folder:
        return Path(args.out) if args.out else item.source.parent
    inner = item.source.relative_to(item.folder).parent
    if not args.out:
        beside = Path(os.path.abspath(item.folder))  # which has a name, unlike "." and ".."
        return Path(os.path.relpath(beside.with_name(f"{beside.name}_{size_label(args)}"))) / inner
    return Path(args.out) / (_below_common(item.folder, folders) if len(folders) > 1 else "") / inner


def _below_common(folder: Path, folders: set[Path]) -> str:
    """The path of a folder below the deepest one that has all of `folders` in it."""
    common = os.path.commonpath([Path(os.path.abspath(one)).parent for one in folders])
    return os.path.relpath(folder, common)


def _name(item: Input, args: argparse.Namespace) -> str:
    """By --name, with the ending of `_suffix`."""
    source = item.source
    pattern = args.name or ("{stem}" if args.out or item.folder else f"{{stem}}_{size_label(args)}")
    factor = args.scale
    if item.size and factor is None:
        size = target_size(item.size, width=args.width, height=args.height, megapixels=args.megapixels)
        factor = max(size[0] / item.size[0], size[1] / item.size[1])
    fields = dict.fromkeys(FIELDS, "")
    fields |= dict(stem=source.stem, ext=source.suffix[1:])
    if "{parent" in pattern:
        fields["parent"] = Path(os.path.abspath(source)).parent.name
    fields["scale"] = f"{factor:.3g}" if factor else size_label(args)
    if "{model" in pattern:
        fields["model"] = _model_name(args.model, source, factor or 4)
    return pattern.format(**fields) + _suffix(source, args)


def _model_name(model: str | None, source: Path, factor: float) -> str:
    if model is None:
        model = _chosen(source, factor)
    if model is None or model in FAMILIES:
        return network_name(model, factor) or "none"
    path = find_weights(model)
    return path.parent.name if os.path.isdir(os.path.expanduser(model)) else path.stem


def _chosen(source: Path, factor: float) -> str | None:
    """The family that will be chosen for a file: it is read for that where it has to be."""
    if is_video(source):
        return choose_video_model(None, factor, on_cpu=on_cpu()).model
    if pretrained_for(factor, "photo") is None:
        return None
    try:
        return choose_model(None, read_photo(source), factor).model
    except UserError:  # it is named when it is upscaled
        return None


def _suffix(source: Path, args: argparse.Namespace) -> str:
    """That of --format or of the input where it can be written, else PNG or what holds a video's streams."""
    suffix = source.suffix
    if is_video(source):
        if args.format in VIDEO_FORMATS:
            return VIDEO_FORMATS[args.format]
        from wdsr_jax.video.streams import choose_suffix  # PyAV, which --help can do without

        return choose_suffix(source)
    if args.format in OUTPUT_FORMATS:
        return OUTPUT_FORMATS[args.format]
    return suffix if suffix.lower() in _KEPT_SUFFIXES else ".png"
