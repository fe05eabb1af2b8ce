"""The paper's comparisons: which runs they are, and that they resume."""

import json

import pytest

from tests.tiny import read_json, tiny_config
from wdsr_jax.errors import UserError
from wdsr_jax.evaluation.examples import examples_of_folder
from wdsr_jax.experiments import runs
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
def test_stopped_runs_go_on_and_finished_ones_are_not_made_again(tiny, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "absl")
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
    started = [line for line in caplog.messages if line.startswith("run ")]
    assert started == ["run 1 of 2, edsr-1-seed0", *["run 2 of 2, wdsr-a-1-seed0"] * 2]

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
