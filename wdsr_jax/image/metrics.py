"""PSNR and SSIM as super-resolution papers measure them.

Two protocols, by name:

- `y`: the luma of BT.601, `scale` pixels shaved off each side. Set5, Set14, B100, Urban100.
- `ntire`: all of RGB, `scale + 6` pixels shaved off each side. DIV2K and the NTIRE challenges.

For pairs that do not lie on each other there is `ntire_shift`, see `alignment`.

Images of uint16 and float are scaled to [0, 255] first, by their data range.

The published numbers are of uint8 images: round the SR before measuring it. The bicubic rows of the papers,
too: 33.674 / 30.405 / 28.430 dB and .9303 / .8689 / .8111 on Set5 x2 / x3 / x4 are `imresize` of the uint8
LR, rounded after each of its passes, the luma in float64 and unrounded. Bicubic in float, never rounded,
is 0.010 dB better at x2.
"""

import math

import numpy as np
from jaxtyping import Float64, Shaped

_LUMA = np.array([65.481, 128.553, 24.966]) / 255  # BT.601, of R, G and B in [0, 255]
_LUMA_OFFSET = 16.0
_PEAK = 255.0
_DATA_RANGES = {"uint8": 255.0, "uint16": 65535.0, "float": 1.0}  # by type, where none is given
_EXTRA_SHAVE = {"y": 0, "ntire": 6}
PROTOCOLS = tuple(_EXTRA_SHAVE)

_WINDOW = 11
_SIGMA = 1.5
_C1 = (0.01 * _PEAK) ** 2
_C2 = (0.03 * _PEAK) ** 2
_STRIP = 32  # rows of the SSIM map computed at once: they stay in the processor's cache


class TooSmallError(ValueError):
    """Too few pixels are left after shaving: the score does not exist, while others of the image may."""


def rgb_to_y(image: np.ndarray) -> Float64[np.ndarray, "..."]:
    """Luma of BT.601: (65.481 R + 128.553 G + 24.966 B) / 255 + 16.

    Args:
        image: (..., 3), uint8 or float in [0, 255].

    Returns:
        float64 (...) in [16, 235], not rounded.

    Raises:
        ValueError: the last axis is not 3, or the dtype neither uint8 nor float.

    Source: ITU-R BT.601-7, section 3; MATLAB's `rgb2ycbcr`.
    """
    image = np.asarray(image)
    _check_dtype(image)
    if image.ndim < 1 or image.shape[-1] != 3:
        raise ValueError(f"image must be (..., 3), got shape {image.shape}")
    red, green, blue = (image[..., i] * _LUMA[i] for i in range(3))
    return red + green + blue + _LUMA_OFFSET


def psnr(
    sr: np.ndarray,
    hr: np.ndarray,
    *,
    scale: int | float,
    protocol: str = "y",
    data_range: int | float | None = None,
) -> float:
    """Peak signal-to-noise ratio, 10 log10(data_range^2 / MSE).

    Args:
        sr: (H, W, 3), or (H, W) grey (R = G = B); uint8, uint16 or float.
        hr: the truth, of the same shape and type.
        scale: the upscaling factor r, a whole number; decides how much is shaved.
        protocol: `y` (luma, shave r) or `ntire` (RGB, shave r + 6).
        data_range: white minus black, as in scikit-image; None: 255 for uint8, 65535 for uint16, 1 for float.

    Returns:
        dB; inf for equal images.

    Raises:
        TooSmallError: nothing is left after shaving.
        ValueError: shapes or types that differ or are no image, another protocol, a scale below 1, a data
            range not above 0, or none given for floats far outside [0, 1].

    Source: Lim et al., EDSR, arXiv:1707.02921, section 4; Timofte et al., NTIRE 2018, CVPRW, section 2.
    """
    sr, hr = _shave_pair(sr, hr, scale, protocol, data_range, smallest=1)
    difference = (_luma(sr) - _luma(hr)) if protocol == "y" else np.subtract(sr, hr, dtype=np.float64)
    mse = float(np.mean(np.square(difference)))
    return math.inf if mse == 0 else 10 * math.log10(_PEAK**2 / mse)


def ssim(
    sr: np.ndarray,
    hr: np.ndarray,
    *,
    scale: int | float,
    protocol: str = "y",
    data_range: int | float | None = None,
) -> float:
    """Mean structural similarity of the luma, whatever the protocol; the protocol decides the shave.

    Gaussian window of 11x11, sigma 1.5, K1 = 0.01, K2 = 0.03, L = data_range, in float64, over the positions
    where the window lies inside the shaved image.

    Args:
        sr: as for `psnr`.
        hr: as for `psnr`.
        scale: as for `psnr`.
        protocol: `y` (shave r) or `ntire` (shave r + 6).
        data_range: as for `psnr`.

    Returns:
        In [-1, 1]; 1 for equal images.

    Raises:
        TooSmallError: a side is shorter than 11 after shaving.
        ValueError: as for `psnr`.

    Source: Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP
    13(4), 2004, equation 13, and the authors' ssim.m without its downsampling.
    """
    pair = _shave_pair(sr, hr, scale, protocol, data_range, smallest=_WINDOW)
    sr, hr = (_luma(image) for image in pair)
    height, width = (side - _WINDOW + 1 for side in sr.shape)
    total = 0.0
    for top in range(0, height, _STRIP):
        rows = slice(top, min(top + _STRIP, height) + _WINDOW - 1)
        total += _ssim_map(sr[rows], hr[rows]).sum()
    return float(total / (height * width))


