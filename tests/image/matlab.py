"""MATLAB's `imresize`, sample by sample."""

from fractions import Fraction
from math import ceil, floor

import numpy as np

SCALES = [Fraction(1, 2), Fraction(1, 3), Fraction(1, 4), Fraction(1, 8), 1, 2, 3, 4, Fraction(3, 2), 0.37]
BORDERS = ["replicate", "symmetric"]


def keys(x):
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def oracle_matrix(n, scale, border):
    """MATLAB's `contributions`, sample by sample, 1-based as there, for one axis of n samples: (m, n)."""
    scale = Fraction(scale).limit_denominator(1000)
    m = ceil(n * scale)
    s = float(scale)
    width = 4 / s if s < 1 else 4.0
    matrix = np.zeros((m, n))
    mirror = [*range(1, n + 1), *range(n, 0, -1)]
    for x in range(1, m + 1):
        u = float(Fraction(x) / scale + Fraction(1, 2) * (1 - 1 / scale))
        left = floor(u - width / 2)
        taps = range(left, left + ceil(width) + 2)
        weights = [s * keys(s * (u - t)) if s < 1 else keys(u - t) for t in taps]
        for t, weight in zip(taps, weights, strict=True):
            index = min(max(t, 1), n) if border == "replicate" else mirror[(t - 1) % len(mirror)]
            matrix[x - 1, index - 1] += weight / sum(weights)
    return matrix


def oracle(image, scale, border):
    rows = oracle_matrix(image.shape[0], scale, border)
    columns = oracle_matrix(image.shape[1], scale, border)
    out = np.einsum("ij,jk...->ik...", rows, image.astype(np.float64))
    if image.dtype == np.uint8:
        out = np.clip(np.floor(out + 0.5), 0, 255)
    out = np.einsum("ij,kj...->ki...", columns, out)
    return np.clip(np.floor(out + 0.5), 0, 255).astype(np.uint8) if image.dtype == np.uint8 else out
