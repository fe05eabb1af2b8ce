"""LR as a poor camera records it: blur, shift, noise and JPEG, after NTIRE 2018's realistic tracks.

The LR of these tracks suffers from motion blur, Poisson noise and pixel shifts; mildly in `mild`, more in
`difficult`, and from image to image differently in `wild` (Xu et al., "Unified Dynamic Convolutional Network
for Super-Resolution with Variational Degradations", CVPR 2020, arXiv:2004.06965, on DIV2K). Their numbers
were not available: those of `PRESETS` are this project's own choice, and so is a rotated Gaussian for motion
blur. Gaussian noise and JPEG are not part of these tracks; no preset has them.

In this order: blur and shift of HR, MATLAB's bicubic, Poisson noise, Gaussian noise, rounding to uint8, JPEG.
The shift comes before the downscaling so that one of whole HR pixels is exact; with the blur it commutes.

LR is a pure function of HR's pixels, the scale and the settings, seed included: other images, their order and
names do not matter. The random numbers are those of `RandomState`, whose stream NumPy keeps for good.
"""

import hashlib
import io
import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from PIL import Image

from wdsr_jax.errors import UserError
from wdsr_jax.image.pixels import to_uint8
from wdsr_jax.image.resize import imresize

DEGRADATION_VERSION = 1  # raise it when `degrade` gives other pixels: LR made earlier is then made anew
_BORDER = "replicate"


class Degradation(NamedTuple):
    """What may happen to an image; of each (lowest, highest) a number is drawn for each image, uniformly.

    Attributes:
        blur: standard deviations of a Gaussian along its two axes, HR pixels, each drawn by itself, the axes
            turned by a random angle; with equal ends the blur is isotropic.
        shift: whole HR pixels that each axis is moved by at most, either way.
        subpixel: HR pixels that each axis is moved by beyond that, either way; up to 0.5.
        poisson: photons that white stands for: the fewer, the noisier; 0 for no such noise.
        noise: standard deviation of Gaussian noise, in levels of 8 bits.
        jpeg: quality, 1 to 100, chroma subsampled 4:2:0; 0 for no JPEG.
        seed: of all that is random.
    """

    blur: tuple[float, float] = (0.0, 0.0)
    shift: int = 0
    subpixel: float = 0.0
    poisson: tuple[float, float] = (0.0, 0.0)
    noise: tuple[float, float] = (0.0, 0.0)
    jpeg: tuple[float, float] = (0.0, 0.0)
    seed: int = 0


class Draw(NamedTuple):
    """What happens to one image.

    Attributes:
        sigmas: standard deviations of the Gaussian blur along its axes, HR pixels.
        angle: of its first axis against the horizontal, radians.
        shift: (dy, dx), HR pixels; LR shows HR moved down and to the right by it.
        poisson: photons that white stands for, or 0.
        noise: standard deviation of Gaussian noise, 8-bit levels.
        jpeg: quality, or 0.
    """

    sigmas: tuple[float, float]
    angle: float
    shift: tuple[float, float]
    poisson: float
    noise: float
    jpeg: int


# This project's own choice, see above.
PRESETS = {
    "mild": Degradation(blur=(0.5, 2.0), shift=4, poisson=(2000.0, 2000.0)),
    "difficult": Degradation(blur=(1.0, 4.0), shift=8, poisson=(500.0, 500.0)),
    "wild": Degradation(blur=(0.5, 4.0), shift=8, poisson=(300.0, 3000.0)),
}

_LIMITS = {"blur": 20, "shift": 64, "subpixel": 0.5, "poisson": 1e9, "noise": 255, "jpeg": 100, "seed": 2**63}
_WHOLE = ("shift", "seed")
_RANGES = ("blur", "poisson", "noise", "jpeg")


