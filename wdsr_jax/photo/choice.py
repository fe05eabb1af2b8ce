"""Which of the shipped networks suits a photograph, where none is named."""

from typing import NamedTuple

from wdsr_jax.image.noise import estimate_noise
from wdsr_jax.photo.photos import Photo
from wdsr_jax.weights.files import FAMILIES, pretrained_for

# Below, and above, the photo network is the better one (docs/models.md).
GOOD_QUALITY = 92  # of JPEG
LITTLE_NOISE = 2.5  # standard deviation, levels of 8 bits


class Choice(NamedTuple):
    """The network to take.

    Attributes:
        model: a key of `FAMILIES`, or what the command line names; None for none.
        reason: why, in a few words; empty where there was nothing to choose from.
    """

    model: str | None
    reason: str = ""


def choose_model(model: str | None, photo: Photo, factor: float) -> Choice:
    """The network for a photograph: the one that is named, else `clean` or `photo`.

    Args:
        model: of the command line; None to choose.
        photo: what is upscaled.
        factor: of both sides.
    """
    if model or factor <= 1 or pretrained_for(factor, "photo") is None:
        return Choice(model)
    lossy_format, quality = photo.compression
    if lossy_format and (quality is None or quality < GOOD_QUALITY):
        return Choice("photo", lossy_format if quality is None else f"{lossy_format} of quality {quality}")
    noise = estimate_noise(photo.pixels)
    if noise > LITTLE_NOISE:
        return Choice("photo", f"noise of {noise:.1f} levels")
    return Choice("clean", f"JPEG of quality {quality}, little noise" if quality else "no loss, little noise")


def choose_video_model(model: str | None, factor: float, *, on_cpu: bool) -> Choice:
    """The network for a video: the one that is named, else `fast` on CPUs; elsewhere as for lossy pictures.

    Args:
        model: of the command line; None to choose.
        factor: of both sides.
        on_cpu: whether there is no GPU or TPU.
    """
    if model or factor <= 1:
        return Choice(model)
    family = "fast" if on_cpu else "photo"
    if pretrained_for(factor, family) is None:
        return Choice(None)
    return Choice(family, "a video, without a GPU" if on_cpu else "a video")


def network_name(model: str | None, factor: float) -> str | None:
    """The name for `load_pretrained`: that of a shipped network where `model` is None or of `FAMILIES`."""
    return pretrained_for(factor, model or "clean") if model is None or model in FAMILIES else model
