"""Back-projection: the nearest image to an SR image whose bicubic downscale is the LR image."""

from fractions import Fraction

import numpy as np
import scipy.linalg
import scipy.sparse

from wdsr_jax.image.resize import imresize, resize_matrix


def project(sr: np.ndarray, lr: np.ndarray) -> np.ndarray:
    """Changes an SR image by as little as possible so that its bicubic downscale is the LR image.

    With D one pass of the downscale and P = D^T (D D^T)^-1 its pseudo-inverse, each channel becomes
    SR + P_rows (LR - D_rows SR D_columns^T) P_columns^T: the orthogonal projection, which the iterations
    of Irani and Peleg ("Improving resolution by image registration", CVGIP 53(3), 1991) approach.

    Args:
        sr: float32 (H * scale, W * scale, C), any range.
        lr: float (H, W, C), the same range.

    Returns:
        Float32, shape of `sr`: `imresize(result, 1 / scale)` equals `lr` but for rounding. It is neither
        clipped nor rounded, each of which brings back a little of the difference.
    """
    rows, columns = (_downscale(*sides) for sides in zip(sr.shape[:2], lr.shape[:2], strict=True))
    result = np.empty_like(sr)
    for channel in range(sr.shape[2]):  # one at a time, since SR images are large
        plane = sr[..., channel]
        error = lr[..., channel] - rows @ plane @ columns.T  # (H, W)
        error = _solve(rows, _solve(columns, error.T).T)  # (D D^T)^-1 of both axes
        result[..., channel] = plane + rows.T @ error.astype(np.float32) @ columns
    return result


def residual(sr: np.ndarray, lr: np.ndarray) -> tuple[float, float]:
    """How far the bicubic downscale of an SR image is from the LR image: root mean square and largest.

    Args:
        sr: uint8 or float (H * scale, W * scale, C).
        lr: float (H, W, C); with uint8 `sr` of the range [0, 255].
    """
    small = imresize(sr.astype(np.float32, copy=False), Fraction(lr.shape[0], sr.shape[0]))
    error = small - lr
    return float(np.sqrt(np.mean(np.square(error)))), float(np.abs(error).max())


def _downscale(large: int, small: int) -> scipy.sparse.csr_array:
    """D of one axis, float32 (small, large)."""
    return scipy.sparse.csr_array(resize_matrix(large, Fraction(small, large)), dtype=np.float32)


def _solve(downscale: scipy.sparse.csr_array, right: np.ndarray) -> np.ndarray:
    """(D D^T)^-1 right, for (small, n): D D^T is banded, since neighbours alone share samples."""
    gram = (downscale.astype(np.float64) @ downscale.T.astype(np.float64)).todia()
    small = gram.shape[0]
    width = int(gram.offsets.max())
    bands = np.zeros((width + 1, small))
    for band in range(width + 1):
        bands[band, : small - band] = gram.diagonal(-band)
    return scipy.linalg.solveh_banded(bands, right, lower=True)
