"""Settings of a degradation, from text; what they do is in `degradation`.

Apart from it, so that a mistake in them is answered before NumPy is imported.
"""

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
                f"blur=0.5:2,shift=4 ({', '.join(_LIMITS)}), or both: mild,shift=8"
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
