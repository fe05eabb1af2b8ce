"""The projects whose weights are read: what each calls the convolutions of a network, as tables.

A name in a table stands for many: `{i}` counts blocks, `{j}` layers within a block and `{k}` stages of an
upsampler, from 0. In their names `{i1}` is i + 1, `{k2}` is 2 k (a pixel shuffle stands between), `{n}` is
the number of blocks, `{n1}` one more, `{s2}` twice the number of stages. The list for people is
`docs/weights.md`.
"""

import functools
import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from wdsr_jax.models.layers import DIV2K_MEAN

HALF = (0.5, 0.5, 0.5)


class Counts(NamedTuple):
    """How often the repeated parts of a network are there."""

    blocks: int = 0
    layers: int = 0
    stages: int = 0


class Family(NamedTuple):
    """What a project calls the parts of a network.

    Attributes:
        project: its name.
        network: the class of ours, in small letters.
        parts: by our name of a convolution, or of many, theirs.
        gain: the network sees `gain * (x - mean)` for x in [0, 1].
        mean: that it subtracts, unless the file or the user says otherwise.
        luma: of networks with one channel, which it is.
        torch: whether its files are of PyTorch, else of Keras.
    """

    project: str
    network: str
    parts: Mapping[str, str]
    gain: int = 1
    mean: tuple[float, float, float] = DIV2K_MEAN
    luma: str = "luma_full"
    torch: bool = True

    def names(self, counts: Counts) -> dict[str, str]:
        """Their names of all convolutions, by ours."""
        found = {}
        for ours, theirs in self.parts.items():
            for i in range(counts.blocks if "{i}" in ours else 1):
                for j in range(counts.layers if "{j}" in ours else 1):
                    for k in range(counts.stages if "{k}" in ours else 1):
                        values = dict(i=i, i1=i + 1, j=j, j1=j + 1, k=k, k1=k + 1, k2=2 * k)
                        values |= dict(n=counts.blocks, n1=counts.blocks + 1, s2=2 * counts.stages)
                        found[ours.format(**values)] = theirs.format(**values)
        return found


def _wdsr(name: str, inner: str, **places: int) -> Family:
    """A WDSR in the manner of EDSR-PyTorch, whose blocks are Sequentials of that name."""
    blocks = {f"block_{{i}}.{ours}": f"body.{{i}}.{inner}.{place}" for ours, place in places.items()}
    return Family(name, "wdsr", {"head": "head.0", **blocks, "tail": "tail.0", "skip": "skip.0"}, gain=2)


OFFICIAL_2020 = Family(
    "the official code of 2020",
    "wdsr",
    {
        "head": "body.0",
        "block_{i}.expand": "body.{i1}.body.0",
        "block_{i}.project": "body.{i1}.body.2",
        "tail": "body.{n1}",
        "skip": "skip.0",
    },
    mean=HALF,
)
# Of several that fit equally well, the first is taken.
FAMILIES = (
    OFFICIAL_2020,
    _wdsr("the official code of 2018", "body", expand=0, project=2),
    _wdsr("the official code of 2018", "body", expand=0, reduce=2, project=3),
    _wdsr("WDSR-pytorch", "module", expand=0, project=2),
    _wdsr("WDSR-pytorch", "module", expand=0, reduce=2, project=3),
    Family(
        "EDSR-PyTorch or torchSR",
        "edsr",
        {
            "head": "head.0",
            "block_{i}.first": "body.{i}.body.0",
            "block_{i}.last": "body.{i}.body.2",
            "body": "body.{n}",
            "up_{k}": "tail.0.{k2}",
            "tail": "tail.1",
        },
        gain=255,
    ),
    Family(
        "BasicSR",
        "edsr",
        {
            "head": "conv_first",
            "block_{i}.first": "body.{i}.conv1",
            "block_{i}.last": "body.{i}.conv2",
            "body": "conv_after_body",
            "up_{k}": "upsample.{k2}",
            "tail": "conv_last",
        },
        gain=255,
    ),
    Family(
        "BasicSR",
        "msrresnet",
        {
            "head": "conv_first",
            "block_{i}.first": "body.{i}.conv1",
            "block_{i}.last": "body.{i}.conv2",
            "up_{k}": "upconv{k1}",
            "detail": "conv_hr",
            "tail": "conv_last",
        },
    ),
    Family(
        "SRCNN-pytorch (yjn870)",
        "srcnn",
        {"extract": "conv1", "map": "conv2", "reconstruct": "conv3"},
        luma="luma_studio",
    ),
    Family(
        "pytorch-srcnn (khanu263)",
        "srcnn",
        {"extract": "patch_ex", "map": "nl_mapping", "reconstruct": "reconstruction"},
    ),
    Family(
        "RDN-pytorch (yjn870) or torchSR",
        "rdn",
        {
            "shallow_0": "sfe1",
            "shallow_1": "sfe2",
            "block_{i}.conv_{j}": "rdbs.{i}.layers.{j}.conv",
            "block_{i}.fuse": "rdbs.{i}.lff",
            "fuse_0": "gff.0",
            "fuse_1": "gff.1",
            "up_{k}": "upscale.{k2}",
            "tail": "output",
        },
    ),
    Family(
        "EDSR-PyTorch",
        "rdn",
        {
            "shallow_0": "SFENet1",
            "shallow_1": "SFENet2",
            "block_{i}.conv_{j}": "RDBs.{i}.convs.{j}.conv.0",
            "block_{i}.fuse": "RDBs.{i}.LFF",
            "fuse_0": "GFF.0",
            "fuse_1": "GFF.1",
            "up_{k}": "UPNet.{k2}",
            "tail": "UPNet.{s2}",
        },
        gain=255,
    ),
    Family(
        "image-super-resolution (idealo)",
        "rdn",
        {
            "shallow_0": "F_m1",
            "shallow_1": "F_0",
            "block_{i}.conv_{j}": "F_{i1}_{j1}",
            "block_{i}.fuse": "LFF_{i1}",
            "fuse_0": "GFF_1",
            "fuse_1": "GFF_2",
            "up_0": "UPN1",
            "up_1": "UPN2",
            "up_2": "UPN3",
            "tail": "SR",
        },
        torch=False,
    ),
)

