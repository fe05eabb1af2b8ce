"""LR/HR pairs over two image caches: the form of every source of training and validation data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from wdsr_jax.data.cache import ImageCache, build_cache, content_key, hash_files
from wdsr_jax.data.degradation import DEGRADATION_VERSION, degrade
from wdsr_jax.data.names import PairFiles, check_sizes
from wdsr_jax.data.online import ONLINE_VERSION, degrade_image
from wdsr_jax.data.settings import Degradation, Online
from wdsr_jax.errors import UserError
from wdsr_jax.image.files import read_image
from wdsr_jax.image.resize import imresize

_BORDER = "replicate"  # the rule that the published LR files follow
_IMRESIZE_VERSION = 1  # raise it when imresize gives other pixels: LR made earlier is then made anew


class Images(NamedTuple):
    """A set of images that are not decoded yet.

    Attributes:
        names: name of each image.
        load: index in `names` -> uint8 (H, W, 3), from several threads; `UserError` where it is broken.
        fingerprint: changes whenever names or contents do.
    """

    names: Sequence[str]
    load: Callable[[int], np.ndarray]
    fingerprint: str


@dataclass(frozen=True)
class PairedDataset:
    """LR/HR pairs; pair i is image `lr_index[i]` of `lr` with image `hr_index[i]` of `hr`.

    The images may be larger than what they have in common, which is HR // scale LR pixels from the top left.

    Attributes:
        lr: cache of LR images; None where LR is made from patches of HR while training.
        hr: cache of HR images.
        lr_index: position of each pair in `lr`; where there is none, in `hr`.
        hr_index: position of each pair in `hr`; more than one LR may belong to an HR.
        scale: HR pixels per LR pixel and side.
    """

    lr: ImageCache | None
    hr: ImageCache
    lr_index: tuple[int, ...]
    hr_index: tuple[int, ...]
    scale: int

    def __len__(self) -> int:
        return len(self.lr_index)

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """LR (h, w, 3) and HR (h * scale, w * scale, 3) of pair `i`, read-only uint8 views.

        ValueError where there is no LR.
        """
        if self.lr is None:
            raise ValueError("these images have no LR")
        hr = self.hr_image(i)
        height, width = hr.shape[0] // self.scale, hr.shape[1] // self.scale
        return self.lr[self.lr_index[i]][:height, :width], hr

    def hr_image(self, i: int) -> np.ndarray:
        """HR (h * scale, w * scale, 3) of pair `i`, a read-only uint8 view."""
        hr, scale = self.hr[self.hr_index[i]], self.scale
        return hr[: hr.shape[0] // scale * scale, : hr.shape[1] // scale * scale]

    @property
    def names(self) -> list[str]:
        """The name of each pair, which is its LR's."""
        names = (self.lr or self.hr).names
        return [names[i] for i in self.lr_index]

    @property
    def lr_shapes(self) -> list[tuple[int, int]]:
        """(h, w) of each pair's LR."""
        shapes = [self.hr.shapes[i] for i in self.hr_index]
        return [(height // self.scale, width // self.scale) for height, width in shapes]

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits: the same for the same pairs in the same order, pixels included."""
        caches = (self.lr or self.hr).folder.name, self.hr.folder.name  # keyed by content
        return content_key(*caches, self.scale, *self.lr_index, *self.hr_index)

    def subset(self, positions: Sequence[int]) -> "PairedDataset":
        """The pairs at `positions`, in that order."""
        return replace(
            self,
            lr_index=tuple(self.lr_index[i] for i in positions),
            hr_index=tuple(self.hr_index[i] for i in positions),
        )


def dataset_from_images(
    hr: Images,
    lr: Images | None,
    hr_of: Sequence[int] | None,
    scale: int,
    cache_dir: str | Path | None,
    degradation: Degradation | Online | None = None,
) -> PairedDataset:
    """Caches HR and LR images and pairs them; a pair of which a part cannot be read is left out.

    Args:
        hr: HR images.
        lr: LR images. None: LR is made from HR, cropped to a multiple of `scale`, by `imresize`.
        hr_of: for each image of `lr` the position of its HR in `hr`. None: `lr` is ordered as `hr`.
        scale: HR pixels per LR pixel and side.
        cache_dir: see `build_cache`.
        degradation: LR is made from HR by `degrade` instead; of the kind `Online` no LR is made, see
            `with_lr`.

    Returns:
        The pairs, in the order of `lr` (of `hr` where LR is made).

    Raises:
        UserError: an LR whose size is not HR's divided by `scale` (rounded down, or up as MATLAB does);
            no LR at scale 1; no pair that can be read; and what `build_cache` raises.
    """
    if lr is None and scale == 1 and degradation is None:
        raise UserError(
            "at scale 1 LR cannot be made from HR: name a folder that has both, in folders HR and LR, with "
            "--config.data.source=folder --config.data.root=DIR, or that of LR with --config.data.lr_root=DIR"
        )
    hr_key = "hr-" + content_key(hr.fingerprint)
    hr_cache = build_cache(cache_dir, hr_key, hr.names, hr.load, label="caching HR")
    if lr is None and isinstance(degradation, Online):
        keep = tuple(i for i, shape in enumerate(hr_cache.shapes) if min(shape) >= scale)
        return PairedDataset(None, hr_cache, keep, keep, scale)
    if lr is None:
        assert not isinstance(degradation, Online)
        lr = _made_from(hr_cache, hr_key, scale, degradation)
        hr_names = lr.names
    else:
        hr_names = [hr.names[i] for i in (hr_of or range(len(lr.names)))]
    lr_key = f"lr-x{scale}-" + content_key(lr.fingerprint)
    lr_cache = build_cache(cache_dir, lr_key, lr.names, lr.load, label=f"caching LR x{scale}")

    hr_name = dict(zip(lr.names, hr_names, strict=True))
    hr_position = {name: i for i, name in enumerate(hr_cache.names)}
    index = [(i, hr_position.get(hr_name[name])) for i, name in enumerate(lr_cache.names)]
    index = [both for both in index if both[1] is not None]
    if not index:
        raise UserError("of every pair the LR or the HR image cannot be read; the lines above say why")
    lr_index, hr_index = zip(*index, strict=True)
    pairs = PairedDataset(lr_cache, hr_cache, lr_index, hr_index, scale)
    sizes = ((lr_cache.shapes[i], hr_cache.shapes[j]) for i, j in zip(lr_index, hr_index, strict=True))
    check_sizes(((name, *both) for name, both in zip(pairs.names, sizes, strict=True)), scale)
    return pairs


def dataset_from_files(
    files: Sequence[PairFiles],
    scale: int,
    cache_dir: str | Path | None,
    degradation: Degradation | Online | None = None,
) -> PairedDataset:
    """`dataset_from_images` for image files; LR is made from HR where the files have no LR.

    Raises:
        UserError: see `dataset_from_images`; LR files where they are to be made by `degradation`.
    """
    names: dict[Path, str] = {}  # of the HR files: one HR may have several LR
    for file in files:
        names.setdefault(file.hr, file.name)
    position = {path: i for i, path in enumerate(names)}
    hr = _image_files(list(names.values()), list(names))
    if files[0].lr is None:
        return dataset_from_images(hr, None, None, scale, cache_dir, degradation)
    if degradation is not None:
        raise UserError(
            f"{files[0].lr}: an LR image, while config.data.degradation makes LR from HR; name a folder of "
            "HR images alone, or leave config.data.degradation empty"
        )
    lr = _image_files([file.name for file in files], [file.lr for file in files if file.lr])
    return dataset_from_images(hr, lr, [position[file.hr] for file in files], scale, cache_dir)


def with_lr(pairs: PairedDataset, degradation: Online, cache_dir: str | Path | None) -> PairedDataset:
    """The same images with an LR each, made once by `degrade_image` and cached.

    Args:
        pairs: images without LR, as `dataset_from_images` gives them for this kind of degradation.
        degradation: what happens to image i is a function of its seed and of i.
        cache_dir: see `build_cache`.

    Raises:
        UserError: see `build_cache`.
    """

    def make_lr(i: int) -> np.ndarray:
        return degrade_image(pairs.hr_image(i), pairs.scale, degradation, i)

    made_by = content_key("online", ONLINE_VERSION, pairs.fingerprint, repr(degradation))
    key = f"lr-x{pairs.scale}-{made_by}"
    lr = build_cache(cache_dir, key, pairs.names, make_lr, label=f"caching LR x{pairs.scale}")
    return replace(pairs, lr=lr, lr_index=tuple(range(len(pairs))))


def drop_small(pairs: PairedDataset, patch_size: int, margin: int = 0) -> PairedDataset:
    """The pairs whose LR holds a patch of `patch_size` pixels a side; the others are logged by name.

    Args:
        pairs: of any sizes.
        patch_size: LR pixels.
        margin: LR pixels that a patch needs beside it on each side.

    Raises:
        UserError: none is left.
    """
    shapes, side = pairs.lr_shapes, patch_size + 2 * margin
    keep = [i for i, shape in enumerate(shapes) if min(shape) >= side]
    what = "patch and its margin" if margin else "patch"
    if not keep:
        largest = max(min(shape) for shape in shapes)
        needs = f", which a patch of {patch_size} and the degradation's margin need" if margin else ""
        raise UserError(
            f"no training image has an LR of {side}x{side} pixels{needs} (the largest holds "
            f"{largest}x{largest}); set a smaller --config.data.patch_size or use larger images"
        )
    for name, (height, width) in zip(pairs.names, shapes, strict=True):
        if min(height, width) < side:
            logging.warning("left out: %s: its LR, %dx%d, is smaller than the %s", name, width, height, what)
    return pairs.subset(keep)


def _image_files(names: list[str], paths: list[Path]) -> Images:
    return Images(names, lambda i: read_image(paths[i]), content_key(*names, *hash_files(paths)))


def _made_from(hr: ImageCache, hr_key: str, scale: int, degradation: Degradation | None) -> Images:
    """LR images for all of `hr`, computed when they are loaded."""

    def make_lr(i: int) -> np.ndarray:
        height, width = (side // scale * scale for side in hr.shapes[i])
        if not height or not width:
            raise UserError(f"{hr.names[i]}: too small for scale {scale}")
        image = hr[i][:height, :width]
        if degradation is not None:
            return degrade(image, scale, degradation)
        return imresize(image, Fraction(1, scale), border=_BORDER)

    made_by = ["imresize", _IMRESIZE_VERSION, _BORDER, scale, hr_key]
    if degradation is not None:
        made_by += ["degrade", DEGRADATION_VERSION, repr(degradation)]
    return Images(hr.names, make_lr, content_key(*made_by))
