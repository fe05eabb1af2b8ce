"""The photographs in scikit-image's wheel: data to train and validate on without any download.

Held out are its three natural colour photographs that are sharp and free of JPEG's 8x8 blocks (measured: the
steps at multiples of 8 pixels are no larger than elsewhere). What shares a scene with one of them would have
to be held out, too; nothing does.

Trained on is every other photograph of the wheel that has detail, colour or grey. `motorcycle_left` and
`motorcycle_right` show one scene and are on the same side. Not used: drawings and scans (chessboard, color,
horse, logo, page, phantom, text), and what is out of focus or moving (cell, clock_motion, retina,
microaneurysms): there bicubic is as good as anything (51 dB on the retina).
"""

from importlib.resources import files
from pathlib import Path

from wdsr_jax.data.dataset import PairedDataset, dataset_from_files
from wdsr_jax.data.names import PairFiles
from wdsr_jax.data.settings import Degradation, Online
from wdsr_jax.errors import UserError

TRAINING = (
    "brick.png",
    "camera.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "rocket.jpg",
)
HELD_OUT = ("astronaut.png", "chelsea.png", "coffee.png")


def sample_files() -> tuple[list[Path], list[Path]]:
    """The files of the photographs: (training, held out).

    Raises:
        UserError: scikit-image is not installed, or without its photographs.
    """
    try:
        # The package's folder only: `skimage.data` would import pooch and look for downloads.
        folder = Path(str(files("skimage"))) / "data"
    except ModuleNotFoundError:
        raise UserError("scikit-image is not installed; its photographs are the sample data") from None
    training, held_out = ([folder / name for name in names] for names in (TRAINING, HELD_OUT))
    for path in training + held_out:
        if not path.is_file():
            raise UserError(f"{path}: missing; install scikit-image anew, from its wheel (pip)")
    return training, held_out


def load_sample(
    scale: int, cache_dir: str | Path | None, degradation: Degradation | Online | None = None
) -> tuple[PairedDataset, PairedDataset]:
    """PairedDataset of the sample photographs, LR made by `imresize`: (training, held out).

    Args:
        scale: HR pixels per LR pixel and side.
        cache_dir: see `build_cache`.
        degradation: makes LR from HR instead of `imresize`; of the kind `Online` none is made here.

    Raises:
        UserError: see `sample_files` and `dataset_from_files`.
    """

    def load(paths: list[Path]) -> PairedDataset:
        files = [PairFiles(path.stem, path, None) for path in paths]
        return dataset_from_files(files, scale, cache_dir, degradation)

    training, held_out = sample_files()
    return load(training), load(held_out)