def parse_degradation(text: str) -> Degradation:
    """Reads settings such as `mild`, `shift=4` or `wild,jpeg=30:90,seed=1`.

    Args:
        text: a name of `PRESETS`, settings NAME=NUMBER or NAME=LOWEST:HIGHEST by the fields of `Degradation`,
            or a name and then settings that replace some of its own; commas between them.

    Raises:
        UserError: anything else; it names what is wrong.
    """
    where = f"config.data.degradation={text!r}"
    settings = Degradation()
    for i, part in enumerate(text.replace(" ", "").split(",")):
        name, equals, value = part.partition("=")
        if not i and not equals and name in PRESETS:
            settings = PRESETS[name]
        elif not equals or name not in _LIMITS:
            raise UserError(
                f"{where}: {part!r} is unknown; it is one of {', '.join(PRESETS)}, or settings such as "
                f"blur=0.5:2,shift=4 ({', '.join(_LIMITS)}), or both: mild,shift=8; or it begins with online"
            )
        else:
            settings = settings._replace(**{name: _read(name, value, where)})
    return settings


def _read(name: str, value: str, where: str) -> int | float | tuple[float, float]:
    """The value of one setting; UserError where it is none."""
    parts = value.split(":") if name in _RANGES else [value]
    try:
        numbers = [int(part) if name in _WHOLE else float(part) for part in parts]
    except ValueError:
        numbers = []
    # Written so that NaN is refused, too.
    if not 1 <= len(numbers) <= 2 or not 0 <= numbers[0] <= numbers[-1] <= _LIMITS[name]:
        kind = "a whole number" if name in _WHOLE else "a number"
        ends = f", or two such as {name}=LOWEST:HIGHEST" if name in _RANGES else ""
        raise UserError(f"{where}: {name} must be {kind} from 0 to {_LIMITS[name]}{ends}, not {value!r}")
    return (numbers[0], numbers[-1]) if name in _RANGES else numbers[0]


def degrade(
    hr: np.ndarray, scale: int, settings: Degradation, *, kernel: np.ndarray | None = None
) -> np.ndarray:
    """Makes LR from HR; the module's docstring has the order.

    Where neither blur nor a part of a pixel nor noise is asked for, no float is involved: then LR is that of
    `imresize` of the moved uint8 image, bit for bit.

    Args:
        hr: uint8 (H, W, 3), sides multiples of `scale`.
        scale: HR pixels per LR pixel and side; 1 leaves the size.
        settings: what may happen.
        kernel: to blur with instead of a Gaussian; see `blur`.

    Returns:
        uint8 (H / scale, W / scale, 3).
    """
    rng = random_of(hr, settings.seed)
    drawn = draw(settings, rng)
    if kernel is None and max(drawn.sigmas) > 0:
        kernel = gaussian_kernel(drawn.sigmas, drawn.angle)
    image = hr if kernel is None else blur(hr, kernel)
    image = translate(image, drawn.shift)
    if scale > 1:
        image = imresize(image, Fraction(1, scale), border=_BORDER)
    image = add_noise(image, drawn.poisson, drawn.noise, rng)
    if image.dtype != np.uint8:
        image = to_uint8(image / 255)
    return jpeg(image, drawn.jpeg) if drawn.jpeg else image


def random_of(hr: np.ndarray, seed: int) -> np.random.RandomState:
    """The random numbers of one image: a function of its shape, its pixels and the seed."""
    digest = hashlib.blake2b(f"{seed} {hr.shape}".encode(), digest_size=32)
    digest.update(np.ascontiguousarray(hr).data)
    return np.random.RandomState(np.frombuffer(digest.digest(), "<u4"))


def draw(settings: Degradation, rng: np.random.RandomState) -> Draw:
    """Decides what happens to one image; takes 10 numbers of `rng`, whatever the settings.

    So that a setting changes what it is about and nothing else.
    """
    numbers = rng.random_sample(10).tolist()

    def between(ends: tuple[float, float]) -> float:
        return ends[0] + (ends[1] - ends[0]) * numbers.pop()

    def shift() -> float:
        whole = math.floor((2 * settings.shift + 1) * numbers.pop()) - settings.shift
        return whole + between((-settings.subpixel, settings.subpixel))

    return Draw(
        sigmas=(between(settings.blur), between(settings.blur)),
        angle=between((0.0, math.pi)),
        shift=(shift(), shift()),
        poisson=between(settings.poisson),
        noise=between(settings.noise),
        jpeg=round(between(settings.jpeg)),
    )


