"""Published figures of networks of this package, to stand beside measured ones."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from wdsr_jax.models.cost import PUBLISHED as NETWORKS

SCALES = (2, 3, 4)
# PSNR in dB, or PSNR and SSIM, at x2, x3 and x4.
Figures = Sequence[float | tuple[float, float]]


class Published(NamedTuple):
    """What a paper says of a network.

    Attributes:
        source: where.
        model: the network, as `config.model` has it, but for the scale; None for bicubic.
        figures: by set; those of DIV2K's validation images by protocol `ntire`, all others by `y`.
    """

    source: str
    model: Mapping[str, Any] | None
    figures: Mapping[str, Figures]


_EDSR = "[EDSR](https://arxiv.org/abs/1707.02921), table 3"
_EDSR_CODE = "[EDSR-PyTorch](https://github.com/sanghyun-son/EDSR-PyTorch)"
_WDSR_CODE = "[the code of WDSR's authors](https://github.com/JiahuiYu/wdsr_ntire2018)"
_RDN = "[RDN](https://arxiv.org/abs/1802.08797), table 2"

PUBLISHED = {
    "bicubic": Published(
        _EDSR,
        None,
        {
            "Set5": ((33.66, 0.9299), (30.39, 0.8682), (28.42, 0.8104)),
            "Set14": ((30.24, 0.8688), (27.55, 0.7742), (26.00, 0.7027)),
            "B100": ((29.56, 0.8431), (27.21, 0.7385), (25.96, 0.6675)),
            "Urban100": ((26.88, 0.8403), (24.46, 0.7349), (23.14, 0.6577)),
            "DIV2K": ((31.01, 0.9393), (28.22, 0.8906), (26.66, 0.8521)),
        },
    ),
    "SRCNN 9-5-5": Published(
        _EDSR,
        NETWORKS["SRCNN 9-5-5"] | {"channels": "luma_studio"},
        {
            "Set5": ((36.66, 0.9542), (32.75, 0.9090), (30.48, 0.8628)),
            "Set14": ((32.42, 0.9063), (29.28, 0.8209), (27.49, 0.7503)),
            "B100": ((31.36, 0.8879), (28.41, 0.7863), (26.90, 0.7101)),
            "Urban100": ((29.50, 0.8946), (26.24, 0.7989), (24.52, 0.7221)),
            "DIV2K": ((33.05, 0.9581), (29.64, 0.9138), (27.78, 0.8753)),
        },
    ),
    "WDSR-A 16x32": Published(
        _WDSR_CODE,
        NETWORKS["WDSR-A 16x32"],
        {
            "Set5": (38.08, 34.45, 32.22),
            "B100": (32.23, 29.14, 27.61),
            "Urban100": (32.34, 28.33, 26.21),
            "DIV2K": (34.76, 31.03, 29.04),
        },
    ),
    "EDSR baseline": Published(_EDSR_CODE, NETWORKS["EDSR baseline"], {"DIV2K": (34.61, 30.92, 28.95)}),
    "RDN 16x8": Published(
        _RDN,
        NETWORKS["RDN 16x8"],
        {
            "Set5": ((38.24, 0.9614), (34.71, 0.9296), (32.47, 0.8990)),
            "Set14": ((34.01, 0.9212), (30.57, 0.8468), (28.81, 0.7871)),
            "B100": ((32.34, 0.9017), (29.26, 0.8093), (27.72, 0.7419)),
            "Urban100": ((32.89, 0.9353), (28.80, 0.8653), (26.61, 0.8028)),
        },
    ),
    "WDSR-A 32x128": Published(
        _WDSR_CODE,
        NETWORKS["WDSR-A 32x128"],
        {
            "Set5": (38.28, 34.76, 32.58),
            "B100": (32.38, 29.32, 27.78),
            "Urban100": (33.07, 28.94, 26.79),
            "DIV2K": (35.06, 31.34, 29.33),
        },
    ),
    "EDSR": Published(
        _EDSR,
        NETWORKS["EDSR"],
        {
            "Set5": ((38.11, 0.9601), (34.65, 0.9282), (32.46, 0.8968)),
            "Set14": ((33.92, 0.9195), (30.52, 0.8462), (28.80, 0.7876)),
            "B100": ((32.32, 0.9013), (29.25, 0.8093), (27.71, 0.7420)),
            "Urban100": ((32.93, 0.9351), (28.80, 0.8653), (26.64, 0.8033)),
            "DIV2K": ((35.03, 0.9695), (31.26, 0.9340), (29.25, 0.9017)),
        },
    ),
}


def scores(figures: Mapping[str, Figures], scale: int) -> dict[str, dict[str, float]]:
    """The figures at one scale, by set, with the keys of `wdsr_jax.evaluation.benchmark`."""
    found = {}
    for name, values in figures.items():
        value = values[SCALES.index(scale)]
        psnr, ssim = ("psnr_rgb", "ssim_ntire") if name == "DIV2K" else ("psnr_y", "ssim_y")
        found[name] = {psnr: value[0], ssim: value[1]} if isinstance(value, tuple) else {psnr: value}
    return found
