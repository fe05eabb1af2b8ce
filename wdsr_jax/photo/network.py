"""The network that upscales a photograph: the one that is named, or a shipped one by scale."""

import functools
from typing import Any

from wdsr_jax.errors import UserError
from wdsr_jax.photo.choice import network_name
from wdsr_jax.weights.files import FAMILIES
from wdsr_jax.weights.store import load_between, load_pretrained


@functools.cache
def load_network(name: str, perceptual: float | None = None) -> tuple[Any, Any]:
    """The network of a name or file, loaded once.

    Args:
        name: as for `load_pretrained`.
        perceptual: as for `load_between`; None for the weights as they are.

    Returns:
        module and params.

    Raises:
        UserError: it cannot be loaded.
    """
    return load_pretrained(name) if perceptual is None else load_between(name, perceptual)


def choose_network(name: str | None, factor: float, perceptual: float | None = None) -> tuple[Any, Any]:
    """The network to upscale by `factor`: the one named, else of a shipped family the next larger scale.

    Args:
        name: as for `load_pretrained`, or a key of `FAMILIES`; None for the clean family.
        factor: of both sides.
        perceptual: of the one named, see `load_between`.

    Returns:
        module and params; (None, None) for a factor of at most 1 where no file is named.

    Raises:
        UserError: no such network is shipped, or the one named cannot be loaded.
    """
    if name and name not in FAMILIES:
        return load_network(name, perceptual)
    if factor <= 1:
        return None, None
    shipped = network_name(name, factor)
    if shipped is None:
        family = f"no {name} network is" if name else "no weights are"
        raise UserError(f"{family} shipped with this package; name yours with --model=WORKDIR or FILE")
    return load_network(shipped)
