"""Bicubic resizing exactly as MATLAB's `imresize`, in NumPy; `resize_jax` has it as a JAX function.

The LR images of DIV2K, Set5, Set14, B100 and Urban100 were made by MATLAB, and a network trained on LR of
another resizer loses tenths of a dB on them. MATLAB's rules: the cubic of Keys (1981) with a = -0.5; when
shrinking, the kernel stretched by 1/scale against aliasing; weights divided by their sum; rows first, then
columns; uint8 and uint16 images rounded (half up) and clipped after EACH of the two passes.

Output sample i lies at u = (i + 1/2) / scale - 1/2 of the input. For scale = num/den, samples i and i + num
have the same weights and sources that lie den apart: `phases_of` computes the num different rows of weights,
and a pass is a sum of strided slices, one a tap.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Shaped

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# NumPy's name of each border rule; older MATLAB replicates, newer MATLAB mirrors.
PAD_MODES: dict[str, Any] = {"replicate": "edge", "symmetric": "symmetric"}
_SMALLEST_SIDE = Fraction(1, 16)  # of a result; the kernel is then 64 times as long as the image
_MOST_ELEMENTS = 1 << 32  # of a result
_BLOCK = 1 << 17  # source elements worked on at once: they stay in the processor's cache


def imresize(
    image: np.ndarray, scale: int | float | Fraction | tuple[int, int], *, border: str = "replicate"
) -> np.ndarray:
    """Resizes an image as MATLAB's `imresize(image, scale, "bicubic")` does.

    With `border="replicate"` the published LR files of Set5 and Set14 come out bit for bit.

    Args:
        image: (H, W) or (H, W, C); uint8 or uint16, or float in any range.
        scale: factor of both sides, such as 1/4 or 2; 1/3 as a float is taken for the fraction. Or the size
            (H, W) of the result: the side with the smaller factor is then resized first, as MATLAB does.
        border: `replicate` (older MATLAB, the benchmarks) or `symmetric` (newer MATLAB).

    Returns:
        (ceil(scale * H), ceil(scale * W)), or of the size given, with the channels and the dtype of `image`.
        uint8 and uint16 are rounded and clipped after each pass; float is computed in float64 and neither
        rounded nor clipped.

    Raises:
        ValueError: another dtype, rank or border, an empty image, a scale or size that is not positive, or
            one of which the result would be too large or less than a sixteenth of a pixel.

    Source: MATLAB's documentation of `imresize`; R. Keys, "Cubic convolution interpolation for digital
    image processing", IEEE TASSP 29(6), 1981, equation 15.
    """
    image = np.asarray(image)
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(f"image must be (H, W) or (H, W, C) and not empty, got shape {image.shape}")
    if image.dtype not in (np.uint8, np.uint16) and not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"image must be uint8, uint16 or float, got {image.dtype}")
    factors = _factors(image.shape, scale)
    check_border(border)
    if factors[1] < factors[0]:
        return np.ascontiguousarray(
            np.swapaxes(_resize(np.swapaxes(image, 0, 1), factors[::-1], border), 0, 1)
        )
    return _resize(image, factors, border)


def _resize(image: np.ndarray, factors: Sequence[Fraction], border: str) -> np.ndarray:
    """Resizes the first axis of (H, W) or (H, W, C), then the second one."""
    result = image if image.dtype.kind == "u" else image.astype(np.float64)
    height, width = image.shape[:2]
    rest = image.shape[2:]
    result = _resize_rows(result.reshape(height, -1), factors[0], border)  # (h, W * C)
    # The second pass works on rows, too: contiguous rows are several times faster than strided columns.
    result = np.ascontiguousarray(np.swapaxes(result.reshape(-1, width, *rest), 0, 1))  # (W, h, C)
    rows = result.shape[1]
    result = _resize_rows(result.reshape(width, -1), factors[1], border)  # (w, h * C)
    result = np.swapaxes(result.reshape(-1, rows, *rest), 0, 1)  # (h, w, C)
    return np.ascontiguousarray(result, dtype=image.dtype)


def _factors(
    shape: Sequence[int], scale: int | float | Fraction | tuple[int, int]
) -> tuple[Fraction, Fraction]:
    """The factors of height and width of an image (H, W, ...), from the factor of both or the size meant.

    Raises:
        ValueError: one is not positive, or the result would have no pixel or too many.
    """
    height, width = shape[:2]
    if isinstance(scale, tuple | list | np.ndarray):
        if len(scale) != 2 or not all(isinstance(side, int | np.integer) and side >= 1 for side in scale):
            raise ValueError(f"a size must be two whole numbers from 1 up, (H, W), got {scale}")
        factors = Fraction(int(scale[0]), height), Fraction(int(scale[1]), width)
    else:
        factor = fraction_of(scale)
        factors = factor, factor
    sides = [side * factor for side, factor in zip((height, width), factors, strict=True)]
    if max(sides) < _SMALLEST_SIDE:
        raise ValueError(f"scale {scale} leaves nothing of an image of {height}x{width}")
    if math.prod((*map(math.ceil, sides), *shape[2:])) > _MOST_ELEMENTS:
        raise ValueError(f"scale {scale} makes an image of {height}x{width} too large to hold")
    return factors


def resize_matrix(length: int, scale: int | float | Fraction, *, border: str = "replicate") -> "csr_array":
    """One pass of `imresize` as a matrix: along an axis of `length` samples, resized = matrix @ samples.

    Args:
        length: of the axis.
        scale: as for `imresize`.
        border: as for `imresize`.

    Returns:
        Sparse float64 (ceil(scale * length), length); its rows add up to 1.
    """
    import scipy.sparse  # here, since importing it takes a tenth of a second and few need it

    scale = fraction_of(scale)
    out_length = out_length_of(length, scale)
    phases = phases_of(scale, out_length)
    period, step = len(phases), scale.denominator
    before, after = padding_of(phases, scale, -(-out_length // period), length)
    sources = np.pad(np.arange(length), (before, after), mode=PAD_MODES[border])
    entries = [
        (weight, row, sources[start + before + row // period * step + offset])
        for row in range(out_length)
        for start, weights in [phases[row % period]]
        for offset, weight in enumerate(weights)
    ]
    weights, rows, columns = zip(*entries, strict=True)
    return scipy.sparse.coo_array((weights, (rows, columns)), (out_length, length)).tocsr()  # adds up doubles


def fraction_of(scale: int | float | Fraction) -> Fraction:
    """The factor as a fraction: 1/3 in floating point is meant to be a third. ValueError if not positive."""
    try:
        is_good = math.isfinite(scale) and scale > 0
    except OverflowError:  # an integer beyond float
        is_good = False
    if not is_good:
        raise ValueError(f"scale must be positive, got {scale}")
    exact = scale if isinstance(scale, Fraction) else Fraction(float(scale))
    near = exact.limit_denominator(1000)
    return near if abs(near - exact) <= exact * Fraction(1, 10**9) else exact


def check_border(border: str) -> None:
    """Raises ValueError where there is no such border rule."""
    if border not in PAD_MODES:
        raise ValueError(f"border must be one of {', '.join(PAD_MODES)}, got {border!r}")


def _cubic(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Keys' kernel, a = -0.5, support [-2, 2]."""
    x = np.abs(x)
    inner = 1.5 * x**3 - 2.5 * x**2 + 1
    outer = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, inner, np.where(x <= 2, outer, 0.0))


