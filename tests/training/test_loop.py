"""Training from config to report, in this process: what it writes, how it resumes, and what it refuses."""

import contextlib
import json
import os
import re
import shutil
import subprocess

import jax
import numpy as np
import pytest
from PIL import Image

from tests.tiny import read_json, read_points, tiny_config, write_photo
from tests.training.tiny_runs import (
    Stop,
    assert_same_state,
    best_of,
    crash,
    state_of,
    stop_before_step,
    terminate,
)
from wdsr_jax import load_pretrained
from wdsr_jax.data.degradation import draw, random_of
from wdsr_jax.data.online import degrade_image
from wdsr_jax.data.settings import parse_degradation, parse_online
from wdsr_jax.errors import UserError
from wdsr_jax.evaluation.benchmark import score
from wdsr_jax.image.files import read_image
from wdsr_jax.image.resize import imresize
from wdsr_jax.training import checkpoints, loop, run, setup
from wdsr_jax.training.loop import train_and_evaluate

pytestmark = [
    pytest.mark.usefixtures("log_everything"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


# What a run writes


def test_what_a_run_leaves(finished, photos, image_cache):
    names = {path.name for path in finished.iterdir() if not path.name.startswith("events.out.tfevents.")}
    assert names == {
        *(".lock", "config.json", "environment.json", "checkpoints", "model.safetensors"),
        *("evaluation.json", "before_after.png"),
    }
    assert read_json(finished / "config.json") == json.loads(
        json.dumps(tiny_config(photos, image_cache).to_dict())
    )
    assert checkpoints.saved_steps(finished) == [3, 4, 6]
    module, params = load_pretrained(finished)
    assert (module.scale, module.filters) == (2, 4)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 2_688
    result = read_json(finished / "evaluation.json")["validation"]
    assert [image["name"] for image in result["images"]] == ["photo5"]
    assert result["model"]["psnr_rgb"] == pytest.approx(best_of(finished), abs=1e-9)
    assert result["bicubic"]["psnr_y"] > 20
    assert Image.open(finished / "before_after.png").size[0] > 1000


# Started again


def test_a_change_that_is_none_changes_nothing(config, finished, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        stop_before_step(patched, 4, terminate)
        assert train_and_evaluate(config, tmp_path) == 128 + 15
    config.train.resume_changed = True
    assert train_and_evaluate(config, tmp_path) == 0
    assert_same_state(state_of(tmp_path), state_of(finished))
    assert best_of(tmp_path) == best_of(finished)


def test_another_rate_and_length_go_on_from_state_and_step(photos, image_cache, tmp_path, caplog):
    """3 steps, then others at half the rate: the same as one run whose schedule says so."""
    rate, options = (
        2.0**-10,
        dict(train__schedule="piecewise", train__lr_decay=0.5, train__checkpoint_every=3),
    )
    whole = tiny_config(photos, image_cache, train__lr_boundaries=(3,), train__learning_rate=rate, **options)
    assert train_and_evaluate(whole, tmp_path / "whole") == 0
    first = tiny_config(photos, image_cache, train__lr_boundaries=(), train__learning_rate=rate, **options)
    first.train.steps = 3
    assert train_and_evaluate(first, tmp_path / "parts") == 0
    then = tiny_config(photos, image_cache, train__lr_boundaries=(), train__learning_rate=rate / 2, **options)
    with pytest.raises(UserError, match=r"train\.learning_rate \(.*resume_changed=true"):
        train_and_evaluate(then, tmp_path / "parts")
    then.train.resume_changed = True
    assert train_and_evaluate(then, tmp_path / "parts") == 0
    assert any("goes on with another config: train.learning_rate (" in line for line in caplog.messages)
    assert_same_state(state_of(tmp_path / "parts"), state_of(tmp_path / "whole"))
    then.train.resume_changed = False  # the new config is the run's
    assert train_and_evaluate(then, tmp_path / "parts") == 0


def test_another_batch_size_and_a_longer_cosine_go_on(photos, image_cache, tmp_path):
    config = tiny_config(photos, image_cache, train__schedule="cosine")
    assert train_and_evaluate(config, tmp_path) == 0
    config.train.update(steps=9, resume_changed=True)
    config.data.batch_size = 8
    assert train_and_evaluate(config, tmp_path) == 0
    assert checkpoints.saved_steps(tmp_path)[-1] == 9
    rates = dict(read_points(tmp_path)["train/learning_rate"])
    assert sorted(rates) == list(range(1, 10))
    assert rates[6] < rates[7] and rates[9] > 0 and rates[9] < rates[8]


def test_what_is_no_step_among_the_checkpoints_is_left_alone(a_copy, config, finished, monkeypatch):
    shutil.rmtree(a_copy / "checkpoints/6")
    others = ("backup", "4.bak", "007", "\u0663", "-1", "best", "3_old")
    for name in others:
        shutil.copytree(a_copy / "checkpoints/4", a_copy / "checkpoints" / name)
    (a_copy / "checkpoints/99").write_text("no folder")
    assert checkpoints.saved_steps(a_copy) == [3, 4]
    assert train_and_evaluate(config, a_copy) == 0
    assert_same_state(state_of(a_copy), state_of(finished))
    assert all((a_copy / "checkpoints" / name).is_dir() for name in others)
    assert (a_copy / "checkpoints/99").read_text() == "no folder"


def test_a_copy_of_a_checkpoint_under_another_step_is_set_aside(a_copy, config, finished, caplog):
    shutil.rmtree(a_copy / "checkpoints/6")
    for name in ("5", "1234567890123"):
        shutil.copytree(a_copy / "checkpoints/4", a_copy / "checkpoints" / name)
    assert train_and_evaluate(config, a_copy) == 0
    assert_same_state(state_of(a_copy), state_of(finished))
    assert any(line.startswith("checkpoint 5 is damaged (it is of step 4)") for line in caplog.messages)
    assert sorted(path.name for path in (a_copy / "damaged").iterdir()) == ["1234567890123", "5"]


def test_a_complete_run_started_again_only_reports(a_copy, config, monkeypatch, capsys, caplog):
    stop_before_step(monkeypatch, 7, crash)
    monkeypatch.setattr(run, "evaluate", lambda *args, **options: crash())
    files = {path: path.stat().st_mtime_ns for path in a_copy.glob("*.*") if "tfevents" not in path.name}
    assert train_and_evaluate(config, a_copy) == 0
    out, _ = capsys.readouterr()
    assert out.startswith("| x2: bicubic / model | images |") and "before_after.png" in out
    assert "all 6 steps have been made; their report:" in caplog.messages
    assert {path for path in files if path.stat().st_mtime_ns != files[path]} <= {
        a_copy / "config.json",
        a_copy / "environment.json",
    }


def test_a_crash_shows_no_point_twice_and_changes_no_bit(config, finished, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_before_step(patch, 6, crash)
        with pytest.raises(Stop):
            train_and_evaluate(config, tmp_path)
    assert checkpoints.saved_steps(tmp_path)[-1] == 4  # and 5 was logged
    assert [step for step, _ in read_points(tmp_path)["train/loss"]][-1] == 5
    assert train_and_evaluate(config, tmp_path) == 0
    assert_same_state(state_of(tmp_path), state_of(finished))
    points, expected = read_points(tmp_path), read_points(finished)
    assert points.keys() == expected.keys()
    for tag in expected:
        if tag in ("train/images_per_second", "train/input_wait"):  # of time
            assert [step for step, _ in points[tag]] == [step for step, _ in expected[tag]]
        else:
            assert points[tag] == expected[tag], tag
    (_, params), (_, expected) = load_pretrained(tmp_path), load_pretrained(finished)
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    assert best_of(tmp_path) == best_of(finished)


@pytest.mark.ci
def test_batch_norm_is_stopped_and_resumed_without_losing_its_statistics(config, tmp_path, monkeypatch):
    config.model.update(name="edsr", norm="batch")
    assert train_and_evaluate(config, tmp_path / "whole") == 0
    with monkeypatch.context() as patch:
        stop_before_step(patch, 5, crash)
        with pytest.raises(Stop):
            train_and_evaluate(config, tmp_path / "stopped")
    assert checkpoints.saved_steps(tmp_path / "stopped")[-1] < 6
    assert train_and_evaluate(config, tmp_path / "stopped") == 0
    assert_same_state(state_of(tmp_path / "stopped"), state_of(tmp_path / "whole"))

    module, params = load_pretrained(tmp_path / "whole")
    assert module.norm == "batch"
    assert np.any(params["block_0"]["first"]["mean"])  # they have moved
    sr = module.apply({"params": params}, np.full((1, 8, 8, 3), 0.5, np.float32))
    assert sr.shape == (1, 16, 16, 3)


def test_workers_and_threads_end_whatever_happens(config, tmp_path, monkeypatch):
    closed = []
    original = loop.training_batches

    def batches(*args, **options):
        try:
            yield from original(*args, **options)
        finally:
            closed.append(True)

    monkeypatch.setattr(loop, "training_batches", batches)
    monkeypatch.setattr(run, "save_weights", lambda *args: crash())
    with pytest.raises(Stop):
        train_and_evaluate(config, tmp_path)
    assert closed == [True]


@pytest.mark.ci
def test_a_full_disk_is_one_line_and_the_run_goes_on_with_room(config, finished, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount")
    try:
        workdir = disk / "run"
        with pytest.MonkeyPatch.context() as patch:
            stop_before_step(patch, 4, lambda: fill(disk))
            with pytest.raises(UserError) as error:
                train_and_evaluate(config, workdir)
        assert "No space left on device" in str(error.value) and "\n" not in str(error.value)
        assert checkpoints.saved_steps(workdir) in ([2], [2, 3])
        (disk / "filler").unlink()
        assert train_and_evaluate(config, workdir) == 0
        assert_same_state(state_of(workdir), state_of(finished))
    finally:
        subprocess.run(["umount", disk], check=True)


def fill(disk):
    with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


@pytest.mark.ci
def test_misaligned_pairs_are_trained_on_and_scored_at_their_best_shift(photos, image_cache, tmp_path):
    config = tiny_config(photos, image_cache, data__degradation="shift=2,noise=3", train__shift_window=3)
    assert train_and_evaluate(config, tmp_path / "run") == 0
    result = read_json(tmp_path / "run" / "evaluation.json")["validation"]
    assert result["model"]["psnr_shift"] == best_of(tmp_path / "run")
    points = read_points(tmp_path / "run")["val/psnr_shift"]
    assert best_of(tmp_path / "run") == pytest.approx(max(value for _, value in points), abs=1e-4)
    (image,) = result["images"]
    hr = read_image(photos / "photo5.png")
    degradation = parse_degradation("shift=2,noise=3")
    applied = draw(degradation, random_of(hr, 0)).shift
    assert (image["bicubic"]["shift_y"], image["bicubic"]["shift_x"]) == applied != (0, 0)


def test_a_degraded_run_that_is_stopped_goes_on_the_same(photos, image_cache, tmp_path, monkeypatch):
    """Other LR at every step, and the same again where a run is resumed."""
    config = tiny_config(photos, image_cache, data__degradation="online,clean=0", train__steps=4)
    assert train_and_evaluate(config, tmp_path / "whole") == 0
    with monkeypatch.context() as patch:
        stop_before_step(patch, 4, crash)
        with pytest.raises(Stop):
            train_and_evaluate(config, tmp_path / "resumed")
    assert train_and_evaluate(config, tmp_path / "resumed") == 0
    assert_same_state(state_of(tmp_path / "resumed"), state_of(tmp_path / "whole"))
    losses = [read_points(tmp_path / name)["train/loss"] for name in ("whole", "resumed")]
    assert losses[0] == losses[1]
    (image,) = read_json(tmp_path / "whole" / "evaluation.json")["validation"]["images"]
    hr = read_image(photos / "photo5.png")
    lr = degrade_image(hr, 2, parse_online("online,clean=0"), 0)
    assert image["bicubic"]["psnr_rgb"] == pytest.approx(score(imresize(lr, 2), hr, 2)["psnr_rgb"])


# Mistakes: one line, and no workdir


def _truncated_and_text(folder):
    path = folder / "photo1.png"
    path.write_bytes(path.read_bytes()[:200])
    (folder / "notes.png").write_text("not an image")


def _misfit(folder):
    (folder / "HR").mkdir()
    (folder / "LR_bicubic_x2").mkdir()
    for i in range(3):
        write_photo(folder / "HR" / f"{i:04d}.png", seed=i)
        write_photo(folder / "LR_bicubic_x2" / f"{i:04d}x2.png", seed=i, size=(30 if i == 1 else 32, 24))
    for path in folder.glob("photo*.png"):
        path.unlink()


def _other_scale(folder):
    _misfit(folder)
    for path in (folder / "LR_bicubic_x2").iterdir():
        path.rename(path.with_name(path.name.replace("x2", "x4")))
    (folder / "LR_bicubic_x2").rename(folder / "LR_bicubic_x4")


def _empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


MISTAKES = {
    "missing": (shutil.rmtree, {}, r"mine: no such folder"),
    "empty": (_empty, {}, r"mine: no image in it"),
    "no root": (None, {"data__root": ""}, r"config\.data\.root is empty"),
    "small": (None, {"data__patch_size": 25}, r"no training image has an LR of 25x25 pixels"),
    "misfit": (_misfit, {}, r"LR and HR do not fit at scale 2: 0001 \(LR 30x24, HR 64x48\)"),
    "scale": (_other_scale, {}, r"no images of scale 2; there are of scale 4"),
    "source": (None, {"data__source": "div8k"}, r"config\.data\.source must be one of div2k, f"),
    "track": (None, {"data__source": "div2k", "data__track": "sharp"}, r"config\.data\.track"),
    "devices": (
        None,
        {"data__batch_size": 3},
        r"data\.batch_size=3 is not divisible by the 2 devices",
    ),
    "weights": (None, {"train__init_from": "nowhere"}, r"nowhere: no such file or workdir"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(photos, image_cache, tmp_path, name):
    spoil, overrides, message = MISTAKES[name]
    mine = shutil.copytree(photos, tmp_path / "mine")
    if spoil:
        spoil(mine)
    config = tiny_config(mine, image_cache, **overrides)
    with pytest.raises(UserError, match=message) as error:
        train_and_evaluate(config, tmp_path / "deep" / "run")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] in (["mine"], [])


def test_bad_images_are_named_and_left_out(photos, tmp_path, caplog):
    mine = shutil.copytree(photos, tmp_path / "mine")
    _truncated_and_text(mine)
    assert train_and_evaluate(tiny_config(mine, tmp_path / "cache"), tmp_path / "run") == 0
    left_out = sorted(message for message in caplog.messages if message.startswith("left out: "))
    assert [bool(re.search(r"notes\.png|photo1\.png", message)) for message in left_out] == [True, True]
    assert any("5 training images" in m or "4 training images" in m for m in caplog.messages)


def test_a_failed_attempt_does_not_bind_the_next(config, tmp_path, monkeypatch):
    """No checkpoint was saved, so that there is nothing a corrected config could contradict."""
    wrong = config.copy_and_resolve_references()
    wrong.unlock()
    wrong.train.learning_rate = 1e-9
    with monkeypatch.context() as patch:
        stop_before_step(patch, 1, crash)
        with pytest.raises(Stop):
            train_and_evaluate(wrong, tmp_path)
    assert read_json(tmp_path / "config.json")["train"]["learning_rate"] == 1e-9
    assert train_and_evaluate(config, tmp_path) == 0
    assert read_json(tmp_path / "config.json")["train"]["learning_rate"] == 3e-3


def test_a_config_that_contradicts_the_checkpoint_is_refused_first(a_copy, config, monkeypatch):
    monkeypatch.setattr(setup, "load_data", lambda *args, **options: crash())
    config.model.scale = 4
    with pytest.raises(UserError, match=r"another config: model\.scale \(2 there, 4 here\)"):
        train_and_evaluate(config, a_copy)


@pytest.mark.ci
def test_resuming_needs_no_longer_what_it_started_from(config, finished, tmp_path, monkeypatch):
    weights = shutil.copy(finished / "model.safetensors", tmp_path / "first.safetensors")
    config.train.init_from = str(weights)
    with monkeypatch.context() as patch:
        stop_before_step(patch, 3, terminate)
        assert train_and_evaluate(config, tmp_path / "run") == 143
    os.remove(weights)
    assert train_and_evaluate(config, tmp_path / "run") == 0
