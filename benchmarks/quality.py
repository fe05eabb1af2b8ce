"""Shipped weights and bicubic on benchmark sets, beside published figures, with what the networks cost.

python -m benchmarks quality --sets DIR [DIR ...] [--out=docs/benchmarks.md] [--quick]

DIR is a set, such as Set5 with its folders image_SRF_2 to image_SRF_4, or a folder of HR images; any of
Set5, Set14, B100, Urban100 and DIV2K's validation images have published figures beside them. Writes a page
in Markdown and a picture of the same name; needs matplotlib (the extra `plot`).
"""

import functools
import io
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import wdsr_jax
from benchmarks import networks, published
from benchmarks.report import machine
from wdsr_jax.data.names import set_name
from wdsr_jax.errors import UserError
from wdsr_jax.evaluation.benchmark import evaluate
from wdsr_jax.evaluation.examples import examples_of_folder
from wdsr_jax.experiments.plots import check_plots
from wdsr_jax.inference.network import apply_padded, compiler_options, fold_for_inference
from wdsr_jax.models.cost import multiply_adds, parameters
from wdsr_jax.system.console import ArgumentParser
from wdsr_jax.system.files import write_whole
from wdsr_jax.system.tables import markdown_table
from wdsr_jax.training.step import init_params

Scores = Mapping[str, float | None]
_PROTOCOLS = {"y": ("psnr_y", "ssim_y"), "RGB": ("psnr_rgb", "ssim_ntire")}
# By the start of a folder's name in small letters.
_NAMES = {
    "set5": "Set5",
    "set14": "Set14",
    "b100": "B100",
    "bsd": "B100",
    "urban": "Urban100",
    "div2k": "DIV2K",
}


class Row(NamedTuple):
    """A way to upscale.

    Attributes:
        name: shipped name, or the network's.
        scale: by which it upscales.
        scores: by set.
        seconds: for a megapixel of LR, on this machine.
        parameters: trained scalars; None for bicubic.
        multiply_adds: for an output of 1280x720; None for bicubic.
        source: where the scores were published; empty for those measured here.
    """

    name: str
    scale: int
    scores: Mapping[str, Scores]
    seconds: float
    parameters: int | None = None
    multiply_adds: float | None = None
    source: str = ""


def main(arguments: Sequence[str]) -> None:
    """The command line, see the module's docstring; UserError where something is wrong."""
    parser = ArgumentParser(prog="python -m benchmarks quality", description=str(__doc__).splitlines()[0])
    parser.add_argument("--sets", nargs="+", required=True, metavar="DIR", help="such as Set5 Set14")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"), help="Markdown file")
    parser.add_argument("--quick", action="store_true", help="time small images: to see that it works")
    options = parser.parse_args(arguments)
    if missing := [folder for folder in options.sets if not os.path.isdir(folder)]:
        raise UserError(f"--sets: there is no folder {missing[0]}")
    check_plots()
    load, side = os.getloadavg()[0], 16 if options.quick else 96
    rows = []
    for row in measure(options.sets, side, seconds=0 if options.quick else 3):
        print(f"x{row.scale} {row.name}: {row.seconds:.3g} s/MP", flush=True)
        rows.append(row)
    picture = options.out.with_suffix(".png")
    write_whole(picture, draw(rows))
    sets = [set_of(folder) for folder in options.sets]
    write_whole(options.out, page(rows, sets, picture.name, side=side, load=load).encode())


def set_of(folder: str) -> str:
    """The name of a set by its folder, as the papers have it where it is theirs."""
    name = set_name(folder)
    return next((known for start, known in _NAMES.items() if name.lower().startswith(start)), name)


