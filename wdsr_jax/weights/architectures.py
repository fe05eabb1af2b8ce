"""The network that a file of another project holds, read off the shapes of its tensors."""

import math
import os
import re
import statistics
from collections.abc import Callable, Mapping
from typing import Any

from wdsr_jax.errors import UserError
from wdsr_jax.models.resampling import upscale_factors
from wdsr_jax.weights.layouts import Layout
from wdsr_jax.weights.tensors import Head


class _Sizes:
    """Sizes of the convolutions of a file; names are patterns of ours.

    Where tensors do not fit each other, the size that most have counts: the tensor that does not fit is the
    one that is wrong, and is named when shapes are compared.
    """

    def __init__(self, path: str | os.PathLike, heads: Mapping[str, Head], layout: Layout):
        self.path, self.layout = path, layout
        self._heads = heads

    def _kernels(self, names: str) -> list[tuple[int, ...]]:
        """(kh, kw, I, O) of the kernels that are kernels at all."""
        theirs = [their for our, their in self.layout.convolutions.items() if re.fullmatch(names, our)]
        shapes = [self._heads[their + self.layout.leaves["kernel"]].shape for their in theirs]
        order = (2, 3, 1, 0) if self.layout.torch else (0, 1, 2, 3)
        return [tuple(shape[i] for i in order) for shape in shapes if len(shape) == 4]

    def width(self, names: str) -> int:
        """Output channels."""
        theirs = [their for our, their in self.layout.convolutions.items() if re.fullmatch(names, our)]
        biases = [self._heads[their + self.layout.leaves["bias"]].shape for their in theirs]
        counts = [shape[3] for shape in self._kernels(names)] + [shape[0] for shape in biases if shape]
        return max(1, statistics.mode(counts or [1]))

    def inputs(self, names: str) -> int:
        """Input channels."""
        return max(1, statistics.mode([shape[2] for shape in self._kernels(names)] or [1]))

    def side(self, names: str) -> int:
        """Side of the kernels."""
        return max(1, statistics.mode([shape[0] for shape in self._kernels(names)] or [1]))

    def refuse(self, why: str) -> UserError:
        return UserError(f"{self.path}: {why}")


def architecture(
    path: str | os.PathLike, heads: Mapping[str, Head], layout: Layout, scale: int | None = None
) -> dict[str, Any]:
    """The section model of a config, without mean and res_scale.

    Args:
        path: of the file, for messages.
        heads: of its tensors, by the project's names.
        layout: the project's.
        scale: of the network, where its tensors do not tell; otherwise None, or what they tell.

    Raises:
        UserError: the sizes are of no network that this package has, or the scale is missing or another.
    """
    config = _NETWORKS[layout.network](_Sizes(path, heads, layout))
    if "scale" not in config and scale is None:
        raise UserError(f"{path}: an SRCNN, which does not say for which scale it is; give --scale=N")
    if scale is not None and config.setdefault("scale", scale) != scale:
        raise UserError(f"--scale={scale}: {path} is a network for x{config['scale']}")
    return config


def shuffle_factors(config: Mapping[str, Any]) -> dict[str, int]:
    """By convolution the factor of the pixel shuffle that follows it, for a file of PyTorch."""
    if config["name"].startswith("wdsr"):
        return dict.fromkeys(("tail", "skip"), config["scale"])
    return {f"up_{k}": factor for k, factor in enumerate(upscale_factors(config["scale"]))}


def describe(config: Mapping[str, Any]) -> str:
    """A network in a few words."""
    name, scale, filters = config["name"], config["scale"], config["filters"]
    blocks = f"{config.get('blocks')} blocks, {filters} filters"
    if name.startswith("srcnn"):
        sides = "-".join(name.removeprefix("srcnn_"))
        return f"SRCNN {sides} x{scale} on {config['channels'].partition('_')[0]}, {filters} filters"
    if name == "rdn":
        return f"RDN x{scale}, {blocks}, {config['layers']} layers of {config['growth']} in a block"
    if not name.startswith("wdsr"):
        return f"{dict(edsr='EDSR', msrresnet='MSRResNet')[name]} x{scale}, {blocks}"
    kind = name.replace("wdsr_", "WDSR-").upper()
    rank = f", {int(config['low_rank_ratio'] * filters)} in between" if name == "wdsr_b" else ""
    return f"{kind} x{scale}, {blocks}, expansion {config['expansion']}{rank}"


