"""The report at the end of a training run: `evaluation.json`, a table and `before_after.png`."""

import json
from pathlib import Path

import flax.linen as nn
import numpy as np

from wdsr_jax.evaluation.benchmark import evaluate, score_table, super_resolve, write_json
from wdsr_jax.evaluation.examples import Example
from wdsr_jax.image.files import write_image
from wdsr_jax.image.panels import before_after, busiest_crop, side_by_side
from wdsr_jax.inference.tiles import upscale
from wdsr_jax.system import distributed
from wdsr_jax.system.files import read_regular
from wdsr_jax.weights.files import WORKDIR_FILE
from wdsr_jax.weights.store import load_pretrained

_SCORES = "evaluation.json"
_PICTURE = "before_after.png"


def is_reported(workdir: Path) -> bool:
    """Whether the report of the best weights, as they are now, is there and whole."""
    scores, picture, weights = (workdir / name for name in (_SCORES, _PICTURE, WORKDIR_FILE))
    if not (scores.exists() and picture.exists() and weights.exists()):
        return False
    try:
        result = json.loads(scores.read_text("utf-8"))["validation"]
        score_table({"validation": {name: result[name] for name in ("bicubic", "model", "images")}}, 1)
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return False  # damaged: it is made anew
    return scores.stat().st_mtime_ns >= weights.stat().st_mtime_ns


def write_report(workdir: Path, examples: list[Example], network: nn.Module, shift: int = 0) -> None:
    """Evaluates the best weights beside bicubic and writes the scores, and a picture of the first image.

    All processes evaluate, the lead writes.

    Args:
        workdir: of the run.
        examples: its validation images.
        network: that the weights are of.
        shift: as for `evaluate`.

    Raises:
        UserError: a file cannot be read or written.
    """
    distributed.gather(None)  # the lead has written the weights, if only now
    module, params = load_pretrained(workdir, module=network)
    scale = module.scale
    results = {"validation": evaluate(examples, scale, module, params, shift=shift, label="final evaluation")}
    if not distributed.is_lead():
        return
    _, lr, hr, sr = next(super_resolve(module, params, examples[:1]))
    picture = before_after(lr, sr, hr, scale, examples[0].name, type(module).__name__)
    write_image(workdir / _PICTURE, picture)
    write_json(workdir / _SCORES, results)  # last: it says that the report is whole


def print_report(workdir: Path, scale: int) -> None:
    """Prints the table, and where the files of the run are."""
    print(score_table(json.loads(read_regular(workdir / _SCORES)), scale))
    print(f"\nBefore and after: {workdir / _PICTURE}")
    print(f"Scores by image:  {workdir / _SCORES}")
    print(f"Best weights:     {workdir / WORKDIR_FILE}")


def detail(example: Example, module: nn.Module, params) -> np.ndarray:
    """The busiest part of an image beside its HR: uint8 (H, W, 3)."""
    lr, hr = example.load()
    rows, columns = busiest_crop(hr, 48 * module.scale, module.scale)
    small = lr[*(slice(s.start // module.scale, s.stop // module.scale) for s in (rows, columns))]
    panels = [(type(module).__name__, upscale(module, params, small)), ("HR", hr[rows, columns])]
    return side_by_side(panels, width=800)
