"""Pixel types and symmetries of images: the one place where numbers are scaled, clipped and rounded."""

import numpy as np
import numpy.typing as npt


def to_float(image: npt.ArrayLike) -> np.ndarray:
    """Any shape to float32: uint8 or uint16 are scaled to [0, 1], float is taken as it is."""
    image = np.asarray(image)
    whole = np.float32(np.iinfo(image.dtype).max) if image.dtype.kind == "u" else np.float32(1)
    return np.asarray(image, np.float32) / whole


def to_uint8(image: npt.ArrayLike) -> np.ndarray:
    """Float in [0, 1], unclipped, to uint8: clipped, then rounded half up (as MATLAB does); any shape.

    NaN becomes 0.
    """
    return from_float(image, np.uint8)


def from_float(image: npt.ArrayLike, dtype: npt.DTypeLike) -> np.ndarray:
    """Float in [0, 1], unclipped, to `dtype`; any shape.

    Args:
        image: what `to_float` gives, or close to that range.
        dtype: uint8 or uint16, for which it is clipped, scaled and rounded half up, NaN becoming 0; or a
            floating-point type, to which it is only converted.
    """
    if np.dtype(dtype).kind == "f":
        return np.asarray(image, dtype)
    clipped = np.fmin(np.fmax(image, 0), 1)  # fmax takes the number where the other is NaN
    return np.floor(clipped * np.iinfo(dtype).max + 0.5).astype(dtype)


def dihedral(image: np.ndarray, transform: int) -> np.ndarray:
    """One of the 8 symmetries of the square, as a view.

    Args:
        image: (H, W, ...).
        transform: 0 to 7; bit 0 mirrors left and right, bit 1 top and bottom, bit 2 then swaps H and W.

    Returns:
        (H, W, ...), or (W, H, ...) with bit 2.
    """
    if transform & 1:
        image = image[:, ::-1]
    if transform & 2:
        image = image[::-1]
    return image.swapaxes(0, 1) if transform & 4 else image


def undo_dihedral(image: np.ndarray, transform: int) -> np.ndarray:
    """The inverse of `dihedral`: swapped first, then mirrored; a view."""
    image = image.swapaxes(0, 1) if transform & 4 else image
    return dihedral(image, transform & 3)