def _wdsr(sizes: _Sizes) -> dict[str, Any]:
    filters, wide, cell = sizes.width("head|.*project"), sizes.width(".*expand"), sizes.width("tail|skip")
    scale = math.isqrt(cell // 3)
    if cell != 3 * scale**2 or scale < 1:
        raise sizes.refuse(f"{cell} channels at the end are not 3 times the square of a scale")
    if wide % filters:
        raise sizes.refuse(f"blocks of {wide} channels, no multiple of {filters}, are not supported")
    config = {
        "name": "wdsr_a",
        "scale": scale,
        "filters": filters,
        "blocks": sizes.layout.counts.blocks,
        "expansion": wide // filters,
        "norm": _norm(sizes),
    }
    if any(name.endswith("reduce") for name in sizes.layout.convolutions):
        config |= {"name": "wdsr_b", "low_rank_ratio": low_rank_ratio(sizes.width(".*reduce"), filters)}
    return config


def low_rank_ratio(rank: int, filters: int) -> float:
    """What `int(ratio * filters)` gives the rank; the paper's 0.8 if that does."""
    ratios = (0.8, rank / filters, (rank + 0.5) / filters)  # the last is safe from rounding
    return next(ratio for ratio in ratios if int(ratio * filters) == rank)


def _edsr(sizes: _Sizes) -> dict[str, Any]:
    filters = sizes.width(r"head|body|block_.*")
    blocks = sizes.layout.counts.blocks
    return dict(name="edsr", scale=_scale(sizes, filters), filters=filters, blocks=blocks, norm=_norm(sizes))


def _msrresnet(sizes: _Sizes) -> dict[str, Any]:
    filters = sizes.width(r"head|detail|block_.*")
    blocks = sizes.layout.counts.blocks
    return dict(name="msrresnet", scale=_scale(sizes, filters), filters=filters, blocks=blocks)


def _srcnn(sizes: _Sizes) -> dict[str, Any]:
    filters, colours, side = sizes.width("extract"), sizes.inputs("extract"), sizes.side("map")
    outer = sizes.side("extract"), sizes.side("reconstruct")
    if outer != (9, 5) or side not in (1, 5):
        raise sizes.refuse(f"an SRCNN {outer[0]}-{side}-{outer[1]}; 9-1-5 and 9-5-5 are supported")
    if colours not in (1, 3):
        raise sizes.refuse(f"an SRCNN on {colours} channels; 1, luma, and 3, RGB, are supported")
    return dict(
        name=f"srcnn_9{side}5", filters=filters, channels="rgb" if colours == 3 else sizes.layout.luma
    )


def _rdn(sizes: _Sizes) -> dict[str, Any]:
    filters, counts = sizes.width(r"shallow_\d|fuse_\d|.*\.fuse"), sizes.layout.counts
    config = dict(name="rdn", filters=filters, blocks=counts.blocks, layers=counts.layers)
    config |= dict(growth=sizes.width(r".*\.conv_\d+"))
    if sizes.side("up_0") != 5:
        return config | dict(scale=_scale(sizes, filters))
    cell = sizes.width("up_2")
    scale = math.isqrt(cell // 3)
    if cell != 3 * scale**2:
        raise sizes.refuse(f"{cell} channels at the end are not 3 times the square of a scale")
    return config | dict(scale=scale, upnet="espcn" if sizes.inputs("tail") == 3 else "espcn_nearest")


def _norm(sizes: _Sizes) -> str:
    return "weight" if "scale" in sizes.layout.leaves else "none"


def _scale(sizes: _Sizes, filters: int) -> int:
    """The scale of an upsampler in stages, of `filters` times the square of a factor channels each."""
    widths = [sizes.width(f"up_{k}") for k in range(sizes.layout.counts.stages)]
    factors = tuple(math.isqrt(width // filters) for width in widths)
    scale = math.prod(factors)
    if widths != [factor**2 * filters for factor in factors] or upscale_factors(scale) != factors:
        raise sizes.refuse(
            f"an upsampler of {' and '.join(map(str, widths))} channels behind {filters} is not supported"
        )
    return scale


_NETWORKS: dict[str, Callable[[_Sizes], dict[str, Any]]] = {
    "wdsr": _wdsr,
    "edsr": _edsr,
    "msrresnet": _msrresnet,
    "srcnn": _srcnn,
    "rdn": _rdn,
}
