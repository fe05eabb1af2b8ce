"""The paper's comparisons: which runs they are, that they resume, and what is said of their results."""

import json
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image

from tests.tiny import read_json, tiny_config
from wdsr_jax import reproduce
from wdsr_jax.errors import UserError
from wdsr_jax.evaluation.examples import examples_of_folder
from wdsr_jax.experiments import plots, runs
from wdsr_jax.experiments.report import write_report
from wdsr_jax.training.config import read_config

pytest.importorskip("matplotlib")


# Which runs


def differences(planned):
    """The keys in which the configs of runs differ."""
    flat = [
        {
            f"{section}.{key}": value
            for section, keys in run.config.to_dict().items()
            for key, value in keys.items()
        }
        for run in planned
    ]
    return {key for key in flat[0] if len({str(config[key]) for config in flat}) > 1}


@pytest.mark.parametrize(("budget", "seeds", "count"), [("full", 1, 15), ("cpu", 3, 18)])
def test_blocks_differ_in_the_network_alone(budget, seeds, count):
    planned = runs.plan("blocks", budget, seeds, read_config(f"configs/paper.py:{budget}"))
    assert len({run.folder for run in planned}) == len(planned) == count
    network = {"model.name", "model.filters", "model.expansion", "model.blocks"}
    assert differences(planned) == network | ({"train.seed"} if seeds > 1 else set())
    assert {run.config.model.norm for run in planned} == {"weight"}
    assert [run.seed for run in planned] == sorted(run.seed for run in planned)
    assert {run.level for run in planned} == ({1, 3} if budget == "cpu" else {1, 3, 5, 8, 16})


@pytest.mark.parametrize(("budget", "seeds", "count"), [("full", 1, 6), ("cpu", 2, 12)])
def test_norms_differ_in_norm_and_rate_alone(budget, seeds, count):
    planned = runs.plan("norms", budget, seeds, read_config(f"configs/paper.py:{budget}"))
    assert len({run.folder for run in planned}) == len(planned) == count
    differ = {"model.norm", "train.learning_rate"}
    assert differences(planned) == differ | ({"train.seed"} if seeds > 1 else set())
    assert {(run.config.model.norm, run.config.train.learning_rate) for run in planned} == {
        (norm, rate) for norm in ("weight", "batch", "none") for rate in (1e-4, 1e-3)
    }


# Making them


@pytest.fixture
def tiny(photos, image_cache, monkeypatch):
    """Runs of seconds: two networks of a block of 4 filters, one seed."""
    networks = {
        "EDSR": dict(name="edsr", filters=4),
        "WDSR-A": dict(name="wdsr_a", filters=4, expansion=2),
    }
    monkeypatch.setattr(runs, "_NETWORKS", networks)
    monkeypatch.setattr(runs, "_BLOCKS", {"cpu": (1,)})
    return runs.plan("blocks", "cpu", 1, tiny_config(photos, image_cache))


@pytest.mark.usefixtures("compile_cache")
@pytest.mark.slow
def test_stopped_runs_go_on_and_finished_ones_are_not_made_again(tiny, tmp_path, monkeypatch, capsys):
    train = runs.train_and_evaluate
    made = []

    def once(config, workdir):
        made.append(workdir.name)
        return 143 if len(made) == 2 else train(config, workdir)

    monkeypatch.setattr(runs, "train_and_evaluate", once)
    for code in (143, 0, 0):
        assert runs.perform_all("blocks", "cpu", tiny, tmp_path, tmp_path / "out", {}) == code
        assert len(read_json(tmp_path / "out/blocks.json")) == (1 if code else 2)
    assert made == ["edsr-1-seed0", "wdsr-a-1-seed0", "wdsr-a-1-seed0"]
    assert "100% of all runs" in capsys.readouterr().err

    result = read_json(tmp_path / "runs/edsr-1-seed0/result.json")
    assert [step for step, _ in result["validation_psnr"]] == [3, 6]
    assert [step for step, _ in result["loss"]] == [1, 2, 3, 4, 5, 6]
    evaluation = read_json(tmp_path / "runs/edsr-1-seed0/evaluation.json")["validation"]
    assert result["scores"] == {"validation": {who: evaluation[who] for who in ("bicubic", "model")}}

    # A set that was not measured is, of the weights there are.
    sets = {"more": examples_of_folder(tiny[0].config.data.root, 2)}
    monkeypatch.setattr(runs, "train_and_evaluate", train)
    assert runs.perform_all("blocks", "cpu", tiny, tmp_path, tmp_path, sets) == 0
    for run in tiny:
        assert read_json(tmp_path / "runs" / run.folder / "result.json")["scores"]["more"]["model"]["psnr_y"]
    assert "more, Y" in (tmp_path / "blocks.md").read_text()


