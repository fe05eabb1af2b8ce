"""The tables of `reproduce`: what was measured, how far seeds differ, and the paper's figures beside."""

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from wdsr_jax.evaluation.benchmark import Scores
from wdsr_jax.experiments import plots
from wdsr_jax.system.files import path_errors, write_whole
from wdsr_jax.system.tables import markdown_table

# PSNR in dB on DIV2K's validation images, x2, by residual blocks (the paper, table 1 of its repository).
PAPER: dict[str, dict[float, float]] = {
    "EDSR": {1: 33.210, 3: 34.043, 5: 34.284, 8: 34.457, 16: 34.61},
    "WDSR-A": {1: 33.323, 3: 34.163, 5: 34.388, 8: 34.541, 16: 34.77},
    "WDSR-B": {1: 33.434, 3: 34.205, 5: 34.409, 8: 34.536},
}
_CLAIMS = {  # what the paper has above what
    "blocks": [("WDSR-A", "EDSR"), ("WDSR-B", "EDSR"), ("WDSR-B", "WDSR-A")],
    "norms": [("weight norm", "batch norm"), ("weight norm", "no norm")],
}
_TITLES = {
    "blocks": "Wide activation: EDSR, WDSR-A and WDSR-B trained alike",
    "norms": "Weight norm, batch norm and none, at two learning rates",
}
_DROP = 3.0  # dB by which a run that ends below its own best has diverged
_FOOTNOTES = f"""
Mean ± standard deviation over seeds. PSNR in dB, RGB with scale + 6 pixels shaved or Y with scale pixels, of
the best weights by validation; training loss is the mean of a run's last tenth. A difference is beyond the
spread where every seed of one is above every seed of the other. The paper's figures are of DIV2K, at its own
budget. Diverged means that the loss stayed non-finite, or that a run ended {_DROP:g} dB below its own best.
"""

Result = dict[str, Any]  # see `runs.perform`
Groups = dict[tuple[float, str], list[Result]]  # by level and variant: the seeds


def write_report(experiment: str, budget: str, results: Sequence[Result], planned: int, out: Path) -> str:
    """Writes EXPERIMENT.md and .json and the plots, PNG and SVG, to `out`.

    Args:
        experiment: `blocks` or `norms`.
        budget: `full` or `cpu`.
        results: of the runs made so far, see `runs.perform`.
        planned: how many runs there will be.
        out: folder.

    Returns:
        The Markdown.

    Raises:
        UserError: the folder cannot be made, or a file not be written.
    """
    with path_errors(out, "cannot be made"):
        out.mkdir(parents=True, exist_ok=True)
    groups: Groups = {}
    for result in sorted(results, key=lambda result: result["level"]):  # stable: variants keep their order
        groups.setdefault((result["level"], result["variant"]), []).append(result)
    command = f"Made by `python -m wdsr_jax.reproduce {experiment} --budget={budget}`: "
    parts = [f"# {_TITLES[experiment]}", textwrap.fill(command + _setting(results, planned), 110)]
    parts += [_scores_table(experiment, groups)]
    parts += [_claims_table(experiment, groups), _FOOTNOTES.strip()]
    for name, files in plots.draw(experiment, groups, PAPER).items():
        for suffix, data in files.items():
            write_whole(out / f"{name}.{suffix}", data)
        parts.append(f"![{name.replace('_', ' ')}]({name}.png)")
    text = "\n\n".join(parts) + "\n"
    write_whole(out / f"{experiment}.md", text.encode())
    lines = ",\n".join(json.dumps(_portable(result)) for result in results)  # one a run
    write_whole(out / f"{experiment}.json", f"[\n{lines}\n]\n".encode())
    return text


def _portable(result: Result) -> Result:
    """Without the paths of the machine that it was made on."""
    data = {
        key: value for key, value in result["config"]["data"].items() if not key.endswith(("root", "dir"))
    }
    return result | {"config": result["config"] | {"data": data}}


def diverged(result: Result) -> bool:
    """Whether the loss stayed non-finite, or the last validation PSNR is far below the run's best."""
    if result["diverged_at_step"] is not None:
        return True
    psnr = [value for _, value in result["validation_psnr"]]
    return psnr[-1] < max(psnr) - _DROP


def values(group: Sequence[Result], name: str, metric: str, who: str = "model") -> list[float]:
    """A score on the set `name`, by seed; of the runs that have it."""
    scores: list[Scores] = [result["scores"].get(name, {}).get(who, {}) for result in group]
    return [value for score in scores if (value := score.get(metric)) is not None]


