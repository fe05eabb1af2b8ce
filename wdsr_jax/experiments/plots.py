"""The plots of `reproduce`, as PNG and SVG; needs matplotlib (the extra `plot`)."""

import importlib.util
import io
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from wdsr_jax.errors import UserError

_COLOURS = ("tab:gray", "tab:blue", "tab:red")
_DASHES = ("-", "--", ":", "-.", (0, (1, 3)))
_RANGE = 4.0  # dB shown below the best: where training starts, or diverges to, would flatten all the rest
_MARGIN = 0.5  # dB shown below the best of the lowest curve that did not diverge


def check_plots() -> None:
    """Raises UserError where the plots could not be made."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("the plots need matplotlib: pip install -e '.[plot]'")


def draw(
    experiment: str,
    groups: Mapping[tuple[float, str], Sequence[dict[str, Any]]],
    paper: Mapping[str, Mapping[float, float]],
) -> dict[str, dict[str, bytes]]:
    """The figures of an experiment.

    Args:
        experiment: `blocks` or `norms`.
        groups: results (see `runs.perform`) by level and variant, one a seed.
        paper: PSNR that the paper has, by variant and level.

    Returns:
        By name of the figure, then by `png` and `svg`: the file.
    """
    figures = {f"{experiment}_curves": _curves(experiment, groups)}
    if experiment == "blocks":
        figures["blocks_cost"] = _cost(groups, paper)
    return {
        name: {kind: _encoded(figure, kind) for kind in ("png", "svg")} for name, figure in figures.items()
    }


def _encoded(figure: Any, kind: str) -> bytes:
    import matplotlib

    file = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "wdsr_jax"}):  # the same file from the same data
        figure.savefig(file, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()


def _figure(rows: int, columns: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * columns, 4.2 * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _curves(experiment: str, groups: Mapping) -> Any:
    """Training loss and validation PSNR by step: mean and range over seeds, a cross where a run diverged."""
    figure, axes = _figure(1, 2)
    variants = list(dict.fromkeys(variant for _, variant in groups))
    levels = list(dict.fromkeys(level for level, _ in groups))
    for axis, key in zip(axes[0], ("loss", "validation_psnr"), strict=True):
        best, sound = [], []  # of each curve the best, and of those that did not diverge
        for (level, variant), group in groups.items():
            style = dict(
                color=_COLOURS[variants.index(variant)], linestyle=_DASHES[levels.index(level) % len(_DASHES)]
            )
            label = f"{variant}, {level:g}" + (_of_blocks(level) if experiment == "blocks" else "")
            by_step: dict[int, list[float]] = {}
            for result in group:
                for step, value in result[key]:
                    by_step.setdefault(step, []).append(value)
                if result["diverged_at_step"] is not None and result[key]:
                    axis.plot(*result[key][-1], "x", color=style["color"], markersize=10)
            steps = sorted(by_step)
            axis.plot(steps, [mean(by_step[step]) for step in steps], label=label, linewidth=1.2, **style)
            bounds = ([bound(by_step[step]) for step in steps] for bound in (min, max))
            axis.fill_between(steps, *bounds, color=style["color"], alpha=0.15, linewidth=0)
            if steps:
                best.append(max(mean(by_step[step]) for step in steps))
                if all(result["diverged_at_step"] is None for result in group):
                    sound.append(best[-1])
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        if key == "loss":
            axis.set_yscale("log")
            axis.set_ylabel("training loss")
        elif best:
            low, high = axis.get_ylim()
            wanted = min([max(best) - _RANGE, *(value - _MARGIN for value in sound)])
            axis.set_ylim(max(low, wanted), high)
            axis.set_ylabel("validation PSNR, RGB, dB")
    axes[0][0].legend(fontsize="small", loc="upper right")
    return figure


def _of_blocks(count: float) -> str:
    return " block" if count == 1 else " blocks"


def _cost(groups: Mapping, paper: Mapping) -> Any:
    """PSNR by parameters and by multiply-adds, a line a network: above as measured, below as in the paper."""
    figure, axes = _figure(2, 2)
    variants = list(dict.fromkeys(variant for _, variant in groups))
    costs = (("parameters", 1e6, "parameters, M"), ("multiply_adds", 1e9, "multiply-adds for 1280x720, G"))
    for column, (cost, unit, label) in enumerate(costs):
        for variant, colour in zip(variants, _COLOURS, strict=False):
            own = {level: group for (level, name), group in groups.items() if name == variant}
            place = {level: group[0][cost] / unit for level, group in own.items()}
            measured = {
                level: [
                    result["scores"]["validation"]["model"]["psnr_rgb"]
                    for result in group
                    if result["scores"]
                ]
                for level, group in own.items()
            }
            measured = {level: psnr for level, psnr in measured.items() if psnr}
            middle = [mean(psnr) for psnr in measured.values()]
            bars = [[m - min(psnr), max(psnr) - m] for m, psnr in zip(middle, measured.values(), strict=True)]
            axes[0][column].errorbar(
                [place[level] for level in measured],
                middle,
                yerr=list(zip(*bars, strict=True)) if bars else None,
                fmt="o-",
                capsize=4,
                color=colour,
                label=variant,
            )
            known = [level for level in own if level in paper[variant]]
            axes[1][column].plot(
                [place[level] for level in known],
                [paper[variant][level] for level in known],
                "o-",
                color=colour,
                label=variant,
            )
            for row, marks in ((0, dict(zip(measured, middle, strict=True))), (1, paper[variant])):
                for level in own:
                    if level in marks:
                        axes[row][column].annotate(
                            f" {level:g}", (place[level], marks[level]), fontsize="small", va="top"
                        )
        for row, title in enumerate(("measured: validation images, range over seeds", "the paper: DIV2K")):
            axes[row][column].set(xlabel=label, ylabel="PSNR, RGB, dB", title=title)
            axes[row][column].grid(alpha=0.3)
    axes[0][0].legend(title="by residual blocks", fontsize="small")
    return figure