def test_another_config_is_refused_and_damage_is_named(tiny, tmp_path):
    run = tiny[0]
    folder = tmp_path / "runs" / run.folder
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps({"diverged_at_step": 1}))
    (folder / "config.json").write_text(json.dumps(run.config.to_dict()))
    assert runs.finished(tmp_path, run, {})
    changed = run.config.to_dict()
    changed["train"]["steps"] = 7
    (folder / "config.json").write_text(json.dumps(changed))
    with pytest.raises(UserError, match=r"holds a run with another config: train\.steps"):
        runs.finished(tmp_path, run, {})
    (folder / "result.json").write_text("{")
    with pytest.raises(UserError, match=r"result\.json: damaged"):
        runs.finished(tmp_path, run, {})


@pytest.mark.ci
@pytest.mark.usefixtures("compile_cache")
def test_divergence_is_a_result(tiny, tmp_path):
    run = tiny[1]
    with run.config.unlocked():
        run.config.train.update(learning_rate=1e30, max_skipped=2, steps=50, eval_every=50, warmup_steps=0)
    assert runs.perform(run, tmp_path, {}) == 0
    result = read_json(tmp_path / "result.json")
    assert result["diverged_at_step"] >= 3 and result["scores"] == {}
    assert "1 of 1 diverged" in write_report("blocks", "cpu", [result], 1, tmp_path)


def test_other_mistakes_are_not_divergence(tiny, tmp_path, monkeypatch):
    def fail(config, workdir):
        raise UserError("disk full")

    monkeypatch.setattr(runs, "train_and_evaluate", fail)
    with pytest.raises(UserError, match="disk full"):
        runs.perform(tiny[0], tmp_path, {})
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("blocks --budget=cpu", "the following arguments are required: --workdir"),
        ("both --budget=cpu --workdir=w", "invalid choice: 'both'"),
        ("blocks --budget=cpu --workdir=w --seeds=0", "--seeds must be a whole number from 1 up, not 0"),
        ("blocks --budget=cpu --workdir=w --config.train.step=3", "did you mean config.train.steps"),
        ("blocks --budget=cpu --workdir=w --sets none", "none"),
        ("blocks --budget=cpu --workdir=w --config.data.source=folder", "config.data.root is empty"),
        ("blocks --budget=cpu --workdir=w --config=none.py", "there is no file none.py"),
    ],
)
def test_mistakes_are_one_line_before_all_work(arguments, message, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["reproduce", *arguments.replace("=w", f"={tmp_path}/w").split()])
    monkeypatch.setattr(reproduce.signal, "signal", lambda *_: None)
    with pytest.raises(UserError) as error:
        reproduce.main()
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "w").exists()


# What is said of the results


def result(variant, level, seed, psnr, diverged=None, experiment="blocks"):
    score = {"psnr_y": psnr + 2, "psnr_rgb": psnr}
    bicubic = {"psnr_y": 32.5, "psnr_rgb": 31.0}
    curve = [[100, psnr - 1], [200, psnr]]
    return {
        "variant": variant,
        "level": level,
        "seed": seed,
        "parameters": 79_380,
        "multiply_adds": 18.2e9,
        "diverged_at_step": diverged,
        "scores": {} if diverged else {"validation": {"bicubic": bicubic, "model": score}},
        "loss": [[step, 1 / step] for step in range(1, 201)],
        "validation_psnr": [] if diverged else curve,
        "config": read_config("configs/paper.py:cpu").to_dict(),
    }


