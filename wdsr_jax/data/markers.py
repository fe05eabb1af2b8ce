"""What the names of an image file and of its folders say: HR or LR, of which scale, and what it is called.

Some marks are certain: `HR`, `GT`, `LR` and `LQ` in capitals, as in `img_001_SRF_2_HR.png`, `0001_LR4.png`,
`DIV2K_train_LR_bicubic/X4_sub` or `GTmod12`, and as a folder in any case, as in `lr_x4`. Others are words
that photographs have as well: `low`, `input`, `x4`. Those count only beside their partner, for which `names`
looks.
"""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

Kind = Literal["HR", "LR"]


class Mark(NamedTuple):
    """What the name of a file says.

    Attributes:
        kind: HR or LR; None where it does not say.
        base: the name without its mark, which LR and HR of a pair have in common.
        scale: that the name states, or None.
        tag: which of several LR of one HR: `w1` of DIV2K's `0001x4w1`.
    """

    kind: Kind | None
    base: str
    scale: int | None = None
    tag: str = ""


_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("hr", "gt", "hq", "high", "highres", "target", "targets", "groundtruth"), "HR"),
    **dict.fromkeys(("lr", "lq", "low", "lowres", "input", "inputs"), "LR"),
}
_METHOD = r"(?:bicubic|bic|BI|BD|DN)"  # how LR was made: RCAN's LRBI, LRBD and LRDN
_SCALE = (
    r"(?:[_-]?x(?P<scale>\d{1,2})|(?<=L[RQ])(?P<digit>\d))?"  # `_x4`, `x4`, RealSR's `LR4`, no car's `GT3`
)
_MARK_IN_FILE = rf"(?:^|[_-])(?:{_METHOD}_?)?(?P<kind>%s)(?:_?{_METHOD})?{_SCALE}(?=$|[_-])"
_CERTAIN_FILE = re.compile(r"(?:_SRF_(?P<srf>\d+))?" + _MARK_IN_FILE.replace("?x(", "?[xX](") % "HR|GT|LR|LQ")
_LIKELY_FILE = re.compile(_MARK_IN_FILE % "|".join(_KINDS), re.IGNORECASE)
_DIV2K_LR = re.compile(r"(?P<base>.+)x(?P<scale>\d|16)(?P<tag>(?:[mdw]\d?)?)(?P<part>(?:_s\d+)?)")
_OTHER_RESULT = re.compile(r".+_SRF_\d+_.+")  # SelfExSR: img_001_SRF_2_bicubic.png

_CERTAIN_FOLDER = re.compile(
    r"(?<![A-Z])(HR|GT|LR|LQ)(?![A-Z])|(?:^|_)(HR|LR)|(?i:(?:^|[^a-z])(hr|gt|lr|lq)(?:$|[^a-z]|bic|x\d))"
)
_SPLIT = r"(?:train|training|val|valid|validation|test|eval)[_-]?"
_LIKELY_FOLDER = re.compile(
    rf"(?:.*[^a-z])?({'|'.join(_KINDS)})(?:$|[^a-z].*)|{_SPLIT}(H|L)|x(1)|x\d\d?", re.IGNORECASE
)
_EITHER_FOLDER = re.compile(rf"{_SPLIT}[AB]", re.IGNORECASE)
_PART = re.compile(r"(train|valid|val|test|eval)", re.IGNORECASE)
_SCALE_FOLDER = re.compile(r"[xX]\d{1,2}")
_FOLDER_SCALE = re.compile(r"(?i:x)(\d{1,2})(?![0-9A-Za-z])")


def certain_mark(stem: str) -> Mark | None:
    """The mark of a file name in capitals, such as `_HR`, `_LRx4` or `_SRF_2_LR`; None without one."""
    return _mark(stem, _CERTAIN_FILE)


def likely_mark(stem: str) -> Mark | None:
    """The mark of a file name that counts beside a partner only, such as `_low`; None without one."""
    return _mark(stem, _LIKELY_FILE)


def div2k_mark(stem: str) -> Mark | None:
    """That of DIV2K's LR, `0001x4w1`, also of a part of it, `0001x4_s001`; None of another name."""
    match = _DIV2K_LR.fullmatch(stem)
    if not match:
        return None
    return Mark("LR", match["base"] + match["part"], int(match["scale"]), match["tag"])


def is_other_result(stem: str) -> bool:
    """Whether a file is neither HR nor LR but the result of another method, as SelfExSR has them."""
    return bool(_OTHER_RESULT.fullmatch(stem))


def certain_folder(folders: Sequence[str]) -> Kind | None:
    """What the last of the folders that say it for certain says."""
    for folder in reversed(folders):
        if match := _CERTAIN_FOLDER.search(folder):
            return _KINDS[next(filter(None, match.groups())).lower()]
    return None


def likely_folder(folder: str) -> Kind | None:
    """What a folder's name says where a partner is beside it: `high`, `input`, `trainH`, `x1`, `x4`."""
    match = _LIKELY_FOLDER.fullmatch(folder)
    if not match:
        return None
    word, letter, one = match.groups()
    if word:
        return _KINDS[word.lower()]
    return "HR" if one or (letter and letter in "Hh") else "LR"


def is_either(folder: str) -> bool:
    """Whether a folder is one of two of which the names do not say which holds LR: `trainA`."""
    return bool(_EITHER_FOLDER.fullmatch(folder))


def is_scale(folder: str) -> bool:
    """Whether a folder's name is a scale and nothing else: `X4`."""
    return bool(_SCALE_FOLDER.fullmatch(folder))


def split_of(folder: str) -> str:
    """The part of a data set that a folder's name says: `train` of `DIV2K_train_HR`; empty without one."""
    match = _PART.search(folder)
    return match[1].lower() if match else ""


def folder_scale(folders: Sequence[str]) -> int | None:
    """The scale that the last of the folders with one states: `X4`, `LRbicx4`, `X4_sub`; None without."""
    for folder in reversed(folders):
        if match := _FOLDER_SCALE.search(folder):
            return int(match[1])
    return None


def _mark(stem: str, pattern: re.Pattern[str]) -> Mark | None:
    match = None
    for found in pattern.finditer(stem):
        match = found  # the last one
    if not match:
        return None
    groups = match.groupdict()
    digits = groups.get("srf") or groups["scale"] or groups["digit"]
    base = (stem[: match.start()] + stem[match.end() :]).strip("_-")
    return Mark(_KINDS[match["kind"].lower()], base, int(digits) if digits else None)
