"""Training and evaluation data."""

from pathlib import Path
from typing import TYPE_CHECKING

from wdsr_jax.data.settings import Online, parse_degradation
from wdsr_jax.errors import UserError

if TYPE_CHECKING:
    from wdsr_jax.data.dataset import PairedDataset


def load_data(
    source: str,
    *,
    scale: int,
    root: str = "",
    val_root: str = "",
    lr_root: str = "",
    val_lr_root: str = "",
    track: str = "bicubic",
    cache_dir: str | Path | None = None,
    patch_size: int = 1,
    degradation: str = "",
) -> tuple["PairedDataset", "PairedDataset"]:
    """Decodes (or finds in the cache) the images of a source and pairs LR with HR.

    Args:
        source: `div2k` (downloaded by tensorflow-datasets), `folder` or `sample` (in scikit-image's wheel).
        scale: HR pixels per LR pixel and side.
        root: for `folder`, see `load_folders`.
        val_root: for `folder`, a folder to validate on; empty holds out a part of `root`.
        lr_root: for `folder`, the LR of `root`; empty where names or sizes tell.
        val_lr_root: for `folder`, the LR of `val_root`, likewise.
        track: for `div2k`, see `load_div2k`.
        cache_dir: where decoded images are kept; None or empty is `$XDG_CACHE_HOME/wdsr_jax` or
            `~/.cache/wdsr_jax`.
        patch_size: LR pixels a side; training pairs with a smaller LR are left out, and logged.
        degradation: for `folder` and `sample`, how LR is made from HR, see `parse_degradation` and
            `parse_online`; empty is MATLAB's bicubic.

    Returns:
        (training pairs, validation pairs). Where the degradation is online the training images have no LR.

    Raises:
        UserError: an unknown source or degradation; data that is missing, broken, too small, or does not
            fit; a cache that cannot be written.
    """
    # Here, so that the settings of a degradation are read without NumPy.
    from wdsr_jax.data.dataset import dataset_from_images, drop_small, with_lr
    from wdsr_jax.data.folders import load_folders
    from wdsr_jax.data.online import margin_of
    from wdsr_jax.data.sample import load_sample

    makes_lr = parse_degradation(degradation) if degradation else None
    for name, value in {"lr_root": lr_root, "val_lr_root": val_lr_root}.items():
        if value and source != "folder":
            raise UserError(f"config.data.{name}={value}: is for config.data.source=folder, not {source}")
    if source == "sample":
        train, val = load_sample(scale, cache_dir, makes_lr)
    elif source == "folder":
        train, val = load_folders(
            root, val_root, scale, cache_dir, makes_lr, lr_root=lr_root, val_lr_root=val_lr_root
        )
    elif source == "div2k" and makes_lr:
        raise UserError(
            f"config.data.degradation={degradation!r}: DIV2K has LR of its own; set config.data.track, or "
            "--config.data.source=folder --config.data.root=DIR with a folder of HR images"
        )
    elif source == "div2k":
        # Imported here: tensorflow-datasets takes seconds, and the other sources do without.
        from wdsr_jax.data.div2k import load_div2k

        splits = [load_div2k(track, scale, split) for split in ("train", "validation")]
        train, val = (
            dataset_from_images(split.hr, split.lr, split.hr_of, scale, cache_dir) for split in splits
        )
    else:
        raise UserError(f"config.data.source={source!r} is unknown; it is div2k, folder or sample")
    if isinstance(makes_lr, Online):
        return drop_small(train, patch_size, margin_of(scale, makes_lr)), with_lr(val, makes_lr, cache_dir)
    return drop_small(train, patch_size), val
