"""The images that a network is measured on: those of a validation set, or of a folder."""

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from absl import logging

from wdsr_jax.data.dataset import PairedDataset
from wdsr_jax.data.names import PairFiles, check_pair_sizes, describe_pairs, find_pairs, image_size, set_name
from wdsr_jax.errors import UserError
from wdsr_jax.image.files import read_image
from wdsr_jax.image.resize import imresize

# Compilations that a set costs at most: its images are padded to this many shapes.
MAX_SHAPES = 6
_MANY_SHAPES = 100


class Example(NamedTuple):
    """An image to measure on.

    Attributes:
        name: for tables.
        lr_shape: (H, W) of the LR image.
        load: gives LR (H, W, 3) and HR (H * scale, W * scale, 3), uint8.
    """

    name: str
    lr_shape: tuple[int, int]
    load: Callable[[], tuple[np.ndarray, np.ndarray]]


def examples_of_pairs(pairs: PairedDataset) -> list[Example]:
    """The images of a validation set."""
    return [
        Example(name, shape, lambda i=i: pairs[i])
        for i, (name, shape) in enumerate(zip(pairs.names, pairs.lr_shapes, strict=True))
    ]


def examples_of_folder(
    folder: str | os.PathLike, scale: int, lr_folder: str | os.PathLike | None = None
) -> list[Example]:
    """The images of a benchmark set on disk; HR is cropped to a multiple of `scale` before LR is made.

    Only the headers of the files are read here, and one line of the log says what was taken. An image that
    cannot be measured (it is damaged, or a side is shorter than `scale`) raises UserError when it is loaded.

    Args:
        folder: of HR images, with or without LR images beside them, in a naming of `data.names`.
        scale: the upscaling factor.
        lr_folder: of the LR images, see `find_pairs`; None where names or sizes tell.

    Raises:
        UserError: no such folder, LR images that do not fit (or are missing, at scale 1), or no file in it
            that is an image large enough.
    """
    files = find_pairs(folder, scale, lr_folder)
    try:
        check_pair_sizes(files, scale)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None  # which names images, not their folder
    if scale == 1 and files[0].lr is None:
        raise UserError(
            f"{folder}: no LR images beside the HR; at scale 1 they cannot be made from HR, so give their "
            "folder as --lr=DIR"
        )
    sizes = [image_size(file.hr) or (0, 0) for file in files]
    if all(min(size) < scale for size in sizes):
        raise UserError(f"{folder}: no image in it that can be read and has {scale} pixels a side")
    logging.info("%s: %s", folder, describe_pairs(files, folder))
    return [_example_of_pair(file, size, scale) for file, size in zip(files, sizes, strict=True)]


def examples_of_folders(
    folders: Sequence[str], scale: int, lr_folders: Sequence[str] = ()
) -> dict[str, list[Example]]:
    """The images of several sets by the name of their set; by the folder where two sets have one name.

    Args:
        folders: one for each set.
        scale: the upscaling factor.
        lr_folders: of the LR images of each set; empty where names or sizes tell.

    Raises:
        UserError: as `examples_of_folder`.
    """
    names = [set_name(folder) for folder in folders]
    return {
        name if names.count(name) == 1 else folder: examples_of_folder(folder, scale, lr_folder)
        for name, folder, lr_folder in zip(names, folders, lr_folders or [None] * len(folders), strict=True)
    }


def _example_of_pair(file: PairFiles, size: tuple[int, int], scale: int) -> Example:
    height, width = (side // scale for side in size)

    def load() -> tuple[np.ndarray, np.ndarray]:
        hr = read_image(file.hr)[: height * scale, : width * scale]
        if not hr.size:
            raise UserError(f"{file.hr}: too small for x{scale}")
        if file.lr is None:
            return imresize(hr, Fraction(1, scale)), hr
        return read_image(file.lr)[:height, :width], hr

    return Example(file.name, (max(1, height), max(1, width)), load)


def padded_shapes(shapes: Sequence[tuple[int, int]], at_most: int = MAX_SHAPES) -> list[tuple[int, int]]:
    """For each of `shapes` (H, W) the shape it is padded to: few different ones, and few pixels added.

    Starts with every shape by itself and merges, again and again, the two groups whose union adds the
    fewest pixels. More than 100 shapes are first rounded to a grid, so that this takes less than a second.

    Args:
        shapes: of the images.
        at_most: how many different shapes may come out.
    """
    grid = 1
    while len({(h // grid, w // grid) for h, w in shapes}) > _MANY_SHAPES:
        grid *= 2
    cells = defaultdict(list)
    for i, (h, w) in enumerate(shapes):
        cells[h // grid, w // grid].append(i)
    groups = {
        (max(shapes[i][0] for i in members), max(shapes[i][1] for i in members)): members
        for members in cells.values()
    }
    while len(groups) > at_most:

        def added(a: tuple[int, int], b: tuple[int, int]) -> int:
            height, width = max(a[0], b[0]), max(a[1], b[1])
            areas = len(groups[a]) * a[0] * a[1] + len(groups[b]) * b[0] * b[1]
            return (len(groups[a]) + len(groups[b])) * height * width - areas

        a, b = min(((a, b) for a in groups for b in groups if a < b), key=lambda pair: (added(*pair), pair))
        members = groups.pop(a) + groups.pop(b)
        union = (max(a[0], b[0]), max(a[1], b[1]))
        groups[union] = groups.get(union, []) + members
    target = {i: shape for shape, members in groups.items() for i in members}
    return [target[i] for i in range(len(shapes))]
