"""Rows of an image, block by block: large files are encoded without a copy of the image."""

import numpy as np

BLOCK_BYTES = 2**20  # large enough for zlib to lose nothing at the cuts, small enough for many in memory


def interleaved(pixels: np.ndarray, alpha: np.ndarray | None, start: int, stop: int) -> np.ndarray:
    """Rows start..stop of (H, W, C) `pixels`, (H, W) `alpha` as the last channel: (rows, W, C or C + 1)."""
    rows = pixels[start:stop]
    return rows if alpha is None else np.concatenate([rows, alpha[start:stop, :, None]], axis=-1)


def row_ranges(pixels: np.ndarray) -> list[tuple[int, int]]:
    """(start, stop) of blocks of rows of about `BLOCK_BYTES`."""
    height = len(pixels)
    step = max(1, BLOCK_BYTES // pixels[0].nbytes)
    return [(start, min(start + step, height)) for start in range(0, height, step)]
