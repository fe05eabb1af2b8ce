"""What a file of Keras is, where the names of its layers tell nothing: by kernels in the order of layers."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from wdsr_jax.models.layers import DIV2K_MEAN
from wdsr_jax.weights.families import HALF, Counts

_Shapes = Mapping[str, tuple[int, ...]]


class Chain(NamedTuple):
    """The convolutions of a network, found by their order.

    Attributes:
        project: whose they are, or, where there is no network, why none is.
        network: the class of ours, in small letters; empty where it is none that is read.
        convolutions: by our name of each, the layer.
        counts: of blocks, layers and stages.
        mean: that is subtracted, unless told otherwise.
        gain: the network sees `gain * (x - mean)`.
    """

    project: str
    network: str = ""
    convolutions: Mapping[str, str] = {}
    counts: Counts = Counts()
    mean: tuple[float, float, float] = DIV2K_MEAN
    gain: int = 1


def chain_of(shapes: _Shapes, layers: Sequence[str], *, normed: bool) -> Chain:
    """The network of a file of Keras.

    Args:
        shapes: (kh, kw, I, O) of each convolution, in the order of the layers.
        layers: the names of all layers, those without weights included.
        normed: whether the convolutions have weight norm.
    """
    names, kernels = list(shapes), list(shapes.values())
    sides = "".join(
        str(shape[0]) if len(shape) == 4 and shape[0] == shape[1] < 10 else "?" for shape in kernels
    )
    if re.fullmatch("9[15]5", sides):
        places = ["extract", "map", "reconstruct"]
        return Chain("Keras", "srcnn", dict(zip(places, names, strict=True)))
    if re.fullmatch("3{5,}", sides) and kernels[0][2] == kernels[-1][3] == 3:
        return _edsr(names, kernels)
    if match := re.fullmatch("33((?:3+1)+)13(3+)3", sides):
        return _rdn(names, match[1], len(match[2]))
    return _wdsr(names, kernels, layers, normed=normed)


def _edsr(names: Sequence[str], kernels: Sequence[tuple[int, ...]]) -> Chain:
    """krasserm/super-resolution, `model/edsr.py`: the stages of the upsampler are wider than the rest."""
    filters = kernels[0][3]
    stages = next((i for i, shape in enumerate(reversed(kernels[:-1])) if shape[3] <= filters), 0)
    blocks, left_over = divmod(len(names) - 3 - stages, 2)
    if blocks < 1 or left_over:
        return Chain(f"not an EDSR; it has {len(names)} convolutions of 3x3, {stages} of them to upscale")
    places = ["head", *(f"block_{i}.{part}" for i in range(blocks) for part in ("first", "last")), "body"]
    places += [*(f"up_{k}" for k in range(stages)), "tail"]
    return Chain("Keras", "edsr", dict(zip(places, names, strict=True)), Counts(blocks, 0, stages), gain=2)


def _rdn(names: Sequence[str], dense: str, stages: int) -> Chain:
    """The paper's RDN: blocks of 3x3 convolutions that end in 1x1."""
    each = dense.split("1")[:-1]
    if len(set(each)) > 1:
        return Chain("not an RDN; its blocks have different numbers of layers")
    counts = Counts(len(each), len(each[0]), stages)
    places = ["shallow_0", "shallow_1"]
    for i in range(counts.blocks):
        places += [*(f"block_{i}.conv_{j}" for j in range(counts.layers)), f"block_{i}.fuse"]
    places += ["fuse_0", "fuse_1", *(f"up_{k}" for k in range(stages)), "tail"]
    return Chain("Keras", "rdn", dict(zip(places, names, strict=True)), counts)


def _wdsr(
    names: Sequence[str], kernels: Sequence[tuple[int, ...]], layers: Sequence[str], *, normed: bool
) -> Chain:
    skips = [name for name, shape in zip(names, kernels, strict=True) if shape[:3] == (5, 5, 3)]
    chain = [name for name in names if name not in skips]  # head, blocks, tail: as data flow
    parts = (
        ("expand", "reduce", "project")
        if any(shape[:2] == (1, 1) for shape in kernels)
        else ("expand", "project")
    )
    blocks, left_over = divmod(len(chain) - 2, len(parts))
    if len(skips) != 1 or blocks < 1 or left_over:
        return Chain(f"not a WDSR; it has {len(skips)} convolutions of 5x5 on RGB, {len(chain)} other layers")
    places = ["head", *(f"block_{i}.{part}" for i in range(blocks) for part in parts), "tail"]
    convolutions = dict(zip(places, chain, strict=True)) | {"skip": skips[0]}
    project, mean = ("Keras", DIV2K_MEAN) if normed else _of_2018(layers)
    return Chain(project, "wdsr", convolutions, Counts(blocks), mean, gain=2)


def _of_2018(layers: Sequence[str]) -> tuple[str, tuple[float, float, float]]:
    """The project, and what it subtracts, of a WDSR without weight norm; the file does not say it.

    krasserm's network subtracts DIV2K's mean, in a `lambda` before the first convolution, and has three at
    the end, for two pixel shuffles and the mean. KyrinCode's subtracts 0.5 and mirrors the edges in a second
    one before the first convolution.
    """
    first = next((i for i, name in enumerate(layers) if "conv" in name), 0)
    before, all_of_them = (sum("lambda" in name for name in part) for part in (layers[:first], layers))
    if before == 1 and all_of_them >= 4:
        return "Keras without weight norm", DIV2K_MEAN
    return "Keras of 2018", HALF
