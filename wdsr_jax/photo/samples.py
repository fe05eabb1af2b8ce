"""What shows the samples of a photograph beside each other: a page, and a map of where they differ."""

from collections.abc import Callable, Iterator
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


class Spread:
    """Mean and standard deviation of images that come one after the other (Welford's method).

    Of the mean of R, G and B, so that the memory is that of two images of one channel.
    """

    def __init__(self) -> None:
        self._count = 0

    def add(self, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Takes in one more image, of the same size as the others."""
        grey = image.mean(axis=2, dtype=np.float32)
        if not self._count:
            self._mean, self._squares = np.zeros_like(grey), np.zeros_like(grey)
        self._count += 1
        change = grey - self._mean
        self._mean += change / self._count
        self._squares += change * (grey - self._mean)

    def deviation(self) -> Float[np.ndarray, "h w"]:
        """The standard deviation of each pixel in levels of 8 bits, of those images; 0 for one."""
        return np.sqrt(self._squares / max(1, self._count - 1))


@contextmanager
def without_empty(folder: Path) -> Iterator[None]:
    """Removes a folder in which nothing was written because something failed."""
    try:
        yield
    except BaseException:
        with suppress(OSError):  # it is not empty
            folder.rmdir()
        raise


@contextmanager
def sample_files(
    folder: Path, name: str, lr: UInt8[np.ndarray, "h w 3"], icc_profile: bytes | None
) -> Iterator[Callable[[int, UInt8[np.ndarray, "H W 3"]], None]]:
    """Writes `spread.png` and `compare.html` when the samples have been given.

    Args:
        folder: where they go.
        name: of the photograph, for the page.
        lr: the photograph.
        icc_profile: of its colours; None for sRGB.

    Yields:
        The function that takes the number of a sample, from 1, and the sample.

    Raises:
        UserError: a file cannot be written.
    """
    spread, shown = Spread(), {}

    def add(number: int, sample: np.ndarray) -> None:
        spread.add(sample)
        shown[str(number)] = sample

    yield add
    deviation = spread.deviation()
    mean, most = float(deviation.mean()), float(np.percentile(deviation, 99))
    logging.info(
        "%s: the samples differ by %.1f levels, by %.1f or more in 1%% of the pixels", name, mean, most
    )
    white = np.minimum(255, np.rint(deviation * (255 / WHITE))).astype(np.uint8)
    grey = np.repeat(white[..., None], 3, axis=2)
    write_image(folder / _MAP, grey)
    with comparison_page(folder / _PAGE) as compare:
        samples = {number: shown[number] for number in sorted(shown, key=int)}
        compare(name, lr, {**samples, "where they differ": grey}, icc_profile)
