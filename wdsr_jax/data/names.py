"""Finds image files and LR/HR pairs in folders, by the names that the published data sets use.

The name of a file tells whether it is HR or LR; where it does not, the folders below the one given tell:

- `img_001_SRF_2_HR.png`, `img_001_SRF_2_LR.png` (SelfExSR): HR and LR of `img_001` at scale 2. The results of
  other methods beside them (`img_001_SRF_2_bicubic.png`) are left alone.
- in a folder `HR` or `DIV2K_valid_HR`: HR. In `LR_bicubic/X4`, `DIV2K_train_LR_x8` or `LRbicx2`: LR.
- `0001x4.png` (DIV2K), where there is an HR `0001.png`: LR of `0001` at scale 4; also `0001x4m.png` (mild),
  `0001x4d.png` (difficult), `0001x4w.png` (wild) and `0001x4w1.png` to `0001x4w4.png`, several LR of one HR.
- anything else: HR.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from wdsr_jax.errors import UserError
from wdsr_jax.image.files import IMAGE_SUFFIXES, image_size

Size = tuple[int, int]  # (H, W) in pixels

_SELFEXSR = re.compile(r"(?P<base>.+?)(?:_SRF_(?P<scale>\d+))?_(?P<kind>HR|LR)")
_SELFEXSR_OTHER = re.compile(r".+_SRF_\d+_.+")
_DIV2K_LR = re.compile(r"(?P<base>.+)x(?P<scale>\d)(?P<tag>(?:[mdw]\d?)?)")
_FOLDER_KIND = re.compile(r"(?:^|_)(HR|LR)|^(hr|lr)$")
_FOLDER_SCALE = re.compile(r"[xX](\d)$")


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

    Args:
        folder: holds HR only, or HR and LR by the names above, at any depth; see the module's docstring.
        scale: LR of other scales, and SelfExSR's HR of other scales, are left alone.
        lr_folder: holds LR only, named as in DIV2K or exactly as the HR images; LR in `folder` are then left
            alone. Needed where `folder` has LR of several tracks.

    Returns:
        Pairs sorted by file; either all have an LR or none has. An HR with several LR (DIV2K's wild track) is
        in several pairs. Sizes are not looked at: `check_pair_sizes`.

    Raises:
        UserError: as for `find_images`; no HR; LR of other scales only; HR without LR where others have one,
            and the reverse; two LR that claim one HR, or two HR that one LR fits.
    """
    folder = Path(folder)
    hr, lr = _sort_out(find_images(folder), folder)
    if lr_folder is not None:
        lr_folder = Path(lr_folder)
        inside = Path(os.path.abspath(lr_folder))
        hr = [file for file in hr if inside not in Path(os.path.abspath(file.path)).parents]
        lr = [_as_lr(path, lr_folder) for path in find_images(lr_folder)]
    if not hr:
        raise UserError(f"{folder}: no HR among its images; give the folder that holds HR, or HR and LR")
    scales = {file.scale for file in hr + lr if file.scale is not None}
    hr = [file for file in hr if file.scale in (None, scale)]
    matching = [file for file in lr if file.scale in (None, scale)]
    if not hr or (lr and not matching):
        there = ", ".join(map(str, sorted(scales)))
        raise UserError(f"{lr_folder or folder}: no images of scale {scale}; there are of scale {there}")
    if not matching:
        return [PairFiles(name, file.path, None) for name, file in zip(_names(hr, folder), hr, strict=True)]
    return _match(hr, matching, folder, lr_folder or folder)


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
        fits = (x in (y // scale, -(-y // scale)) and y >= scale for x, y in zip(lr, hr, strict=True))
        if not all(fits):
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


def _sort_out(paths: list[Path], folder: Path) -> tuple[list[_File], list[_File]]:
    """HR files and LR files of a folder."""
    hr, lr, unmarked = [], [], []
    for path in paths:
        folders = path.relative_to(folder).parts[:-1]
        kinds = [match for match in map(_FOLDER_KIND.search, folders) if match]
        match = _SELFEXSR.fullmatch(path.stem)
        if match:
            scale = int(match["scale"]) if match["scale"] else _folder_scale(folders)
            file = _File(path, match["base"], "", scale, frozenset(folders))
            (hr if match["kind"] == "HR" else lr).append(file)
        elif _SELFEXSR_OTHER.fullmatch(path.stem):
            continue
        elif kinds and kinds[-1].group()[-2:].upper() == "LR":
            lr.append(_as_lr(path, folder))
        elif kinds:
            hr.append(_File(path, path.stem, "", _folder_scale(folders), frozenset(folders)))
        else:
            unmarked.append(_File(path, path.stem, "", None, frozenset(folders)))
    # `0001x4` is an LR if there is a `0001`; in a folder of photographs `tiles_2x2` is one of them.
    bases = {file.base for file in hr + unmarked}
    for file in unmarked:
        match = _DIV2K_LR.fullmatch(file.base)
        if match and match["base"] in bases:
            lr.append(_as_lr(file.path, folder))
        else:
            hr.append(file)
    if not lr and hr and all(re.fullmatch(r"\d{4}x\d(?:[mdw]\d?)?", file.base) for file in hr):
        return [], hr  # DIV2K's LR without HR: taken for HR it would train or measure nonsense
    return sorted(hr), sorted(lr)


def _as_lr(path: Path, folder: Path) -> _File:
    """An image that is known to be an LR."""
    folders = path.relative_to(folder).parts[:-1]
    match = _SELFEXSR.fullmatch(path.stem)
    if match:
        return _File(path, match["base"], "", int(match["scale"] or 0) or None, frozenset(folders))
    match = _DIV2K_LR.fullmatch(path.stem)
    if match:
        return _File(path, match["base"], match["tag"], int(match["scale"]), frozenset(folders))
    return _File(path, path.stem, "", _folder_scale((folder.name, *folders)), frozenset(folders))


def _folder_scale(folders: Sequence[str]) -> int | None:
    scales = [match for match in map(_FOLDER_SCALE.search, folders) if match]
    return int(scales[-1][1]) if scales else None


def _match(hr: list[_File], lr: list[_File], folder: Path, lr_folder: Path) -> list[PairFiles]:
    """Gives each LR its HR: that of the same base and, among several, of the most folders in common."""
    by_base = defaultdict(list)
    for i, file in enumerate(hr):
        by_base[file.base].append(i)
    lr_of = defaultdict(list)
    orphans = []
    for file in lr:
        common = [(len(hr[i].folders & file.folders), i) for i in by_base[file.base]]
        if not common:
            orphans.append(file.path.name)
            continue
        best = max(common)[0]
        nearest = [i for shared, i in common if shared == best]
        if len(nearest) > 1:
            both = ", ".join(str(hr[i].path) for i in nearest)
            raise UserError(f"{file.path}: fits more than one HR ({both}); give them names of their own")
        lr_of[nearest[0]].append(file)
    if orphans:
        raise UserError(f"{lr_folder}: LR without HR: {_list(orphans)}")
    alone = [file.path.name for i, file in enumerate(hr) if i not in lr_of]
    if alone:
        raise UserError(f"{folder}: HR without LR, while others have one: {_list(alone)}")
    pairs = []
    for i, name in enumerate(_names(hr, folder)):
        tags = {file.tag for file in lr_of[i]}
        numbered = all(re.fullmatch(r"[mdw]\d", tag) for tag in tags) and len({tag[0] for tag in tags}) == 1
        if len(lr_of[i]) > 1 and not (numbered and len(tags) == len(lr_of[i])):
            both = _list([str(file.path.relative_to(lr_folder)) for file in lr_of[i]])
            raise UserError(f"{lr_folder}: more than one LR of {hr[i].path.name}: {both}; give one LR folder")
        for file in lr_of[i]:
            pairs.append(PairFiles(name + file.tag if len(tags) > 1 else name, hr[i].path, file.path))
    return pairs


def _names(hr: list[_File], folder: Path) -> list[str]:
    """The shortest kind of name that tells all the files apart."""
    relative = [file.path.relative_to(folder) for file in hr]
    for names in ([file.base for file in hr], [path.with_suffix("").as_posix() for path in relative]):
        if len(set(names)) == len(names):
            return names
    return [path.as_posix() for path in relative]


def _list(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