def _ssim_map(
    x: Float64[np.ndarray, "h w"], y: Float64[np.ndarray, "h w"]
) -> Float64[np.ndarray, "h-10 w-10"]:
    """SSIM at each valid position of (H, W): (H - 10, W - 10)."""
    mean_x, mean_y = _blur(x), _blur(y)
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance = _blur(x * y) - product
    variances = _blur(x * x + y * y) - squares  # only the sum of both is needed
    return ((2 * product + _C1) * (2 * covariance + _C2)) / ((squares + _C1) * (variances + _C2))


def _blur(x: Float64[np.ndarray, "h w"]) -> Float64[np.ndarray, "h-10 w-10"]:
    """Gaussian mean of the 11x11 window at each valid position, a one-dimensional pass an axis."""
    half = _WINDOW // 2
    weights = np.exp(-0.5 * (np.arange(-half, half + 1) / _SIGMA) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        x = np.swapaxes(x, 0, axis)
        count = len(x) - _WINDOW + 1
        blurred = weights[half] * x[half : half + count]
        for i in range(half):  # symmetric: two taps share a weight
            j = _WINDOW - 1 - i
            blurred += weights[i] * (x[i : i + count] + x[j : j + count])
        x = np.swapaxes(blurred, 0, axis)
    return x


def _luma(image: Shaped[np.ndarray, "h w *rgb"]) -> Float64[np.ndarray, "h w"]:
    """Luma of (H, W, 3), or of grey (H, W) taken as R = G = B."""
    return rgb_to_y(image) if image.ndim == 3 else image * _LUMA.sum() + _LUMA_OFFSET


def _check_dtype(image: np.ndarray) -> None:
    if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"image must be uint8 or float in [0, 255], got {image.dtype}")


def _shave_pair(
    sr, hr, scale: int | float, protocol: str, data_range: int | float | None, smallest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Checks both images, cuts the protocol's border off and scales them to [0, 255]."""
    sr, hr = np.asarray(sr), np.asarray(hr)
    if protocol not in _EXTRA_SHAVE:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    if not math.isfinite(scale) or scale != int(scale) or scale < 1:
        raise ValueError(f"scale must be a whole number from 1 up, got {scale}")
    if sr.shape != hr.shape:
        raise ValueError(f"SR and HR must have one shape, got {sr.shape} and {hr.shape}")
    if sr.ndim not in (2, 3) or (sr.ndim == 3 and sr.shape[2] != 3):
        raise ValueError(f"images must be (H, W, 3) or (H, W), got shape {sr.shape}")
    factor = _PEAK / _data_range_of(sr, hr, data_range)
    shave = int(scale) + _EXTRA_SHAVE[protocol]
    height, width = sr.shape[:2]
    if min(height, width) - 2 * shave < smallest:
        needed = smallest + 2 * shave
        raise TooSmallError(
            f"image of {width}x{height} is too small: with {shave} pixels shaved off each side "
            f"(protocol {protocol}, scale {scale}) both sides must be at least {needed}"
        )
    inside = (slice(shave, height - shave), slice(shave, width - shave))
    sr, hr = sr[inside], hr[inside]
    # uint8 stays as it is: its scores are those of the papers to the last bit.
    return (
        (sr, hr)
        if factor == 1
        else (np.multiply(sr, factor, dtype=float), np.multiply(hr, factor, dtype=float))
    )


def _data_range_of(sr: np.ndarray, hr: np.ndarray, data_range: int | float | None) -> float:
    """The data range of two images, given or that of their type; ValueError where their types differ."""
    kinds = ["float" if np.issubdtype(image.dtype, np.floating) else str(image.dtype) for image in (sr, hr)]
    for kind in kinds:
        if kind not in _DATA_RANGES:
            raise ValueError(f"images must be {', '.join(_DATA_RANGES)}, got {kind}")
    if kinds[0] != kinds[1]:
        raise ValueError(f"SR and HR must be of one type, got {sr.dtype} and {hr.dtype}; convert one of them")
    if data_range is not None:
        if not (math.isfinite(data_range) and data_range > 0):
            raise ValueError(f"data_range must be a number above 0, got {data_range}")
        return float(data_range)
    if kinds[0] == "float":
        low, high = np.min([sr, hr], initial=0), np.max([sr, hr], initial=1)
        if low < -1 or high > 2:
            raise ValueError(
                f"images of float are in [0, 1] unless data_range says otherwise, got [{low:.4g}, "
                f"{high:.4g}]; give data_range=255, say"
            )
    return _DATA_RANGES[kinds[0]]