def measure(folders: Sequence[str], side: int, seconds: float) -> Iterator[Row]:
    """Bicubic, the shipped weights and the published networks at each scale, the smaller ones first.

    Args:
        folders: one for each set.
        side: of the square image that is timed, in LR pixels.
        seconds: for which each is timed.
    """
    shipped = {name: wdsr_jax.load_pretrained(name) for name in wdsr_jax.list_pretrained()}
    lr = networks.draw_image(side, side)
    for scale in published.SCALES:
        sets = {set_of(folder): examples_of_folder(_at_scale(folder, scale), scale) for folder in folders}
        results = {name: evaluate(examples, scale, label=name) for name, examples in sets.items()}
        image = np.uint8(lr[0] * 255)
        taken = time_call(lambda image=image, scale=scale: wdsr_jax.imresize(image, scale), lr, seconds)
        yield Row("bicubic", scale, {name: result["bicubic"] for name, result in results.items()}, taken)
        known = published.PUBLISHED["bicubic"]
        yield Row("bicubic", scale, published.scores(known.figures, scale), taken, source=known.source)
        of_scale = {name: network for name, network in shipped.items() if network[0].scale == scale}
        for name, (module, params) in sorted(of_scale.items(), key=lambda item: parameters(item[1][0])):
            scores = {
                key: evaluate(examples, scale, module, params, bicubic=False, label=f"{name}, {key}")["model"]
                for key, examples in sets.items()
            }
            taken = time_network(module, params, lr, seconds)
            yield Row(name, scale, scores, taken, parameters(module), multiply_adds(module))
        for name, known in published.PUBLISHED.items():
            if known.model:
                module = wdsr_jax.create_model({**known.model, "scale": scale})
                taken = time_network(module, init_params(module, 0), lr, seconds)
                scores = published.scores(known.figures, scale)
                yield Row(name, scale, scores, taken, parameters(module), multiply_adds(module), known.source)


def _at_scale(folder: str, scale: int) -> str:
    """The part of a set for a scale, where it has such parts."""
    part = os.path.join(folder, f"image_SRF_{scale}")
    return part if os.path.isdir(part) else folder


def time_network(module: Any, params: Any, lr: np.ndarray, seconds: float) -> float:
    """Seconds for a megapixel of LR, as `wdsr_jax.upscale` applies the network to a tile, in float32."""
    module, params = fold_for_inference(module, params)
    apply = jax.jit(functools.partial(apply_padded, module), compiler_options=compiler_options())
    lr = jax.device_put(lr)
    return time_call(lambda: apply(params, lr).block_until_ready(), lr, seconds)


def time_call(call: Callable[[], Any], lr: Any, seconds: float) -> float:
    """The median time of calls on `lr`, in seconds for a megapixel; the first one is not counted."""
    call()
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) / (lr.shape[1] * lr.shape[2] / 1e6)


def page(rows: Sequence[Row], sets: Sequence[str], picture: str, *, side: int, load: float) -> str:
    """The page in Markdown.

    Args:
        rows: of `measure`.
        sets: the names of those measured.
        picture: its file.
        side: as for `measure`.
        load: of the machine, before.
    """
    about = machine(os.cpu_count() or 1)
    where = (
        f"{about['processor']}, {about['cores']} cores"
        if jax.default_backend() == "cpu"
        else about["devices"][0]
    )
    sources = dict.fromkeys(row.source for row in rows if row.source)
    notes = "\n".join(f"- ({i}) {source}" for i, source in enumerate(sources, 1))
    marks = {source: f" ({i})" for i, source in enumerate(sources, 1)}
    tables = "\n\n".join(
        f"## x{scale}\n\n{table([row for row in rows if row.scale == scale], marks)}"
        for scale in published.SCALES
    )
    return f"""# Benchmarks

`python -m benchmarks quality --sets {" ".join(sets)}` wrote this page and its picture: the weights that ship
with the package and bicubic, as measured, beside published figures.

![PSNR-Y on {sets[0]} against seconds for a megapixel, at each scale]({picture})

{tables}

Scores are PSNR in dB / SSIM by the protocols of `evaluate`: `y` is luma with `scale` pixels shaved, `RGB` is
`ntire`, with `scale + 6` shaved. Multiply-adds, in G, are for an output of 1280x720. A row with a number
in brackets quotes:

{notes}

- `s/MP` are seconds for a megapixel of LR on {where}, in float32,
  with JAX {about["versions"]["jax"]}: the median over calls on an image of {side}x{side}, also of the
  published networks, as this package computes them. The load average before was {load:.1f}.
- The published figures of Set14 come from other files than the widespread `image_SRF` folders. In these
  some images are grey, and some of their files have one channel: they count as R = G = B.
- Weights named `photo` are for LR that is blurred, noisy or compressed. LR of these sets is by bicubic.
"""


