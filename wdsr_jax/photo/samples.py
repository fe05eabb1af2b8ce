"""What shows the samples of a photograph beside each other: a page, and a map of where they differ."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from absl import logging
from jaxtyping import Float, UInt8

from wdsr_jax.image.files import write_image
from wdsr_jax.photo.compare import comparison_page

_MAP, _PAGE = "spread.png", "compare.html"
SAMPLE_FILES = (_MAP, _PAGE)
WHITE = 10  # levels of 8 bits: the standard deviation that is white in the map


def deviation(images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> Float[np.ndarray, "h w"]:
    """The standard deviation at each pixel of the mean of R, G and B, in levels of 8 bits; 0 for one image.

    One image at a time is made float, since they may be large.
    """
    mean = sum(image.mean(axis=2, dtype=np.float32) for image in images) / len(images)
    squares = sum(np.square(image.mean(axis=2, dtype=np.float32) - mean) for image in images)
    return np.sqrt(squares / max(1, len(images) - 1))


def spread_map(spread: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """A deviation as a grey picture, in which `WHITE` levels and more are white."""
    white = np.minimum(255, np.rint(spread * (255 / WHITE))).astype(np.uint8)
    return np.repeat(white[..., None], 3, axis=2)


@contextmanager
def without_empty(folder: Path) -> Iterator[None]:
    """Removes a folder in which nothing was written because something failed."""
    try:
        yield
    except BaseException:
        with suppress(OSError):  # it is not empty
            folder.rmdir()
        raise


def write_sample_files(
    folder: Path,
    name: str,
    lr: UInt8[np.ndarray, "h w 3"],
    samples: Mapping[int, UInt8[np.ndarray, "H W 3"]],
    icc_profile: bytes | None,
) -> None:
    """Writes `spread.png` and `compare.html`.

    Args:
        folder: where they go.
        name: of the photograph, for the page.
        lr: the photograph.
        samples: by their numbers.
        icc_profile: of its colours; None for sRGB.

    Raises:
        UserError: a file cannot be written.
    """
    spread = deviation([*samples.values()])
    mean, most = float(spread.mean()), float(np.percentile(spread, 99))
    logging.info(
        "%s: the samples differ by %.1f levels, by %.1f or more in 1%% of the pixels", name, mean, most
    )
    grey = spread_map(spread)
    write_image(folder / _MAP, grey)
    with comparison_page(folder / _PAGE) as compare:
        shown = {str(number): samples[number] for number in sorted(samples)}
        compare(name, lr, {**shown, "where they differ": grey}, icc_profile)