@lru_cache(maxsize=64)
def phases_of(scale: Fraction, out_length: int) -> tuple[tuple[int, tuple[float, ...]], ...]:
    """(first source, weights) of output samples 0 .. num-1, or of all of them where they are fewer."""
    stretch = min(float(scale), 1.0)  # below 1: against aliasing
    support = 4 / stretch
    phases = []
    for i in range(min(scale.numerator, out_length)):
        position = float((i + Fraction(1, 2)) / scale - Fraction(1, 2))
        taps = math.floor(position - support / 2) + np.arange(math.ceil(support) + 2)
        weights = stretch * _cubic(stretch * (position - taps))
        weights = weights / weights.sum()
        used = np.flatnonzero(weights)
        phases.append((int(taps[used[0]]), tuple(weights[used[0] : used[-1] + 1].tolist())))
    return tuple(phases)


def out_length_of(length: int, scale: Fraction) -> int:
    """How many samples an axis of `length` becomes: ceil(scale * length), of a symbolic length, too."""
    return -(-length * scale.numerator // scale.denominator)


def padding_of(phases, scale: Fraction, periods: int, length: int) -> tuple[int, int]:
    """How many samples the taps of `periods` periods reach beyond both ends of an axis."""
    first = min(start for start, _ in phases)
    last = max(start + len(weights) - 1 for start, weights in phases) + (periods - 1) * scale.denominator
    return max(0, -first), max(0, last - (length - 1))


def _exact_in_float32(phases) -> bool:
    """Whether sums of weighted uint8 have no rounding error in float32: weights are multiples of 2^-15.

    Then 255 * sum |w| < 2^9 and every partial sum fits the 24 bits of the mantissa; true of 1/2 and 1/4.
    """
    return all((w * 2**15).is_integer() for _, weights in phases for w in weights)


def _resize_rows(
    x: Shaped[np.ndarray, "n columns"], scale: Fraction, border: str
) -> Shaped[np.ndarray, "m columns"]:
    """Resizes axis 0 of (n, m), uint8 or uint16 (rounded and clipped) or float64."""
    length, columns = x.shape
    out_length = out_length_of(length, scale)
    phases = phases_of(scale, out_length)
    period, step = len(phases), scale.denominator
    periods = -(-out_length // period)
    before, after = padding_of(phases, scale, periods, length)
    sources = np.pad(np.arange(length), (before, after), mode=PAD_MODES[border])
    largest = np.iinfo(x.dtype).max if x.dtype.kind == "u" else None
    dtype = np.float32 if x.dtype == np.uint8 and _exact_in_float32(phases) else np.float64
    result = np.empty((periods * period, columns), x.dtype)
    span = max(start + len(weights) for start, weights in phases) + before
    block = max(1, (_BLOCK // columns - span) // step + 1)
    for begin in range(0, periods, block):
        count = min(block, periods - begin)
        rows = x[sources[begin * step : (begin + count - 1) * step + span]].astype(dtype, copy=False)
        tap = np.empty((count, columns), dtype)
        for i, (start, weights) in enumerate(phases):
            total = np.zeros((count, columns), dtype)
            for offset, weight in enumerate(weights, start=start + before):
                np.multiply(rows[offset : offset + (count - 1) * step + 1 : step], dtype(weight), out=tap)
                total += tap
            if largest is not None:
                total += dtype(0.5)
                np.clip(np.floor(total, out=total), 0, largest, out=total)
            result[begin * period + i : (begin + count) * period : period] = total
    return result[:out_length]
