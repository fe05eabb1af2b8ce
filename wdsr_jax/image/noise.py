"""How noisy a photograph is, estimated from its pixels alone."""

import numpy as np

_BLOCK = 32  # pixels a side
_MOST_BLOCKS = 64  # a side: of larger pictures every second, third, ... block counts
_QUANTILE = 0.05  # of the blocks, by what seems their noise
_MOST_CLIPPED = 0.05  # part of a block's pixels: black and white show no noise
_MEAN_OF_GAUSSIAN = 0.7979  # of its absolute value, in standard deviations


def estimate_noise(image: np.ndarray) -> float:
    """The standard deviation of white Gaussian noise, from Haar's diagonal coefficients in calm places.

    A diagonal coefficient of four pixels, (a - b - c + d) / 2, has the deviation of their noise and little of
    edges and slopes. Their mean absolute value is taken in blocks, and the block counts than which one in 20
    is calmer: in photographs it has noise and hardly any texture. (The usual median over the whole picture
    takes grass for noise, and is a multiple of 0.74 levels where pixels are whole numbers.) Noise that is
    correlated from pixel to pixel, as denoising leaves it, counts less.

    Args:
        image: (H, W, 1) or (H, W, 3), uint8 or uint16; of colours green counts, which has most of the light.

    Returns:
        In levels of 8 bits; 0 where a side is below 2, or all is black or white.

    Source: D. Donoho, I. Johnstone, "Ideal spatial adaptation by wavelet shrinkage", Biometrika 81(3), 1994,
    section 3.
    """
    plane = image[..., image.shape[2] // 2]
    white = np.iinfo(plane.dtype).max
    sides = [min(_BLOCK, length // 2 * 2) for length in plane.shape]
    if min(sides) == 0:
        return 0.0
    counts = [length // side for length, side in zip(plane.shape, sides, strict=True)]
    blocks = plane[: counts[0] * sides[0], : counts[1] * sides[1]]
    blocks = blocks.reshape(counts[0], sides[0], counts[1], sides[1])
    steps = [-(-count // _MOST_BLOCKS) for count in counts]
    blocks = blocks[:: steps[0], :, :: steps[1]].swapaxes(1, 2).reshape(-1, *sides)  # (n, h, w)
    clipped = np.mean((blocks == 0) | (blocks == white), axis=(1, 2))
    blocks = blocks[clipped <= _MOST_CLIPPED].astype(np.float32)
    if not len(blocks):
        return 0.0
    rows = blocks[:, ::2] - blocks[:, 1::2]
    diagonal = np.abs(rows[..., ::2] - rows[..., 1::2]) / 2
    means = diagonal.mean(axis=(1, 2))
    return float(np.quantile(means, _QUANTILE) / _MEAN_OF_GAUSSIAN * 255 / white)
