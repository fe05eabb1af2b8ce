"""Upscaling a photograph as it is: grey, transparent, of 8 or 16 bits, and to any size."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from wdsr_jax.image.pixels import from_float, to_float
from wdsr_jax.photo.network import Network
from wdsr_jax.photo.photos import Photo

if TYPE_CHECKING:
    from wdsr_jax.inference.network import Noise

# RMS and maximum, in levels of 8 bits, by which the bicubic downscale of the result misses the input.
Residual = tuple[float, float]
# A photograph with a side below this goes through the network with a mirrored margin. Between the zeros that
# networks pad with, a thin one of a single colour would come out up to 39 levels from it.
_THIN, _MARGIN = 8, 16


def bytes_needed(
    photo: Photo, size: tuple[int, int], scale: int, *, consistent: bool, output_format: str
) -> int:
    """An estimate of the memory that it takes to upscale and write a photograph, beside what tiles take.

    Args:
        photo: what is upscaled.
        size: (H', W') of the result.
        scale: of the network.
        consistent: see `upscale_photo`.
        output_format: see `formats.format_of`; empty where no encoder keeps a copy of the image.
    """
    height, width, _ = photo.pixels.shape
    result = size[0] * size[1]
    largest = max(height * width * scale**2, result)
    in_float = consistent or photo.alpha is not None  # some four images of float32, for a moment
    copies_of_encoders = {"png": 0, "tiff": 0, "avif": 27}.get(output_format, 4)
    return largest * (48 if in_float else 3 * photo.pixels.itemsize) + result * copies_of_encoders


def upscale_photo(
    photo: Photo,
    network: Network | None,
    size: tuple[int, int],
    *,
    consistent: bool = False,
    noise: "Noise | None" = None,
    on_pixels: Callable[[float], Any] = lambda count: None,
    **options: Any,
) -> tuple[Photo, list[Residual]]:
    """Upscales a photograph by the network, then resamples it (Lanczos) to the size asked for.

    Where a side is below 8 pixels, the photograph is mirrored at its edges first.

    Grey stays grey. Colours go through the network premultiplied with alpha, so that the hidden colours
    of transparent pixels do not bleed into their neighbours, and alpha goes through it as a grey image.

    Args:
        photo: of 8 or 16 bits, which the result has as well.
        network: None to resample only, for a size that is not larger.
        size: (H', W') of the result.
        consistent: whether to project the network's result onto the images whose bicubic downscale is the
            photograph (`backprojection.project`).
        noise: of a `FlowSampler`, for the colours; alpha is the sample without noise.
        on_pixels: as for `tiles.upscale`.
        **options: of `tiles.upscale`.

    Returns:
        The photograph upscaled, and with `consistent` the residual before and after, else an empty list.
    """
    residuals: list[Residual] = []

    def apply(image: np.ndarray, share: float, noise: "Noise | None") -> np.ndarray:
        """(H, W, 3) of any type by the network; `share` is this pass's part of the work."""
        if network is None:
            return image
        lr = to_float(image) if consistent else image

        def count_pixels(count: int) -> None:
            on_pixels(count * share)

        if min(image.shape[:2]) < _THIN and network.radius is not None:
            sr = _upscale_thin(network, lr, noise=noise, **options)
            count_pixels(image.shape[0] * image.shape[1])
        else:
            sr = network.upscale(lr, noise=noise, on_pixels=count_pixels, **options)
        if not consistent:
            return sr
        from wdsr_jax.inference.backprojection import project, residual  # SciPy, which takes a second

        projected = project(sr, lr)
        if not residuals:  # of the colours, not of alpha, and as they are written
            written = (to_float(from_float(x, photo.pixels.dtype)) for x in (sr, projected))
            residuals.extend(residual(x * 255, lr * 255) for x in written)
        return from_float(projected, image.dtype)

    pixels, alpha = photo.pixels, photo.alpha
    grey = pixels.shape[2] == 1
    rgb = np.repeat(pixels, 3, axis=2) if grey else pixels  # (H, W, 3)
    if alpha is None or alpha.min() == np.iinfo(alpha.dtype).max:
        upscaled = _resample(apply(rgb, 1, noise), size)
        if alpha is not None:
            alpha = np.full(size, np.iinfo(alpha.dtype).max, alpha.dtype)
    else:
        opacity = to_float(alpha)[..., None]  # (H, W, 1)
        colours = _resample(apply(to_float(rgb) * opacity, 0.5, noise), size)
        calm = noise and noise._replace(temperature=0.0)
        opacity = _resample(apply(np.repeat(opacity, 3, axis=2), 0.5, calm), size)
        opacity = opacity.mean(axis=2, keepdims=True)
        visible = opacity > 0.5 / np.iinfo(alpha.dtype).max
        colours = np.divide(colours, opacity, out=np.zeros_like(colours), where=visible)
        upscaled, alpha = from_float(colours, pixels.dtype), from_float(opacity[..., 0], alpha.dtype)
    if grey:
        upscaled = _mean_of_channels(upscaled)
    return photo._replace(pixels=upscaled, alpha=alpha), residuals


def _upscale_thin(network: Network, image: np.ndarray, **options: Any) -> np.ndarray:
    """As `network.upscale`, the image mirrored at its edges first and the result cut back."""
    height, width, _ = image.shape
    mirrored = np.pad(image, ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0)), mode="symmetric")
    start, scale = _MARGIN * network.scale, network.scale
    sr = network.upscale(mirrored, **options)
    return np.ascontiguousarray(sr[start : start + height * scale, start : start + width * scale])


def _mean_of_channels(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) to (H, W, 1), the same unsigned type; in integers, as images may be large."""
    total = image.sum(axis=2, keepdims=True, dtype=np.uint16 if image.dtype == np.uint8 else np.uint32)
    return ((total + 1) // 3).astype(image.dtype)


def _resample(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) to (H', W', 3) by Pillow's antialiased Lanczos filter; uint8, uint16 or float32 stays so."""
    if image.shape[:2] == size:
        return image
    if image.dtype == np.uint8:
        return _lanczos(image, size)
    # Channel by channel: Pillow has no RGB of 16 bits.
    planes = [_lanczos(plane.astype(np.float32), size) for plane in np.moveaxis(image, 2, 0)]
    resized = np.stack(planes, axis=2)
    whole = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    return from_float(resized / whole, image.dtype)


def _lanczos(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