# What other files seem to be, by a part of one of their names.
_OTHERS = {
    r"\brdb\d\.conv\d|RDB\d\.conv\d": "an RRDBNet, such as ESRGAN's or Real-ESRGAN's",
    r"relative_position|\battn\b|attention": "a transformer, such as SwinIR",
    r"conv_du\b": "an RCAN",
    r"running_mean|moving_mean|prelu|alpha$": "a network with batch norm or PReLU, such as SRGAN's generator",
    r"features\.\d+\.weight|classifier": "a classifier, such as VGG19",
}


def family_of(layers: Collection[str], *, torch: bool) -> tuple[Family, Counts] | None:
    """The project that calls most of its convolutions so, and how many there are of each kind.

    Args:
        layers: the names of a file's layers that have a kernel or a bias.
        torch: whether the file is of PyTorch.

    Returns:
        None where fewer than half of the names are those of any project.
    """
    best, found = 0, None
    for family in FAMILIES:
        if family.torch != torch:
            continue
        seen = {part: _matches(theirs, layers) for part, theirs in family.parts.items()}
        named = set().union(*(names for names, _ in seen.values()))
        # A part that is not there at all tells for another project.
        score = len(named) - sum(not names for names, _ in seen.values())
        if score > best and 2 * len(named) >= len(layers):
            highest = {letter: max([count.get(letter, 0) for _, count in seen.values()]) for letter in "ijk"}
            stages = highest["k"] - ("{s2}" in "".join(family.parts.values()))  # the tail is counted, too
            limit = len(layers)
            blocks, layers_each = min(highest["i"], limit), min(highest["j"], limit)
            best, found = score, (family, Counts(blocks, layers_each, min(stages, limit)))
    return found


def what_it_seems(names: Collection[str]) -> str:
    """What a file of these tensors seems to be, for people."""
    for pattern, what in _OTHERS.items():
        if any(re.search(pattern, name) for name in names):
            return what
    return ""


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>\\d{1,4})", re.escape(template)))


def _matches(template: str, layers: Collection[str]) -> tuple[set[str], dict[str, int]]:
    """The layers that a name in a table stands for, and how many blocks, layers and stages they speak of."""
    names, counts = set(), {}
    for layer in layers:
        if match := _pattern(template).fullmatch(layer):
            names.add(layer)
            for key, text in match.groupdict().items():
                value = int(text)
                count = {"1": value, "2": value // 2 + 1}.get(key[1:], value + 1)
                counts[key[0]] = max(counts.get(key[0], 0), count)
    return names, counts