def _setting(results: Sequence[Result], planned: int) -> str:
    config = results[0]["config"]
    data, train = config["data"], config["train"]
    seeds = sorted({result["seed"] for result in results})
    rates = sorted({result["config"]["train"]["learning_rate"] for result in results})
    patch = f"{data['patch_size']}x{data['patch_size']}"
    return (
        f"{len(results)} of {planned} runs. x{config['model']['scale']}, {train['steps']:,} steps of "
        f"{data['batch_size']} patches of {patch} LR pixels, loss {train['loss']}, Adam at "
        f"{' and '.join(f'{rate:g}' for rate in rates)}, schedule {train['schedule']}, weights averaged by "
        f"{train['ema_decay']:g}; data: {data['source']}; seeds {', '.join(map(str, seeds))}."
    )


def _columns(groups: Groups) -> dict[tuple[str, str], str]:
    """The heading of each score, by set and metric."""
    sets = dict.fromkeys(name for group in groups.values() for result in group for name in result["scores"])
    columns = {("validation", "psnr_rgb"): "validation, RGB", ("validation", "psnr_y"): "validation, Y"}
    return columns | {(name, "psnr_y"): f"{name}, Y" for name in sets if name != "validation"}


def _scores_table(experiment: str, groups: Groups) -> str:
    columns = _columns(groups)
    every = [result for group in groups.values() for result in group]
    level_name = {"blocks": "blocks", "norms": "learning rate"}[experiment]
    head = ["network" if experiment == "blocks" else "norm", level_name, "parameters", "multiply-adds, G"]
    head += ["training loss", *columns.values(), *(["the paper"] if experiment == "blocks" else [])]
    bicubic = [_spread(values(every, *column, who="bicubic")[:1], 2) for column in columns]
    rows = [["bicubic", "", "", "", "", *bicubic, *([""] if experiment == "blocks" else [])]]
    for (level, variant), group in groups.items():
        bad = sum(map(diverged, group))
        note = f" ({bad} of {len(group)} diverged)" if bad else ""
        first = group[0]
        row = [
            variant + note,
            f"{level:g}",
            f"{first['parameters']:,}",
            f"{first['multiply_adds'] / 1e9:.1f}",
        ]
        row.append(_spread([_last_loss(result) for result in group if result["loss"]], 5))
        row += [_spread(values(group, *column), 3) for column in columns]
        if experiment == "blocks":
            paper = PAPER[variant].get(level)
            row.append(f"{paper:.3f}" if paper else "-")
        rows.append(row)
    return markdown_table(head, rows)


def _claims_table(experiment: str, groups: Groups) -> str:
    """The differences that the paper's claims are about, and a sentence that counts them."""
    columns = _columns(groups)
    rows, right, beyond, count = [], 0, 0, 0
    for level in dict.fromkeys(level for level, _ in groups):
        for better, worse in _CLAIMS[experiment]:
            pair = [groups[level, variant] for variant in (better, worse) if (level, variant) in groups]
            if len(pair) < 2:
                continue
            row = [f"{better} - {worse}", f"{level:g}"]
            for column in columns:
                above, below = (values(group, *column) for group in pair)
                row.append(_difference(above, below))
                if column == ("validation", "psnr_rgb") and above and below:
                    count, right = count + 1, right + (mean(above) > mean(below))
                    beyond += len(above) > 1 and len(below) > 1 and min(above) > max(below)
            if experiment == "blocks":
                paper = [PAPER[variant][level] for variant in (better, worse) if level in PAPER[variant]]
                row.append(f"{paper[0] - paper[1]:+.3f}" if len(paper) == 2 else "-")
            rows.append(row)
    level_name = {"blocks": "blocks", "norms": "learning rate"}[experiment]
    head = ["difference", level_name, *columns.values(), *(["the paper"] if experiment == "blocks" else [])]
    sentence = (
        f"By validation PSNR (RGB), {right} of {count} differences have the paper's sign, {beyond} of them "
        "beyond the spread over seeds."
    )
    return f"{markdown_table(head, rows)}\n\n{sentence}"


def _difference(above: Sequence[float], below: Sequence[float]) -> str:
    if not (above and below):
        return "-"
    text = f"{mean(above) - mean(below):+.3f}"
    if min(len(above), len(below)) < 2:
        return text
    apart = min(above) > max(below) or max(above) < min(below)
    return f"{text}, {'beyond' if apart else 'within'} the spread"


def _spread(measured: Sequence[float], digits: int) -> str:
    if not measured:
        return "-"
    text = f"{mean(measured):.{digits}f}"
    return f"{text} ± {stdev(measured):.{digits}f}" if len(measured) > 1 else text


def _last_loss(result: Result) -> float:
    losses = [loss for _, loss in result["loss"]]
    return mean(losses[-max(1, len(losses) // 10) :])
