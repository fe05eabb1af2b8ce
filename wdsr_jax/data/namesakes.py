"""Which images are LR and which HR where no name says it: by their sizes.

Images of one data set come in kinds: those of one folder, or those whose names end in the same word. Where
the images of one kind have namesakes in another kind that are exactly 1/scale as large, both are pairs. Only
the headers of a few files are read, whatever the number of images.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import NamedTuple, TypeVar

from wdsr_jax.data.markers import Kind, is_scale
from wdsr_jax.image.files import image_size

Size = tuple[int, int]  # (H, W) in pixels
SizeOf = Callable[[Path], Size | None]
T = TypeVar("T")

_MOST_KINDS = 12  # more are not compared: videos, say, each with frames of the same names
_DEEPEST = 4  # folder below the one given that may tell the kind
_SAMPLES = 8  # images of two kinds whose sizes are compared
_GROUPS = 64  # groups of like names that are looked at for a hint, and images of each
_RATIOS = (*range(2, 9), 16)  # that LR of one scale or another has
_WORD = re.compile(r"(.+)[-_. ]([^-_. ]*[A-Za-z][^-_. ]*)")  # a stem and its last word, which is no number


class Image(NamedTuple):
    """An image file.

    Attributes:
        path: of it.
        folders: between it and the folder of all.
        stem: its name without the ending.
    """

    path: Path
    folders: tuple[str, ...]
    stem: str


class Role(NamedTuple):
    """What an image is.

    Attributes:
        kind: HR or LR; None for LR of another scale.
        base: name that LR and HR of a pair have in common.
        folders: that they have in common.
    """

    kind: Kind | None
    base: str
    folders: tuple[str, ...]


_Key = tuple[tuple[str, ...], str]  # folders and base of a `Role`
_Kinds = dict[str, dict[_Key, int]]  # by kind and key the position of an image


def fits(lr: Size, hr: Size, scale: int) -> bool:
    """Whether LR has HR's size divided by `scale`, rounded down or, as MATLAB does, up."""
    return all(y >= scale and x in (y // scale, -(-y // scale)) for x, y in zip(lr, hr, strict=True))


def roles_by_size(images: Sequence[Image], scale: int) -> list[Role] | None:
    """What each image is, where sizes tell.

    Args:
        images: of names that do not say it.
        scale: HR pixels per LR pixel and side.

    Returns:
        The role of each; None where they are not pairs throughout. An image may still lack its partner, where
        most have theirs.
    """
    if scale == 1:
        return None
    size_of = lru_cache(maxsize=None)(image_size)
    for kinds in _ways_to_sort(images):
        if not 2 <= len(kinds) <= _MOST_KINDS:
            continue
        found = _roles_of_kinds({name: _paths(kind, images) for name, kind in kinds.items()}, scale, size_of)
        # A name with one word more is not that of the HR: it may be a result that was made from the other.
        if found is None or found.get("") == "LR":
            continue
        roles: dict[int, Role] = {}
        for name, kind in kinds.items():
            for (folders, base), i in kind.items():
                roles[i] = Role(found[name], base, folders)
        if len(roles) == len(images):
            return [roles[i] for i in range(len(images))]
    return None


def find_smaller_namesake(images: Sequence[Image], scale: int) -> tuple[Path, Path] | None:
    """An image of 1/scale the size of another of like name, and that other; None where none is found.

    At most 64 groups of like names are looked at, and 8 images of each.

    Args:
        images: taken as HR.
        scale: HR pixels per LR pixel and side.
    """
    by_stem, by_base = defaultdict(list), defaultdict(list)
    for image in images:
        by_stem[image.stem].append(image.path)
    for kind in _by_last_word(images).values():
        for key, i in kind.items():
            by_base[key].append(images[i].path)
    groups = [group for groups in (by_stem, by_base) for group in groups.values() if len(group) > 1]
    for group in _spread(groups, _GROUPS):
        sizes = {path: image_size(path) for path in _spread(group, _SAMPLES)}
        known = {path: size for path, size in sizes.items() if size}
        for large, small in combinations(sorted(known, key=lambda path: known[path], reverse=True), 2):
            if scale > 1 and fits(known[small], known[large], scale):
                return small, large
    return None


def _ways_to_sort(images: Sequence[Image]) -> Iterator[_Kinds]:
    """The kinds by folder, from the outermost down, by the last word of the names, by the whole names."""
    depth = max((len(image.folders) for image in images), default=0)
    for level in range(min(depth, _DEEPEST)):
        kinds: _Kinds = defaultdict(dict)
        for i, (_, folders, stem) in enumerate(images):
            end = level + 1
            while end < len(folders) and is_scale(folders[end]):
                end += 1
            # `end` may lie beyond the last folder: the kind is then that of the images above.
            kinds["/".join(folders[level:end])][folders[:level] + folders[end:], stem] = i
        yield kinds
    yield _by_last_word(images)
    if depth:
        kinds: _Kinds = defaultdict(dict)
        for i, (_, folders, stem) in enumerate(images):
            kinds[stem][folders, ""] = i
        yield kinds


def _by_last_word(images: Sequence[Image]) -> _Kinds:
    """Kinds by what follows the name that an image has in common with others in its folder."""
    stems = {(folders, stem) for _, folders, stem in images}
    last = [_WORD.fullmatch(image.stem) for image in images]
    words = defaultdict(set)
    for image, match in zip(images, last, strict=True):
        if match:
            words[image.folders, match[1]].add(match[2])
    kinds: _Kinds = defaultdict(dict)
    for i, (image, match) in enumerate(zip(images, last, strict=True)):
        folders, stem = image.folders, image.stem
        ends = [separator.start() for separator in re.finditer(r"[-_. ]", stem)]
        base = next((stem[:end] for end in reversed(ends) if (folders, stem[:end]) in stems), None)
        if base is None and match and len(words[folders, match[1]]) > 1:
            base = match[1]
        kinds[stem[len(base) :] if base else ""][folders, base or stem] = i
    return kinds


def _paths(kind: Mapping[_Key, int], images: Sequence[Image]) -> dict[_Key, Path]:
    return {key: images[i].path for key, i in kind.items()}


def _roles_of_kinds(
    kinds: Mapping[str, Mapping[_Key, Path]], scale: int, size_of: SizeOf
) -> dict[str, Kind | None] | None:
    """HR, LR, or None for another scale, of each kind; None where they are not pairs throughout."""
    larger: dict[str, dict[str, set[int]]] = {name: {} for name in kinds}
    for one, other in combinations(kinds, 2):
        for small, large in ((one, other), (other, one)):
            if ratios := _ratios(kinds[small], kinds[large], size_of):
                larger[small][large] = ratios
    roles: dict[str, Kind | None] = {}
    pairs = [(small, large) for small in kinds for large, r in larger[small].items() if scale in r]
    if sorted(name for pair in pairs for name in pair) == sorted(kinds):  # each is in one pair and no other
        for small, large in pairs:
            roles[large], roles[small] = "HR", "LR"
        return roles
    hr = {name for name, above in larger.items() if not above}
    roles.update(dict.fromkeys(hr, "HR"))
    lr_of = defaultdict(list)
    for name in kinds.keys() - hr:
        above = [large for large in larger[name] if large in hr]
        if len(above) != 1:
            return None
        is_lr = scale in larger[name][above[0]]
        roles[name] = "LR" if is_lr else None
        if is_lr:
            lr_of[above[0]].append(name)
    return roles if hr and all(len(lr_of[name]) == 1 for name in hr) else None


def _ratios(small: Mapping[_Key, Path], large: Mapping[_Key, Path], size_of: SizeOf) -> set[int]:
    """The factors by which images of one kind are smaller than their namesakes; empty where they are not."""
    shared = sorted(small.keys() & large.keys(), key=repr)
    if 2 * len(shared) <= max(len(small), len(large)):
        return set()
    pairs = ((size_of(small[key]), size_of(large[key])) for key in _spread(shared, _SAMPLES))
    found: list[set[int]] = []
    for lr, hr in pairs:
        if lr and hr:
            found.append({ratio for ratio in _RATIOS if fits(lr, hr, ratio)})
            if not found[-1]:  # as of most images that are no pairs: no further header is read
                return set()
    return set.intersection(*found) if found else set()


def _spread(items: Sequence[T], at_most: int) -> list[T]:
    """At most so many of the items, evenly from first to last."""
    if len(items) <= at_most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (at_most - 1))] for i in range(at_most)]
