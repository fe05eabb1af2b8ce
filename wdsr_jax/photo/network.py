"""The network that upscales a photograph: the one that is named, or a shipped one by scale."""

import functools
from typing import Any

from wdsr_jax.errors import UserError
from wdsr_jax.weights.files import pretrained_for
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
    """The network to upscale by `factor`: the one named, else of those shipped the next larger scale.

    Args:
        name: as for `load_pretrained`, or None.
        factor: of both sides.
        perceptual: of the one named, see `load_between`.

    Returns:
        module and params; (None, None) for a factor of at most 1 where none is named.

    Raises:
        UserError: no network is shipped, or the one named cannot be loaded.
    """
    if name:
        return load_network(name, perceptual)
    if factor <= 1:
        return None, None
    shipped = pretrained_for(factor)
    if shipped is None:
        raise UserError("no weights are shipped with this package; name yours with --model=WORKDIR or FILE")
    return load_network(shipped)
