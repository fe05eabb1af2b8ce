"""Finds image files and LR/HR pairs in folders, by the names that the published data sets use.

The name of a file tells whether it is HR or LR, and where it does not, the folders below the one given:

- `HR`, `GT`, `LR` or `LQ` in a name, in capitals: `img_001_SRF_2_HR.png` and `img_001_SRF_2_LR.png`
  (SelfExSR; results of other methods beside them are left alone), `Canon_0001_LR4.png`, `0001_bicLRx4.png`.
- a folder `HR`, `gt`, `LQ`, `lr_x4`, `GTmod12`, `DIV2K_valid_HR`, `LR_bicubic/X4`, `DIV2K_train_LR_x4_sub`.
- `0001x4.png` (DIV2K), where there is an HR `0001.png`: LR of `0001` at scale 4; also `0001x4m.png` (mild),
  `0001x4d.png` (difficult), `0001x4w.png` (wild) and `0001x4w1.png` to `0001x4w4.png`, several LR of one HR.
- folders that say it beside each other alone: `high` and `low`, `target` and `input`, `trainH` and `trainL`,
  `x1` and `x4`, `HR` and `x4`.
- where no name says it, sizes: images of one folder, or of one last word, whose namesakes in another folder,
  or of another last word, are exactly 1/scale as large (see `namesakes`).
- anything else: HR.

`markers` has all the words.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from absl import logging

from wdsr_jax.data import markers
from wdsr_jax.data.namesakes import Image, Size, find_smaller_namesake, fits, roles_by_size
from wdsr_jax.errors import UserError
from wdsr_jax.image.files import IMAGE_SUFFIXES, image_size

_EXPLICIT = (
    "to say which is which, give the folder of HR as config.data.root and that of LR as config.data.lr_root "
    "(evaluate: as DIR and --lr=DIR)"
)
_MANY = 64  # HR of one name
_SAMPLES = 16  # pairs of which one scale's sizes are compared


class PairFiles(NamedTuple):
    """One HR image and, where it is on disk, one LR image of it.

    Attributes:
        name: short and unique among the pairs found together.
        hr: file of the HR image.
        lr: file of the LR image; None where it is to be made from HR.
    """

    name: str
    hr: Path
    lr: Path | None


class _File(NamedTuple):
    path: Path
    base: str  # what LR and HR of a pair have in common in their names
    tag: str  # `w1` of `0001x4w1`
    scale: int | None  # None: the name does not say
    folders: frozenset[str]  # between it and the folder given
    rest: tuple[str, ...]  # of these folders what LR and HR of a pair have in common


def find_images(folder: str | os.PathLike) -> list[Path]:
    """All image files in a folder and the folders below it, sorted.

    Args:
        folder: links to folders in it are followed; hidden files and folders are skipped.

    Returns:
        At least one path, each with a suffix of `IMAGE_SUFFIXES`. The files are not opened.

    Raises:
        UserError: the folder is missing, no folder, may not be read, or holds no image.
    """
    folder = Path(folder)
    if not folder.exists():
        raise UserError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise UserError(f"{folder}: not a folder")
    found, seen = [], set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        real = os.path.realpath(parent)
        if real in seen:  # a link to a folder above it
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                found.append(Path(parent, name))
    if not found:
        raise UserError(f"{folder}: no image in it ({', '.join(IMAGE_SUFFIXES)})")
    return sorted(found)


def find_pairs(
    folder: str | os.PathLike, scale: int, lr_folder: str | os.PathLike | None = None
) -> list[PairFiles]:
    """The HR images of a folder, each with its LR where there are LR images.

    Where all is taken as HR and one image looks like the LR of another, that is logged.

    Args:
        folder: holds HR only, or HR and LR by the names above, at any depth; see the module's docstring.
        scale: LR of other scales, and HR of other scales, are left alone.
        lr_folder: holds LR only, named as in DIV2K or exactly as the HR images; other LR in `folder` is then
            left alone. Needed where names and sizes do not tell, or `folder` has LR of several tracks.

    Returns:
        Pairs sorted by file; either all have an LR or none has. An HR with several LR (DIV2K's wild track) is
        in several pairs. Sizes are looked at where names do not tell, and of a few files: `check_pair_sizes`.

    Raises:
        UserError: as for `find_images`; no HR; LR of other scales only; HR without LR where others have one,
            and the reverse; two LR that claim one HR, or two HR that one LR fits; folders `trainA` and
            `trainB` where sizes do not tell which holds LR.
    """
    folder = Path(folder)
    images = _images(find_images(folder), folder)
    if lr_folder is not None:
        lr_folder = Path(lr_folder)
        inside = Path(os.path.abspath(lr_folder))
        images = [image for image in images if inside not in Path(os.path.abspath(image.path)).parents]
        hr = _sort_out(images)[0] or [_file(image, image.stem) for image in images]
        lr = _as_lr(_images(find_images(lr_folder), lr_folder), hr, lr_folder.name)
    else:
        hr, lr = _sort_out(images)
        if not lr:
            hr, lr = _sort_by_size(hr, scale, folder)
    if not hr:
        raise UserError(f"{folder}: no HR among its images; give the folder that holds HR, or HR and LR")
    return _pairs_of_scale(hr, lr, scale, folder, lr_folder or folder)


def describe_pairs(pairs: Sequence[PairFiles], folder: str | os.PathLike) -> str:
    """What was taken, in a few words: `6 pairs: HR from GT, LR from LQ`.

    Args:
        pairs: from `find_pairs`.
        folder: that they were found in.
    """
    if pairs[0].lr is None:
        return f"{len(pairs)} HR images, from which LR is made"
    count = f"{len(pairs)} pair{'s' if len(pairs) > 1 else ''}"
    hr, lr = (
        _source(paths, Path(folder)) for paths in ([p.hr for p in pairs], [p.lr for p in pairs if p.lr])
    )
    if hr != lr:
        return f"{count}: HR from {hr}, LR from {lr}"
    first, second = (os.path.relpath(path, folder) for path in (pairs[0].hr, pairs[0].lr))
    return f"{count}: HR such as {first}, LR such as {second}"


def _source(paths: Sequence[Path], folder: Path) -> str:
    """The folder of the files, from `folder` where it lies below it."""
    common = Path(os.path.commonpath({path.parent for path in paths}))
    return common.relative_to(folder).as_posix() if common.is_relative_to(folder) else str(common)


def check_pair_sizes(pairs: Sequence[PairFiles], scale: int) -> None:
    """`check_sizes` for files, of which only the headers are read.

    Left to whoever reads the pixels: files that cannot be read, and HR of fewer than `scale` pixels a side.

    Raises:
        UserError: names the pairs that do not fit, with their sizes.
    """
    sizes = []
    for pair in pairs:
        lr, hr = image_size(pair.lr) if pair.lr else None, image_size(pair.hr)
        if lr and hr and min(hr) >= scale:
            sizes.append((pair.name, lr, hr))
    check_sizes(sizes, scale)


def check_sizes(pairs: Iterable[tuple[str, Size, Size]], scale: int) -> None:
    """Refuses pairs whose LR is not HR's size divided by `scale`, rounded down or, as MATLAB does, up.

    1356 rows of HR are 169 or 170 of LR at x8; of 170 the last is without its HR.

    Args:
        pairs: name, LR's size and HR's size of each.
        scale: HR pixels per LR pixel and side.

    Raises:
        UserError: names the pairs that do not fit, or have an HR smaller than one LR pixel, with sizes.
    """
    wrong = []
    for name, lr, hr in pairs:
        if not fits(lr, hr, scale):
            wrong.append(f"{name} (LR {lr[1]}x{lr[0]}, HR {hr[1]}x{hr[0]})")
    if wrong:
        raise UserError(
            f"LR and HR do not fit at scale {scale}: {_list(wrong)}; "
            "each LR must have its HR's size divided by the scale"
        )


def set_name(folder: str | os.PathLike) -> str:
    """The name of a data set: `Set5` for `.../Set5/image_SRF_2`, else the folder's own."""
    path = Path(os.path.abspath(folder))  # `.` has a name, too
    return path.parent.name if re.fullmatch(r"image_SRF_\d+", path.name) else path.name


def _refuse(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from None


def _images(paths: Sequence[Path], folder: Path) -> list[Image]:
    depth = len(folder.parts)
    return [Image(path, path.parts[depth:-1], path.stem) for path in paths]


def _sort_out(images: Sequence[Image]) -> tuple[list[_File], list[_File]]:
    """HR files and LR files of a folder, as far as names say it; what they do not say is HR."""
    hr, lr, lr_images, unsure = [], [], [], []
    for image in images:
        mark, kind = markers.certain_mark(image.stem), markers.certain_folder(image.folders)
        if mark:
            scale = mark.scale or markers.folder_scale(image.folders)
            (hr if mark.kind == "HR" else lr).append(_file(image, mark.base, scale))
        elif markers.is_other_result(image.stem):
            continue
        elif kind == "LR":
            lr_images.append(image)
        elif kind == "HR":
            hr.append(_file(image, image.stem, markers.folder_scale(image.folders)))
        else:
            unsure.append(image)
    more_lr, unsure = _split_likely_folders(unsure, hr)
    lr_images += more_lr
    more_lr, unsure = _split_likely_names(unsure, hr)
    lr_images += more_lr
    hr += [_file(image, image.stem) for image in unsure]
    lr += _as_lr(lr_images, hr)
    if not lr and hr and all(re.fullmatch(r"\d{4}x\d(?:[mdw]\d?)?", file.base) for file in hr):
        return [], []  # DIV2K's LR without HR: taken for HR it would train or measure nonsense
    return _without_hr_of_other_scales(sorted(hr), lr), sorted(lr)


def _split_likely_folders(images: Sequence[Image], hr: Sequence[_File]) -> tuple[list[Image], list[Image]]:
    """Images in folders that are likely LR and hold a namesake of one that is HR by its folder; the others.

    Args:
        images: whose certain names say nothing.
        hr: whose certain names say so.
    """
    folders = [next((f for f in reversed(image.folders) if markers.likely_folder(f)), "") for image in images]
    kinds = [markers.likely_folder(folder) for folder in folders]
    bases = {file.base for file in hr if file.folders}
    bases |= {image.stem for image, kind in zip(images, kinds, strict=True) if kind == "HR"}
    is_lr = set()
    for image, folder, kind in zip(images, folders, kinds, strict=True):
        names = (image.stem, *(mark.base for mark in _lr_marks(image.stem)))
        if kind == "LR" and not bases.isdisjoint(names):
            is_lr.add(folder)
    lr = [image for image, folder in zip(images, folders, strict=True) if folder in is_lr]
    return lr, [image for image, folder in zip(images, folders, strict=True) if folder not in is_lr]


def _split_likely_names(images: Sequence[Image], hr: Sequence[_File]) -> tuple[list[Image], list[Image]]:
    """Images whose names are those of LR, where there is an HR of that name; the others.

    `0001x4` is an LR if there is a `0001`; in a folder of photographs `tiles_2x2` is one of them. `cat_low`
    is an LR if there is a `cat_high`.
    """
    bases = {file.base for file in hr} | {image.stem for image in images}
    marked = {base for image in images if (base := _hr_base(image.stem))}
    lr, others = [], []
    for image in images:
        by_div2k, by_word = markers.div2k_mark(image.stem), markers.likely_mark(image.stem)
        is_lr = by_div2k is not None and by_div2k.base in bases
        is_lr = is_lr or (by_word is not None and by_word.kind == "LR" and by_word.base in marked)
        (lr if is_lr else others).append(image)
    return lr, others


def _as_lr(images: Sequence[Image], hr: Sequence[_File], folder: str = "") -> list[_File]:
    """Images that are known to be LR, each under the name of its HR where there is one.

    Args:
        images: them.
        hr: the HR files.
        folder: whose name may state the scale of all.
    """
    if not images:
        return []
    bases = {file.base: file.base for file in hr}
    for file in hr:
        bases.setdefault(_hr_base(file.base) or file.base, file.base)
    found = []
    for image in images:
        scale = markers.folder_scale((folder, *image.folders))
        marks = [markers.Mark("LR", image.stem, scale), *_lr_marks(image.stem)]
        mark = next((mark for mark in marks if mark.base in bases), marks[-1])
        found.append(_file(image, bases.get(mark.base, mark.base), mark.scale or scale, mark.tag))
    return found


def _lr_marks(stem: str) -> list[markers.Mark]:
    """What the name of an image may say that is LR."""
    marks = (markers.certain_mark(stem), markers.likely_mark(stem), markers.div2k_mark(stem))
    return [mark for mark in marks if mark and mark.kind == "LR"]


def _hr_base(stem: str) -> str:
    """`cat` of `cat_high`; empty where the name is not likely that of an HR."""
    mark = markers.likely_mark(stem)
    return mark.base if mark and mark.kind == "HR" else ""


def _file(image: Image, base: str, scale: int | None = None, tag: str = "") -> _File:
    return _File(image.path, base, tag, scale, frozenset(image.folders), _rest(image.folders))


@lru_cache(maxsize=4096)
def _rest(folders: tuple[str, ...]) -> tuple[str, ...]:
    """The folders without those that say HR, LR or a scale; of these the part of the set, such as `train`."""
    rest = []
    for folder in folders:
        if markers.certain_folder((folder,)) or markers.likely_folder(folder) or markers.is_scale(folder):
            rest += filter(None, [markers.split_of(folder)])
        else:
            rest.append(folder)
    return tuple(rest)


def _without_hr_of_other_scales(hr: list[_File], lr: Sequence[_File]) -> list[_File]:
    """Gives HR beside LR of one scale that scale: RealSR has a folder for each, with HR of its own."""
    if not lr:
        return hr
    scales = defaultdict(set)
    for file in lr:
        scales[file.path.parent, file.base].add(file.scale)
    found = []
    for file in hr:
        beside = scales.get((file.path.parent, file.base), set())
        is_of_scale = file.scale is None and len(beside) == 1 and markers.certain_mark(file.path.stem)
        found.append(file._replace(scale=next(iter(beside))) if is_of_scale else file)
    return found


def _sort_by_size(hr: list[_File], scale: int, folder: Path) -> tuple[list[_File], list[_File]]:
    """HR files and LR files where no name says it; where sizes do not, either, what looks like LR is logged.

    Raises:
        UserError: folders `trainA` and `trainB` of which sizes do not tell which holds LR.
    """
    images = _images([file.path for file in hr], folder)
    roles = roles_by_size(images, scale)
    if roles:
        files = [
            (role.kind, _file(image, role.base)._replace(rest=role.folders))
            for image, role in zip(images, roles, strict=True)
        ]
        hr, lr = ([file for kind, file in files if kind == wanted] for wanted in ("HR", "LR"))
        return hr, lr
    either = {name for image in images for name in image.folders if markers.is_either(name)}
    if partners := [name for name in sorted(either) if name[-1] in "Aa" and _partner(name) in either]:
        raise UserError(
            f"{folder}: {partners[0]} or {_partner(partners[0])} may hold LR, and sizes do not tell which at "
            f"scale {scale}; {_EXPLICIT}"
        )
    if like := find_smaller_namesake(images, scale):
        small, large = (path.relative_to(folder) for path in like)
        logging.warning(
            "%s: all is taken as HR, though %s has 1/%d the size of %s; %s",
            folder,
            small,
            scale,
            large,
            _EXPLICIT,
        )
    return hr, []


def _partner(name: str) -> str:
    """`trainB` of `trainA`."""
    return name[:-1] + ("B" if name[-1] == "A" else "b")


def _pairs_of_scale(
    hr: list[_File], lr: list[_File], scale: int, folder: Path, lr_folder: Path
) -> list[PairFiles]:
    """The pairs of a scale; HR alone where there is no LR at all."""
    scales = {file.scale for file in hr + lr if file.scale is not None}
    matching = [file for file in lr if file.scale in (None, scale)]
    if scale == 1 and lr and not matching and len(scales) == 1:
        # RealSR: LR of 4 times the focal length, but of HR's size.
        pairs = _match(hr, lr, folder, lr_folder)
        step = max(1, len(pairs) // _SAMPLES)
        if all(pair.lr and image_size(pair.hr) == image_size(pair.lr) for pair in pairs[::step]):
            return pairs
    hr = [file for file in hr if file.scale in (None, scale)]
    if not hr or (lr and not matching):
        there = ", ".join(map(str, sorted(scales)))
        raise UserError(f"{lr_folder}: no images of scale {scale}; there are of scale {there}")
    if not matching:
        return [PairFiles(name, file.path, None) for name, file in zip(_names(hr, folder), hr, strict=True)]
    return _match(hr, matching, folder, lr_folder)


def _match(hr: list[_File], lr: list[_File], folder: Path, lr_folder: Path) -> list[PairFiles]:
    """Gives each LR its HR, and refuses what is left over or claimed twice."""
    lr_of = defaultdict(list)
    orphans, advice = [], f"; {_EXPLICIT}"
    for file, fitting in zip(lr, _fitting(hr, lr), strict=True):
        if len(fitting) > 1:
            both = _list([str(hr[i].path) for i in fitting])
            raise UserError(f"{file.path}: fits more than one HR ({both}){advice}")
        if fitting:
            lr_of[fitting[0]].append(file)
        else:
            orphans.append(file.path)
    if orphans:
        raise UserError(f"{lr_folder}: LR without HR: {_list(_relative(orphans, lr_folder))}{advice}")
    alone = [file.path for i, file in enumerate(hr) if i not in lr_of]
    if alone:
        named = _list(_relative(alone, folder))
        raise UserError(f"{folder}: HR without LR, while others have one: {named}{advice}")
    pairs = []
    for i, name in enumerate(_names(hr, folder)):
        tags = {file.tag for file in lr_of[i]}
        numbered = all(re.fullmatch(r"[mdw]\d", tag) for tag in tags) and len({tag[0] for tag in tags}) == 1
        if len(lr_of[i]) > 1 and not (numbered and len(tags) == len(lr_of[i])):
            both = _list(_relative([file.path for file in lr_of[i]], lr_folder))
            raise UserError(f"{lr_folder}: more than one LR of {hr[i].path.name}: {both}; give one LR folder")
        for file in lr_of[i]:
            pairs.append(PairFiles(name + file.tag if len(tags) > 1 else name, hr[i].path, file.path))
    return pairs


def _fitting(hr: Sequence[_File], lr: Sequence[_File]) -> Iterator[list[int]]:
    """For each LR the HR of the same base: in the same folders but for their kind, else in the nearest."""
    by_base, by_place, by_parent = defaultdict(list), defaultdict(list), defaultdict(list)
    for i, file in enumerate(hr):
        by_base[file.base].append(i)
        by_parent[file.base, file.path.parent.name].append(i)
        by_place[file.base, file.rest].append(i)
    for file in lr:
        same, there = by_base[file.base], by_place[file.base, file.rest]
        if len(same) < 2 or len(there) == 1:
            yield there if len(there) == 1 else same
            continue
        if len(same) > _MANY:  # frames of many videos: to compare each with each would take minutes
            same = by_parent[file.base, file.path.parent.name] or same
        common = [(len(hr[i].folders & file.folders), i) for i in same]
        most = max(common)[0]
        yield [i for shared, i in common if shared == most]


def _names(hr: list[_File], folder: Path) -> list[str]:
    """The shortest kind of name that tells all the files apart."""
    names = [file.base or file.path.stem for file in hr]
    if len(set(names)) == len(names):
        return names
    paths = [file.path.relative_to(folder) for file in hr]
    names = [path.with_suffix("").as_posix() for path in paths]
    return names if len(set(names)) == len(names) else [path.as_posix() for path in paths]


def _relative(paths: Iterable[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def _list(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
