"""Scores of pairs that do not lie on each other: the shift between SR and HR, and the part they share.

LR and HR of NTIRE 2018's realistic tracks (mild, difficult, wild) are moved against each other, so that a
plain PSNR measures the misalignment (bicubic on `mild`: 17.6 dB, as users report). The protocol
`ntire_shift`, made of the two functions here:

- every shift of whole HR pixels with |dy| <= N and |dx| <= N is tried, and the one with the best PSNR counts;
- SR's `scale + 6 + N` pixels from each side are left out, and so are HR's, moved by the shift: all shifts are
  measured on the same pixels of SR, and on equally many of HR, none of them within `scale + 6` of its border;
- PSNR of RGB as in protocol `ntire`, which it equals at N = 0. SSIM is that of the shift with the best PSNR.

Source: the challenge let the most favourable shift count on these tracks (Timofte et al., "NTIRE 2018
Challenge on Single Image Super-Resolution: Methods and Results", CVPRW 2018); its scoring code is not public.
That N is free, and what is left out, are this project's choice: state N with every figure. The middle of SR
against all places of HR is how PROBA-V was scored (https://kelvins.esa.int/proba-v-super-resolution/scoring).
"""

from typing import Any

import numpy as np

from wdsr_jax.image.metrics import TooSmallError


def best_shift(sr: np.ndarray, hr: np.ndarray, *, scale: int, window: int) -> tuple[int, int]:
    """By how many pixels SR is HR moved down and to the right, as far as PSNR can tell.

    The squared error of all (2 * window + 1)^2 shifts comes from one cross-correlation by FFT. It is a whole
    number below 2^53 and its error far below 1/2 (10^-3 at 2040x1404), so that rounding makes it exact.

    Args:
        sr: (H, W, 3), or (H, W) grey; uint8.
        hr: of the same shape, uint8.
        scale: the upscaling factor r; r + 6 pixels of HR's border are left out.
        window: the largest shift of either axis, HR pixels, 0 or more.

    Returns:
        (dy, dx) with sr[y, x] nearest to hr[y - dy, x - dx]; of equally good ones the smallest.

    Raises:
        TooSmallError: nothing is left within the borders.
        ValueError: shapes that differ or are no image, another dtype, a window below 0.
    """
    if sr.dtype != np.uint8 or hr.dtype != np.uint8:
        raise ValueError(f"images must be uint8, got {sr.dtype} and {hr.dtype}")
    if sr.shape != hr.shape or sr.ndim not in (2, 3):
        raise ValueError(f"images must be (H, W, 3) or (H, W), of one shape, got {sr.shape} and {hr.shape}")
    if window < 0:
        raise ValueError(f"window must be 0 or more, got {window}")
    shave = scale + 6
    sides = hr.shape[:2]
    if min(sides) - 2 * (shave + window) < 1:
        raise TooSmallError(
            f"image of {sides[1]}x{sides[0]} is too small for shifts of up to {window} pixels at "
            f"scale {scale}: both sides must be at least {2 * (shave + window) + 1}"
        )
    # Around 0, which leaves differences as they are and keeps the sums of the FFT small. (H, W, C)
    x = np.atleast_3d(_inside(sr, shave + window)).astype(np.float64) - 128
    y = np.atleast_3d(_inside(hr, shave)).astype(np.float64) - 128
    count = 2 * window + 1
    # Position k of `y` is under position 0 of `x` where the shift is window - k.
    sums = np.zeros((y.shape[0] + 1, y.shape[1] + 1))
    sums[1:, 1:] = np.square(y).sum(axis=-1).cumsum(axis=0).cumsum(axis=1)
    height, width = x.shape[:2]
    energy = (
        sums[height : height + count, width : width + count]
        - sums[:count, width : width + count]
        - sums[height : height + count, :count]
        + sums[:count, :count]
    )
    errors = np.square(x).sum() + energy - 2 * np.rint(_correlate(x, y)[:count, :count])
    best = window - np.argwhere(errors == errors.min())  # (ties, 2)
    dy, dx = min(best.tolist(), key=lambda shift: (abs(shift[0]) + abs(shift[1]), shift))
    return dy, dx


def align(
    sr: np.ndarray, hr: np.ndarray, shift: tuple[int, int], window: int
) -> tuple[np.ndarray, np.ndarray]:
    """The middle of SR and the part of HR that it shows, given the shift between them.

    Args:
        sr: (H, W, ...).
        hr: (H, W, ...).
        shift: (dy, dx) as from `best_shift`, each of at most `window`.
        window: pixels cut off each side of SR.

    Returns:
        Views of both, (H - 2 * window, W - 2 * window, ...): SR at [y, x] beside HR at [y - dy, x - dx].
    """
    rows, columns = (
        slice(window - moved, side - window - moved) for moved, side in zip(shift, hr.shape[:2], strict=True)
    )
    return _inside(sr, window), hr[rows, columns]


def _inside(image: np.ndarray, border: int) -> np.ndarray:
    height, width = image.shape[:2]
    return image[border : height - border, border : width - border]


def _correlate(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """sum of x[i, j, c] y[i + k, j + l, c] over i, j, c at [k, l], where `x` moved so far is inside `y`."""
    from scipy.fft import next_fast_len  # here, since importing it takes a third of a second and few need it

    # Long enough that the sums do not wrap around.
    shape: list[Any] = [next_fast_len(n, real=True) for n in y.shape[:2]]
    spectrum = sum(
        np.conj(np.fft.rfft2(x[..., c], shape)) * np.fft.rfft2(y[..., c], shape) for c in range(x.shape[2])
    )
    return np.fft.irfft2(spectrum, shape)