def table(rows: Sequence[Row], marks: Mapping[str, str]) -> str:
    """The rows of one scale in Markdown; `marks` follow the names of those that were published."""
    names = dict.fromkeys(name for row in rows for name in row.scores)
    columns = [
        (name, protocol, keys)
        for name in names
        for protocol, keys in _PROTOCOLS.items()
        if any(row.scores.get(name, {}).get(keys[0]) is not None for row in rows)
    ]
    lines = [
        [
            row.name + marks.get(row.source, ""),
            "" if row.parameters is None else f"{row.parameters:,}",
            "" if row.multiply_adds is None else f"{row.multiply_adds / 1e9:,.1f}",
            f"{row.seconds:,.0f}" if row.seconds >= 100 else f"{row.seconds:.3g}",
            *(_cell(row.scores.get(name, {}), *keys) for name, _, keys in columns),
        ]
        for row in rows
    ]
    head = ["network", "parameters", "multiply-adds", "s/MP", *(f"{name} {p}" for name, p, _ in columns)]
    return markdown_table(head, lines)


def _cell(scores: Scores, psnr: str, ssim: str) -> str:
    values = scores.get(psnr), scores.get(ssim)
    return " / ".join(
        form.format(v) for v, form in zip(values, ("{:.2f}", "{:.4f}"), strict=True) if v is not None
    )


# Offset of a label from its point, and which side of the label is there.
_PLACES = (
    *(((0, -7), "center", "top"), ((0, 7), "center", "bottom")),
    *(((-8, 0), "right", "center"), ((8, 0), "left", "center")),
    ((0, -21), "center", "top"),
)


def _label(axis: Any, name: str, point: tuple[float, float], taken: list[Any]) -> None:
    """Writes a name beside a point, where nothing is yet, and adds the box that it takes."""
    for place in _PLACES:
        offset, horizontal, vertical = place
        style: dict[str, Any] = dict(textcoords="offset points", fontsize="small")
        label = axis.annotate(name, point, offset, ha=horizontal, va=vertical, **style)
        box = label.get_window_extent()
        if place == _PLACES[-1] or not any(box.overlaps(other) for other in taken):
            taken.append(box)
            return
        label.remove()


def draw(rows: Sequence[Row]) -> bytes:
    """A PNG: PSNR-Y on the first set measured against seconds for a megapixel, a panel a scale."""
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

    first = next(iter(next(row for row in rows if not row.source).scores))
    figure = Figure(figsize=(15, 5.5), layout="constrained")
    for axis, scale in zip(figure.subplots(1, 3), published.SCALES, strict=True):
        points: dict[tuple[float, float], str] = {}
        for row in rows:
            psnr = row.scores.get(first, {}).get("psnr_y")
            if row.scale != scale or psnr is None or (row.name == "bicubic" and row.source):
                continue
            colour, fill = ("tab:gray", "none") if row.source else ("tab:blue", "full")
            axis.plot(row.seconds, psnr, "o", color=colour, fillstyle=fill)
            points[row.seconds, psnr] = row.name
        axis.set(xscale="log", title=f"x{scale}", xlabel="seconds for a megapixel of LR")
        axis.margins(x=0.25, y=0.1)
        axis.grid(alpha=0.3)
        figure.draw_without_rendering()  # lays it out: now it is known where the points are
        taken = [Bbox.from_extents(*(xy - 4), *(xy + 4)) for xy in axis.transData.transform([*points])]
        for point, name in points.items():
            _label(axis, name, point, taken)
    figure.axes[0].set_ylabel(f"PSNR-Y on {first}, dB")
    figure.suptitle(
        "filled: measured, weights that ship and bicubic; hollow: published, timed here", fontsize="medium"
    )
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
