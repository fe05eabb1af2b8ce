"""The network that upscales a photograph: the one that is named, or a shipped one by scale.

For ONNX Runtime the network's graph is kept on disk. So a command that has upscaled with the same weights
before imports no JAX, which takes as long as a small photograph.
"""

import functools
import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wdsr_jax.errors import UserError
from wdsr_jax.inference.onnx_engine import (
    has_session,
    network_graph,
    scale_and_radius,
    start_session,
    upscale_by_session,
)
from wdsr_jax.photo.choice import network_name
from wdsr_jax.system.compilation import enable_compilation_cache
from wdsr_jax.system.files import default_cache_dir, open_regular, read_regular, write_whole
from wdsr_jax.weights.files import FAMILIES, find_weights

_PACKAGE = Path(__file__).parents[1]
_MADE_BY = ("models/*.py", "inference/network.py", "inference/onnx_graph.py", "inference/onnx_engine.py")
_MOST_KEPT = 16  # graphs, of some 5 MB


class Network(NamedTuple):
    """A trained network.

    Attributes:
        scale: upscaling factor.
        radius: see `models`; None where it needs the whole image.
        upscale: `tiles.upscale` of an image, with its options.
        module: the Flax module that XLA compiles; None with ONNX Runtime.
    """

    scale: int
    radius: int | None
    upscale: Callable[..., np.ndarray]
    module: Any = None


def network_of(module: Any, params: Any, engine: str | None = "xla") -> Network:
    """The network of a module and its parameters.

    Args:
        module: a network from `create_model` or `load_pretrained`.
        params: its parameters.
        engine: as for `tiles.upscale`.
    """
    from wdsr_jax.inference.tiles import upscale

    compute = functools.partial(upscale, module, params, engine=engine)
    return Network(module.scale, module.radius, compute, module)


@functools.cache
def load_network(
    name: str, perceptual: float | None = None, engine: str | None = None, *, samples: bool = False
) -> Network:
    """The network of a name or file, loaded once.

    Args:
        name: as for `load_pretrained`.
        perceptual: as for `load_between`; None for the weights as they are.
        engine: as for `tiles.upscale`.
        samples: whether to draw samples from its space, which XLA computes.

    Raises:
        UserError: it cannot be loaded, the engine cannot compute it, or it has no space of samples.
    """
    by_onnx = perceptual is None and not samples and has_session(engine)
    kept = _kept_graph(find_weights(name)) if by_onnx else None
    if kept:
        with suppress(Exception):  # nothing is kept, or what is kept is damaged
            return _by_session(start_session(read_regular(kept)))
    from wdsr_jax.weights.store import load_between, load_pretrained

    enable_compilation_cache()
    module, params = load_pretrained(name) if perceptual is None else load_between(name, perceptual)
    if samples:
        return network_of(_sampler(name, module), params, engine)
    if by_onnx:
        try:
            graph = network_graph(module, params)
        except UserError:
            if engine:
                raise
            return network_of(module, params)
        if kept:
            _keep(graph, kept)
        return _by_session(start_session(graph))
    return network_of(module, params, engine)


def _sampler(name: str, module: Any) -> Any:
    from wdsr_jax.models.flow import FlowWDSR, sampler_of

    if not isinstance(module, FlowWDSR):
        raise UserError(f"--samples: {name} gives one image alone; a network of configs/space.py has many")
    return sampler_of(module)


def _by_session(session: Any) -> Network:
    def upscale(image: np.ndarray, *, noise: None = None, tilings: None = None, **options: Any) -> np.ndarray:
        """As `tiles.upscale`, without what samples and compilations need."""
        return upscale_by_session(session, image, **options)

    return Network(*scale_and_radius(session), upscale)


def _kept_graph(weights: Path) -> Path | None:
    """Where the graph of weights is kept: by what they are, and by the code that makes a graph of them."""
    with open_regular(weights) as file:
        digest = hashlib.file_digest(file, "sha256")
    for path in sorted(path for pattern in _MADE_BY for path in _PACKAGE.glob(pattern)):
        digest.update(path.read_bytes())
    try:
        return default_cache_dir() / "onnx" / digest.hexdigest()
    except RuntimeError:  # no home
        return None


def _keep(graph: bytes, path: Path) -> None:
    """Keeps a graph, where a folder can be written, and removes the oldest."""
    with suppress(OSError, UserError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, graph)
        for old in sorted(path.parent.iterdir(), key=lambda kept: -kept.stat().st_mtime)[_MOST_KEPT:]:
            old.unlink()


def choose_network(
    name: str | None,
    factor: float,
    perceptual: float | None = None,
    engine: str | None = None,
    *,
    samples: bool = False,
) -> Network | None:
    """The network to upscale by `factor`: the one named, else of a shipped family the next larger scale.

    Args:
        name: as for `load_pretrained`, or a key of `FAMILIES`; None for the clean family.
        factor: of both sides.
        perceptual: of the one named, see `load_between`.
        engine: as for `load_network`.
        samples: as for `load_network`.

    Returns:
        None for a factor of at most 1 where no file is named: such a photograph is only resampled.

    Raises:
        UserError: no such network is shipped, or as `load_network`.
    """
    if name and name not in FAMILIES:
        return load_network(name, perceptual, engine, samples=samples)
    if factor <= 1:
        return None
    shipped = network_name(name, factor)
    if shipped is None:
        family = f"no {name} network is" if name else "no weights are"
        raise UserError(f"{family} shipped with this package; name yours with --model=WORKDIR or FILE")
    return load_network(shipped, None, engine, samples=samples)
