"""The runs of an experiment: which there are, making them one after the other, and what each has measured."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import logging
from ml_collections import ConfigDict
from tqdm import tqdm

from wdsr_jax.errors import UserError
from wdsr_jax.evaluation.benchmark import evaluate
from wdsr_jax.evaluation.examples import Example
from wdsr_jax.experiments.report import write_report
from wdsr_jax.models import create_model
from wdsr_jax.models.cost import multiply_adds, parameters
from wdsr_jax.system.files import read_regular, write_whole
from wdsr_jax.training.config import check_config
from wdsr_jax.training.event_files import read_scalars
from wdsr_jax.training.loop import train_and_evaluate
from wdsr_jax.training.meters import DivergedError
from wdsr_jax.training.workdir import check_workdir
from wdsr_jax.weights.store import load_pretrained

_BLOCKS = {"full": (1, 3, 5, 8, 16), "cpu": (1, 3)}
SEEDS = {"blocks": {"full": 1, "cpu": 3}, "norms": {"full": 1, "cpu": 2}}  # runs that differ in nothing else
_RATES = (1e-4, 1e-3)
# As in the authors' comparison: 0.26M to 0.78M parameters of EDSR, 0.08M to 0.60M of WDSR (1 to 8 blocks).
_NETWORKS = {
    "EDSR": dict(name="edsr", filters=64),
    "WDSR-A": dict(name="wdsr_a", filters=32, expansion=4),
    "WDSR-B": dict(name="wdsr_b", filters=64, expansion=6),
}
_NORMS = {"weight norm": "weight", "batch norm": "batch", "no norm": "none"}
_RESULT = "result.json"


class Run(NamedTuple):
    """One network to train.

    Attributes:
        variant: what is compared, such as `WDSR-A` or `batch norm`.
        level: at which it is compared: number of blocks, or learning rate.
        seed: of the run.
        config: of the run.
    """

    variant: str
    level: float
    seed: int
    config: ConfigDict

    @property
    def model(self) -> Mapping[str, Any]:
        """Its `config.model`."""
        return self.config.to_dict()["model"]

    @property
    def folder(self) -> str:
        """Its name below `runs`."""
        return f"{self.variant}-{self.level:g}-seed{self.seed}".lower().replace(" ", "-")


def plan(experiment: str, budget: str, seeds: int, config: ConfigDict) -> list[Run]:
    """The runs of an experiment, those of the first seed first.

    Args:
        experiment: `blocks` or `norms`.
        budget: `full` or `cpu`, for how many blocks.
        seeds: number of runs that differ in nothing else; they are 0, 1 and so on.
        config: of all the runs, but for what they differ in.
    """
    runs = []
    for seed in range(seeds):
        if experiment == "blocks":
            for blocks in _BLOCKS[budget]:
                for variant, fields in _NETWORKS.items():
                    model = dict(fields, blocks=blocks, norm="weight")
                    runs.append(Run(variant, blocks, seed, _changed(config, model, seed=seed)))
        else:
            for rate in _RATES:
                for variant, norm in _NORMS.items():
                    # Without warm-up, which would help where a rate is too high.
                    train = dict(seed=seed, learning_rate=rate, warmup_steps=0)
                    changed = _changed(config, dict(norm=norm), **train)
                    runs.append(Run(variant, rate, seed, changed))
    return runs


def _changed(config: ConfigDict, model: dict[str, Any], **train: Any) -> ConfigDict:
    changed: Any = config.copy_and_resolve_references().unlock()
    changed.model.update(model)
    changed.train.update(train)
    check_config(changed)
    return changed.lock()


def perform(run: Run, workdir: Path, sets: Mapping[str, Sequence[Example]]) -> int:
    """Trains one network in `workdir`, or goes on with it, and measures it; then it has a `result.json`.

    Args:
        run: which.
        workdir: as of `train_and_evaluate`.
        sets: images to measure on, by the name of their set, beside the validation images.

    Returns:
        0, or 128 + the number of the signal that stopped it.
    """
    diverged = None
    try:
        code = train_and_evaluate(run.config, workdir)
        if code:
            return code
    except DivergedError as error:
        diverged = error.step
        logging.warning("%s: loss not finite at step %d; shown as diverged", workdir.name, diverged)
    scores = {}
    if not diverged:
        scores["validation"] = json.loads(read_regular(workdir / "evaluation.json"))["validation"]
        trained, params = load_pretrained(workdir)
        for name, examples in sets.items():
            scores[name] = evaluate(examples, trained.scale, trained, params, label=name)
    module, curves = create_model(run.model), read_scalars(workdir)
    result = {
        "variant": run.variant,
        "level": run.level,
        "seed": run.seed,
        "parameters": parameters(module),
        "multiply_adds": multiply_adds(module),
        "diverged_at_step": diverged,
        "scores": {name: {who: score[who] for who in ("bicubic", "model")} for name, score in scores.items()},
        "loss": curves.get("train/loss", []),
        "validation_psnr": curves.get("val/psnr_rgb", []),
        "config": run.config.to_dict(),
    }
    write_whole(workdir / _RESULT, (json.dumps(result, indent=1) + "\n").encode())
    return 0


def finished(workdir: Path, run: Run, sets: Collection[str]) -> dict[str, Any] | None:
    """The result of a run; None where it has none yet, or none of one of `sets`.

    Raises:
        UserError: it cannot be read, or is of another config.
    """
    folder = workdir / "runs" / run.folder
    try:
        result = json.loads(read_regular(folder / _RESULT))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError):
        result = None
    if not isinstance(result, dict) or "diverged_at_step" not in result:
        raise UserError(f"{folder / _RESULT}: damaged; delete it to measure that run again") from None
    config = run.config.to_dict()
    config["train"]["resume_changed"] = False  # a result of another config is none of this run
    check_workdir(folder, config, resumes=True)
    is_whole = result["diverged_at_step"] or all(name in result["scores"] for name in sets)
    return result if is_whole else None


def perform_all(
    experiment: str,
    budget: str,
    runs: Sequence[Run],
    workdir: Path,
    out: Path,
    sets: Mapping[str, Sequence[Example]],
) -> int:
    """Makes the runs that have no result yet, and writes the report after each; as `perform` returns.

    Raises:
        UserError: a folder cannot be written or holds a run of another config; and as `train_and_evaluate`.
    """
    results = {run.folder: finished(workdir, run, sets) for run in runs}
    costs = {run.folder: multiply_adds(create_model(run.model)) for run in runs}
    bar = tqdm(
        total=sum(costs.values()),
        initial=sum(costs[name] for name, result in results.items() if result),
        bar_format="{desc}: {percentage:.0f}% of all runs, {elapsed} passed, {remaining} left",
        mininterval=0,
        disable=None,
    )
    with bar:
        for number, run in enumerate(runs, 1):
            if results[run.folder]:
                continue
            bar.set_description_str(f"run {number} of {len(runs)}, {run.folder}")
            if bar.disable:
                logging.info("run %d of %d, %s", number, len(runs), run.folder)
            code = perform(run, workdir / "runs" / run.folder, sets)
            if code:
                return code
            results[run.folder] = finished(workdir, run, sets)
            jax.clear_caches()  # the next run has programs of its own
            bar.update(costs[run.folder])
            write_report(experiment, budget, list(filter(None, results.values())), len(runs), out)
    print(write_report(experiment, budget, list(filter(None, results.values())), len(runs), out))
    return 0