def gaussian_kernel(sigmas: tuple[float, float], angle: float) -> np.ndarray:
    """A Gaussian at the pixels, cut off at four standard deviations, with sum 1.

    Args:
        sigmas: standard deviations along its axes, pixels; equal ones make it round, the least is 0.1.
        angle: of the first axis, from the horizontal towards the vertical one that points down, radians.

    Returns:
        float64 (2 n + 1, 2 n + 1), n = floor(4 max(sigmas) + 1/2), as `scipy.ndimage.gaussian_filter` has it.
    """
    n = math.floor(4 * max(sigmas) + 0.5)
    y, x = np.mgrid[-n : n + 1, -n : n + 1]
    along = math.cos(angle) * x + math.sin(angle) * y
    across = math.cos(angle) * y - math.sin(angle) * x
    first, second = (max(sigma, 0.1) for sigma in sigmas)
    kernel = np.exp(-0.5 * ((along / first) ** 2 + (across / second) ** 2))
    return kernel / kernel.sum()


def blur(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolution (the kernel is turned by 180 degrees), the border pixels repeated outwards.

    Args:
        image: (H, W, 3).
        kernel: (h, w), both odd.

    Returns:
        float64 (H, W, 3), in the units of `image`.

    Raises:
        ValueError: a kernel of even sides.
    """
    if kernel.ndim != 2 or not all(side % 2 for side in kernel.shape):
        raise ValueError(f"kernel must be (h, w) with odd sides, got shape {kernel.shape}")
    top, left = (side // 2 for side in kernel.shape)
    padded = np.pad(image, ((top, top), (left, left), (0, 0)), mode="edge")
    # What wraps around falls on the first 2 * top rows and 2 * left columns, which are cut off.
    shape = padded.shape[0], padded.shape[1]
    spectrum = np.fft.rfft2(kernel, shape)
    result = np.empty(image.shape)
    for c in range(image.shape[2]):
        product = np.fft.irfft2(np.fft.rfft2(padded[..., c], shape) * spectrum, shape)
        result[..., c] = product[2 * top :, 2 * left :]
    return result


def translate(image: np.ndarray, shift: tuple[float, float]) -> np.ndarray:
    """Moves an image, the border pixels repeated outwards; parts of a pixel by cubic convolution.

    Args:
        image: (H, W, 3).
        shift: (dy, dx), down and to the right.

    Returns:
        (H, W, 3) with `result[y, x] = image[y - dy, x - dx]`. Of the dtype of `image`, and exact, where both
        shifts are whole; float64 elsewhere.

    Source: R. Keys, "Cubic convolution interpolation for digital image processing", IEEE TASSP 29(6), 1981,
    equation 15 (a = -1/2).
    """
    for axis, moved in enumerate(shift):
        start = math.floor(-moved)
        t = -moved - start
        weights = (
            (-t + 2 * t**2 - t**3) / 2,
            (2 - 5 * t**2 + 3 * t**3) / 2,
            (t + 4 * t**2 - 3 * t**3) / 2,
            (t**3 - t**2) / 2,
        )
        last = image.shape[axis] - 1
        sources = np.arange(last + 1) + start
        if not t:
            image = image.take(np.clip(sources, 0, last), axis)
            continue
        taps = (
            weight * image.take(np.clip(sources + offset, 0, last), axis)
            for offset, weight in enumerate(weights, start=-1)
        )
        image = sum(taps, start=np.zeros(()))
    return image


def add_noise(image: np.ndarray, poisson: float, noise: float, rng: np.random.RandomState) -> np.ndarray:
    """Poisson noise, of a variance that grows with the light, and then Gaussian noise.

    Args:
        image: any shape, [0, 255].
        poisson: photons p that 255 stands for: a level v gets a variance of 255 v / p; 0 for none.
        noise: standard deviation of the Gaussian noise; 0 for none.
        rng: of the noise.

    Returns:
        float64, neither rounded nor clipped; `image` itself where there is no noise.
    """
    if poisson:
        image = rng.poisson(np.clip(image, 0, 255) * (poisson / 255)) * (255 / poisson)
    if noise:
        image = image + noise * rng.standard_normal(image.shape)
    return image


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """What is left of uint8 (H, W, 3) after JPEG of a quality of 1 to 100, chroma subsampled 4:2:0."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(file) as decoded:
        return np.asarray(decoded)
