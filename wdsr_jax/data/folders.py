"""Training data from folders of image files."""

import re
from functools import partial
from pathlib import Path

from absl import logging

from wdsr_jax.data.dataset import PairedDataset, dataset_from_files
from wdsr_jax.data.names import PairFiles, describe_pairs, find_pairs
from wdsr_jax.data.settings import Degradation, Online
from wdsr_jax.errors import UserError

# As in DIV2K_valid_HR, or valH.
_VALID_FOLDER = re.compile(r"(^|_)val(id|idation)?((?-i:[HLAB]|HR|LR))?(_|$)", re.IGNORECASE)


def load_folders(
    root: str,
    val_root: str,
    scale: int,
    cache_dir: str | Path | None,
    degradation: Degradation | Online | None = None,
    *,
    lr_root: str = "",
    val_lr_root: str = "",
) -> tuple[PairedDataset, PairedDataset]:
    """Pairs to train on and pairs held out to validate on.

    Without `val_root` the images in folders named as DIV2K's (`DIV2K_valid_HR`) are held out; without such
    folders the last 5 % in the order of names, at least 1 and at most 20.

    Args:
        root: folder of HR images (LR is made by `imresize`), or of HR and LR in the naming of `find_pairs`.
        val_root: such a folder to validate on, or empty.
        scale: HR pixels per LR pixel and side.
        cache_dir: see `build_cache`.
        degradation: makes LR from HR, to train and to validate on, instead of `imresize`; of the kind
            `Online` none is made here.
        lr_root: folder of the LR of `root`, or empty where names or sizes tell which images are LR.
        val_lr_root: of `val_root`, likewise.

    Returns:
        (training pairs, validation pairs).

    Raises:
        UserError: no root, an LR folder of no root, a single image, and what `find_pairs` and
            `dataset_from_files` raise.
    """
    if not root:
        raise UserError("config.data.root is empty: name a folder of images with --config.data.root=DIR")
    if val_lr_root and not val_root:
        raise UserError(
            f"config.data.val_lr_root={val_lr_root}: needs config.data.val_root, the folder of its HR"
        )
    pair = partial(dataset_from_files, scale=scale, cache_dir=cache_dir, degradation=degradation)
    files = find_pairs(root, scale, lr_root or None)
    logging.info("%s: %s", root, describe_pairs(files, root))
    if val_root:
        val_files = find_pairs(val_root, scale, val_lr_root or None)
        logging.info("%s, to validate on: %s", val_root, describe_pairs(val_files, val_root))
        return pair(files), pair(val_files)
    held_out = [file for file in files if _is_valid(file, Path(root))]
    if held_out and len(held_out) < len(files):
        training = [file for file in files if not _is_valid(file, Path(root))]
        return pair(training), pair(held_out)

    pairs = pair(files)
    if len(pairs) < 2:
        raise UserError(
            f"{root}: a single image; one more is needed to validate on (or --config.data.val_root=DIR)"
        )
    count = min(20, max(1, round(0.05 * len(pairs))))
    training, held_out = range(len(pairs) - count), range(len(pairs) - count, len(pairs))
    train, val = pairs.subset(training), pairs.subset(held_out)
    logging.info("held out for validation: %d of %d images (%s)", count, len(pairs), ", ".join(val.names))
    return train, val


def _is_valid(file: PairFiles, root: Path) -> bool:
    return any(_VALID_FOLDER.search(folder) for folder in file.hr.relative_to(root).parts[:-1])
