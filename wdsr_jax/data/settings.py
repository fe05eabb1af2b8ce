"""Settings of a degradation, from text; what they do is in `degradation` and `online`.

Apart from it, so that a mistake in them is answered before NumPy is imported.
"""

import math
import re
from typing import NamedTuple

from wdsr_jax.errors import UserError


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


# This project's own choice, see `degradation`.
PRESETS = {
    "mild": Degradation(blur=(0.5, 2.0), shift=4, poisson=(2000.0, 2000.0)),
    "difficult": Degradation(blur=(1.0, 4.0), shift=8, poisson=(500.0, 500.0)),
    "wild": Degradation(blur=(0.5, 4.0), shift=8, poisson=(300.0, 3000.0)),
}

_LIMITS = {"blur": 20, "shift": 64, "subpixel": 0.5, "poisson": 1e9, "noise": 255, "jpeg": 100, "seed": 2**63}
_WHOLE = ("shift", "seed")
_RANGES = ("blur", "poisson", "noise", "jpeg")


def parse_degradation(text: str) -> "Degradation | Online":
    """Reads settings such as `mild`, `shift=4` or `wild,jpeg=30:90,seed=1`.

    Args:
        text: a name of `PRESETS`, settings NAME=NUMBER or NAME=LOWEST:HIGHEST by the fields of `Degradation`,
            or a name and then settings that replace some of its own; commas between them. What begins with
            `online` is read by `parse_online`.

    Raises:
        UserError: anything else; it names what is wrong.
    """
    if text.split(",")[0].strip() == "online":
        return parse_online(text)
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


class Range(NamedTuple):
    """A number between `low` and `high`, drawn uniformly, for a part of the images.

    Attributes:
        low: the least.
        high: the largest; 0 where nothing ever happens.
        probability: the part of the images to which it happens, in [0, 1].
    """

    low: float = 0.0
    high: float = 0.0
    probability: float = 1.0

    @property
    def is_used(self) -> bool:
        """Whether it ever happens."""
        return self.high > 0 and self.probability > 0


class Online(NamedTuple):
    """What may happen to an image; the numbers are drawn for each image at each step.

    Attributes:
        blur: standard deviation of a Gaussian along its longer axis, LR pixels; across it half of that to all
            of it; turned by any angle.
        shift: HR pixels that each axis is moved by, either way; parts of a pixel as well as whole ones.
        area: part of the images whose LR pixels are means of the HR pixels below them.
        bilinear: part of the images that are downscaled by bilinear interpolation, without antialiasing.
            All others are downscaled by MATLAB's bicubic.
        noise: standard deviation of Gaussian noise, levels of 8 bits.
        poisson: photons that white stands for: the fewer, the noisier.
        grey: part of the noisy images whose noise is the same in R, G and B.
        jpeg: quality, 1 to 100.
        subsampled: part of the JPEGs whose chroma is 4:2:0; the others' is 4:4:4.
        clean: part of the images to which nothing happens but MATLAB's bicubic.
        seed: of the LR of validation images; that of training is the run's.
    """

    blur: Range = Range()
    shift: Range = Range()
    area: float = 0.0
    bilinear: float = 0.0
    noise: Range = Range()
    poisson: Range = Range()
    grey: float = 0.0
    jpeg: Range = Range()
    subsampled: float = 1.0
    clean: float = 0.0
    seed: int = 0


# This project's own choice; docs/degradations.md says why.
ONLINE = Online(
    blur=Range(0.1, 0.8, 0.5),
    area=0.25,
    bilinear=0.1,
    noise=Range(0.0, 8.0, 0.4),
    poisson=Range(300.0, 3000.0, 0.2),
    grey=0.4,
    jpeg=Range(40.0, 95.0, 0.7),
    subsampled=0.8,
    clean=0.15,
)

_ONLINE_LIMITS = {"blur": 3, "shift": 8, "noise": 50, "poisson": 1e6, "jpeg": 100}  # of ranges
_ONLINE_LEAST = {"poisson": 50, "jpeg": 1}  # but for 0, which is never
_ONLINE_PARTS = ("area", "bilinear", "grey", "subsampled", "clean")


def parse_online(text: str) -> Online:
    """Reads `online`, or `online` and settings that replace some of its own: `online,jpeg=30:90@0.5,seed=1`.

    Args:
        text: settings are NAME=LOWEST:HIGHEST or NAME=NUMBER, with @PROBABILITY where they happen to a part
            of the images only, or NAME=PART, by the fields of `Online`; commas between them.

    Raises:
        UserError: anything else; it names what is wrong.
    """
    where = f"config.data.degradation={text!r}"
    settings = ONLINE
    for part in text.replace(" ", "").split(",")[1:]:
        name, equals, value = part.partition("=")
        if not equals or name not in Online._fields:
            raise UserError(
                f"{where}: {part!r} is unknown; after online come settings such as jpeg=30:90@0.5 "
                f"({', '.join(Online._fields)})"
            )
        settings = settings._replace(**{name: _read_online(name, value, where)})
    if settings.area + settings.bilinear > 1:
        raise UserError(f"{where}: area and bilinear are parts of the images, at most 1 together")
    return settings


def _read_online(name: str, value: str, where: str) -> int | float | Range:
    """The value of one setting; UserError where it is none."""
    if name == "seed":
        if not re.fullmatch(r"\d{1,18}", value):
            raise UserError(f"{where}: seed must be a whole number, not {value!r}")
        return int(value)
    ends, at, probability = value.partition("@")
    try:
        numbers = [float(end) for end in ends.split(":")]
        part = float(probability) if at else 1.0
    except ValueError:
        numbers, part = [], 0.0
    # Written so that NaN is refused, too.
    if name in _ONLINE_PARTS:
        if at or len(numbers) != 1 or not 0 <= numbers[0] <= 1:
            raise UserError(f"{where}: {name} must be a part of the images, from 0 to 1, not {value!r}")
        return numbers[0]
    limit, least = _ONLINE_LIMITS[name], _ONLINE_LEAST.get(name, 0)
    is_never = bool(numbers) and set(numbers) == {0.0}
    fits = len(numbers) in (1, 2) and least <= numbers[0] <= numbers[-1] <= limit
    is_whole = name != "jpeg" or all(number == round(number) for number in numbers if math.isfinite(number))
    if not (is_never or (fits and is_whole)) or not 0 <= part <= 1:
        kind = "a whole number" if name == "jpeg" else "a number"
        raise UserError(
            f"{where}: {name} must be {kind} from {least} to {limit:g}, or two such as "
            f"{name}=LOWEST:HIGHEST, or 0 for never, and then @PROBABILITY if not always; not {value!r}"
        )
    return Range(numbers[0], numbers[-1], part)