def rows(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"]


@pytest.mark.ci
def test_blocks_are_said_to_differ_where_no_seeds_overlap(tmp_path):
    measured = {"EDSR": (33.0, 33.1, 33.2), "WDSR-A": (33.3, 33.4, 33.5), "WDSR-B": (33.35, 33.2, 33.05)}
    results = [
        result(variant, 1, seed, psnr)
        for variant, seeds in measured.items()
        for seed, psnr in enumerate(seeds)
    ]
    text = write_report("blocks", "cpu", results, 18, tmp_path)
    assert "9 of 18 runs." in text and "seeds 0, 1, 2" in " ".join(text.split())
    table = rows(text)
    assert table[3][:4] == ["EDSR", "1", "79,380", "18.2"]
    assert table[3][5:] == ["33.100 ± 0.100", "35.100 ± 0.100", "33.210"]
    assert table[2][5:] == ["31.00", "32.50", ""]
    differences = {row[0]: row[1:] for row in table if " - " in row[0]}
    assert differences["WDSR-A - EDSR"] == ["1", *["+0.300, beyond the spread"] * 2, "+0.113"]
    assert differences["WDSR-B - EDSR"] == ["1", *["+0.100, within the spread"] * 2, "+0.224"]
    assert differences["WDSR-B - WDSR-A"] == ["1", *["-0.200, within the spread"] * 2, "+0.111"]
    assert "2 of 3 differences have the paper's sign, 1 of them beyond the spread" in text
    assert max(len(line) for line in text.splitlines() if line[:1] != "|") <= 120

    for name in ("blocks_curves", "blocks_cost"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 400
        assert ElementTree.parse(tmp_path / f"{name}.svg").getroot().tag.endswith("svg")
        assert f"({name}.png)" in text
    before = (tmp_path / "blocks_cost.svg").read_bytes()
    assert write_report("blocks", "cpu", results, 18, tmp_path) == text
    assert (tmp_path / "blocks_cost.svg").read_bytes() == before
    assert text.splitlines()[2].startswith("Made by `python -m wdsr_jax.reproduce blocks --budget=cpu`: 9 of")

    saved = read_json(tmp_path / "blocks.json")
    for entry in results:
        for key in ("root", "val_root", "cache_dir"):  # which are of no use elsewhere
            del entry["config"]["data"][key]
    assert saved == json.loads(json.dumps(results))


def test_norms_show_divergence_and_a_single_seed_has_no_spread(tmp_path):
    results = [
        result("weight norm", 1e-3, 0, 34.0),
        result("batch norm", 1e-3, 0, 33.0),
        result("no norm", 1e-3, 0, 30.0, diverged=150),
        result("weight norm", 1e-4, 0, 33.0),
        result("no norm", 1e-4, 0, 33.5),
    ]
    results[1]["validation_psnr"] = [[100, 33.0], [200, 20.0]]  # it had been good
    text = write_report("norms", "cpu", results, 6, tmp_path)
    table = rows(text)
    assert [row[0] for row in table[3:8]] == [
        *("weight norm", "no norm", "weight norm"),
        *("batch norm (1 of 1 diverged)", "no norm (1 of 1 diverged)"),
    ]
    assert table[7][5:] == ["-", "-"]
    differences = {(row[0], row[1]): row[2:] for row in table if " - " in row[0]}
    assert differences == {
        ("weight norm - batch norm", "0.001"): ["+1.000", "+1.000"],
        ("weight norm - no norm", "0.001"): ["-", "-"],
        ("weight norm - no norm", "0.0001"): ["-0.500", "-0.500"],
    }
    assert "the paper" not in table[0]
    assert (tmp_path / "norms_curves.png").exists() and (tmp_path / "norms_curves.svg").exists()


def test_the_window_of_psnr_has_the_end_of_every_curve_but_of_those_that_diverged():
    def run(*psnr, diverged=None):
        return [dict(loss=[[1, 0.1]], validation_psnr=list(enumerate(psnr)), diverged_at_step=diverged)]

    def bottom(**runs):
        groups = {(1.0, name): run for name, run in runs.items()}
        return plots._curves("norms", groups).axes[1].get_ylim()[0]

    assert bottom(weight=run(20, 33), batch=run(25, 32)) == 29  # 4 dB below the best
    assert bottom(weight=run(20, 33), batch=run(12, 28)) == 27.5
    assert bottom(weight=run(20, 33), batch=run(12, 28, diverged=2)) == 29
    assert bottom(weight=run(12, 28, diverged=2)) == 24
