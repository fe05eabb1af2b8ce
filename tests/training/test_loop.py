"""Training from config to report, in this process: what it writes, how it resumes, and what it refuses."""

import contextlib
import json
import logging
import math
import os
import re
import shutil
import signal
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests.tiny import read_json, read_points, tiny_config, write_photo
from wdsr_jax import load_pretrained
from wdsr_jax.data.degradation import draw, parse_degradation, random_of
from wdsr_jax.data.online import degrade_image, parse_online
from wdsr_jax.errors import UserError
from wdsr_jax.evaluation.benchmark import score
from wdsr_jax.image.files import read_image
from wdsr_jax.image.resize import imresize
from wdsr_jax.training import checkpoints, loop, optim, run, setup, step
from wdsr_jax.training.loop import train_and_evaluate
from wdsr_jax.weights.store import recorded_psnr, save_weights

pytestmark = [
    pytest.mark.usefixtures("compile_cache"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def log_everything(caplog):
    caplog.set_level(logging.INFO, logger="absl")


@pytest.fixture
def config(photos, image_cache):
    return tiny_config(photos, image_cache)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, photos, image_cache, compile_cache):
    """The workdir of a run that was never stopped."""
    workdir = tmp_path_factory.mktemp("finished")
    assert train_and_evaluate(tiny_config(photos, image_cache), workdir) == 0
    return workdir


@pytest.fixture
def a_copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def state_of(workdir):
    """The arrays of the newest checkpoint, by name."""
    import orbax.checkpoint as ocp

    step = checkpoints.saved_steps(workdir)[-1]
    with ocp.StandardCheckpointer() as checkpointer:
        state = checkpointer.restore(workdir / "checkpoints" / str(step) / "state")
    return dict(jax.tree_util.tree_leaves_with_path(state))


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    for path, leaf in one.items():
        np.testing.assert_array_equal(np.asarray(leaf), np.asarray(other[path]), err_msg=str(path))


class Stop(Exception):
    """A crash."""


def stop_before_step(monkeypatch, step, action):
    """Calls `action` before the batch of `step` (from 1) is drawn."""
    original = loop.training_batches

    def batches(pairs, *, start, **options):
        source = original(pairs, start=start, **options)
        for i, batch in enumerate(source, start + 1):
            if i == step:
                action()
            yield batch

    monkeypatch.setattr(loop, "training_batches", batches)


def best_of(workdir):
    return recorded_psnr(workdir / "model.safetensors")


def crash():
    raise Stop


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


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


def test_points_and_pictures_for_tensorboard(finished, config):
    points = read_points(finished)
    each_step = [1, 2, 3, 4, 5, 6]
    for name in ("loss", "grad_norm", "learning_rate", "skipped", "images_per_second", "input_wait"):
        assert [step for step, _ in points[f"train/{name}"]] == each_step, name
        assert all(math.isfinite(value) and value >= 0 for _, value in points[f"train/{name}"]), name
    schedule = optim.learning_rate_schedule("cosine", learning_rate=3e-3, steps=6, warmup_steps=2)
    rates = [value for _, value in points["train/learning_rate"]]
    np.testing.assert_allclose(rates, [float(schedule(step)) for step in range(6)], rtol=1e-6)
    for name in ("psnr_rgb", "psnr_y", "ssim_y", "ssim_ntire"):
        assert [step for step, _ in points[f"val/{name}"]] == [3, 6]
    assert points["val/psnr_rgb"][-1][1] == pytest.approx(best_of(finished), abs=1e-4)
    ((first, shape), (last, _)) = points["val/photo5"]
    assert (first, last) == (3, 6) and min(shape) > 100


def test_the_progress_bar_and_the_table(config, tmp_path, capsys):
    train_and_evaluate(config, tmp_path)
    out, err = capsys.readouterr()
    assert re.search(r"training: 100%\|.*\| 6/6 \[.*step/s, loss 0\.\d+, \d+ img/s\]", err)
    assert out.startswith("| x2: bicubic / model | images |")
    for name in ("before_after.png", "evaluation.json", "model.safetensors"):
        assert f"{tmp_path / name}\n" in out


# Started again


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


@pytest.mark.parametrize("missing", ["evaluation.json", "before_after.png"])
def test_a_report_that_is_missing_is_made(a_copy, config, finished, missing):
    (a_copy / missing).unlink()
    assert train_and_evaluate(config, a_copy) == 0
    assert (a_copy / missing).read_bytes() == (finished / missing).read_bytes()


def test_a_crash_shows_no_point_twice_and_changes_no_bit(config, finished, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_before_step(patch, 6, crash)
        with pytest.raises(Stop):
            train_and_evaluate(config, tmp_path)
    assert checkpoints.saved_steps(tmp_path)[-1] == 4  # and 5 was logged
    assert [step for step, _ in read_points(tmp_path)["train/loss"]][-1] == 5
    assert train_and_evaluate(config, tmp_path) == 0
    assert_same_bits(state_of(tmp_path), state_of(finished))
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
    assert_same_bits(state_of(tmp_path / "stopped"), state_of(tmp_path / "whole"))

    module, params = load_pretrained(tmp_path / "whole")
    assert module.norm == "batch"
    assert np.any(params["block_0"]["first"]["mean"])  # they have moved
    sr = module.apply({"params": params}, np.full((1, 8, 8, 3), 0.5, np.float32))
    assert sr.shape == (1, 16, 16, 3)


@pytest.mark.parametrize(
    ("send", "code"), [(terminate, 143), pytest.param(interrupt, 130, marks=pytest.mark.ci)]
)
def test_a_signal_finishes_the_step_and_saves(config, finished, tmp_path, monkeypatch, caplog, send, code):
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with monkeypatch.context() as patch:
        stop_before_step(patch, 5, send)
        assert train_and_evaluate(config, tmp_path) == code
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert checkpoints.saved_steps(tmp_path)[-1] == 5
    assert not (tmp_path / "evaluation.json").exists()
    assert caplog.messages[-1].endswith("at step 5; saved: the same command goes on from here")
    assert train_and_evaluate(config, tmp_path) == 0
    assert_same_bits(state_of(tmp_path), state_of(finished))


def test_a_second_signal_exits_at_once(config, tmp_path, monkeypatch):
    def twice():
        terminate()
        interrupt()

    stop_before_step(monkeypatch, 4, twice)
    with pytest.raises(SystemExit) as stop:
        train_and_evaluate(config, tmp_path)
    assert stop.value.code == 130
    assert checkpoints.saved_steps(tmp_path)[-1] == 3


def test_a_signal_while_images_are_evaluated_loses_nothing(config, finished, tmp_path, monkeypatch):
    original = run.until_signal

    def until_signal(examples, signals):
        terminate()
        return original(examples, signals)

    with monkeypatch.context() as patch:
        patch.setattr(run, "until_signal", until_signal)
        assert train_and_evaluate(config, tmp_path) == 143
    assert checkpoints.saved_steps(tmp_path) == [2, 3]
    assert "val/psnr_rgb" not in read_points(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    assert train_and_evaluate(config, tmp_path) == 0
    assert_same_bits(state_of(tmp_path), state_of(finished))
    assert read_points(tmp_path)["val/psnr_rgb"] == read_points(finished)["val/psnr_rgb"]


@pytest.mark.ci
def test_a_signal_during_the_last_evaluation(config, finished, tmp_path, monkeypatch):
    original = run.until_signal
    calls = []

    def until_signal(examples, signals):
        calls.append(1)
        if len(calls) == 2:
            terminate()
        return original(examples, signals)

    with monkeypatch.context() as patch:
        patch.setattr(run, "until_signal", until_signal)
        assert train_and_evaluate(config, tmp_path) == 143
    assert checkpoints.saved_steps(tmp_path)[-1] == 6
    assert train_and_evaluate(config, tmp_path) == 0
    assert read_json(tmp_path / "evaluation.json") == read_json(finished / "evaluation.json")


# The best weights


def scripted_psnr(monkeypatch, values):
    """Validation gives `values`, one after the other."""
    original, values = run.evaluate, iter(values)

    def evaluate_(*args, bicubic=True, **options):
        result = original(*args, bicubic=bicubic, **options)
        if not bicubic:  # as validation calls it, unlike the report
            result["model"]["psnr_rgb"] = next(values)
        return result

    monkeypatch.setattr(run, "evaluate", evaluate_)


def test_the_best_weights_never_get_worse(config, tmp_path, monkeypatch):
    config.train.update(eval_every=1)
    weights = tmp_path / "model.safetensors"
    kept = []

    def record(*args):
        save_weights(*args)
        kept.append(recorded_psnr(weights))

    monkeypatch.setattr(run, "save_weights", record)
    scripted_psnr(monkeypatch, [20.0, 30.0, 25.0, 29.0, math.nan, 31.0])
    with monkeypatch.context() as patch:
        stop_before_step(patch, 4, terminate)  # after the best of the first part
        assert train_and_evaluate(config, tmp_path) == 143
    assert kept == [20.0, 30.0] and recorded_psnr(weights) == 30.0
    best = weights.read_bytes()
    assert train_and_evaluate(config, tmp_path) == 0
    assert kept == [20.0, 30.0, 31.0]
    assert weights.read_bytes() != best


def test_the_best_is_remembered_where_its_checkpoint_is_lost(config, tmp_path, monkeypatch):
    scripted_psnr(monkeypatch, [30.0, 20.0, 25.0])
    with monkeypatch.context() as patch:
        stop_before_step(patch, 4, crash)
        with pytest.raises(Stop):
            train_and_evaluate(config, tmp_path)
    best = (tmp_path / "model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "checkpoints" / "3")
    assert train_and_evaluate(config, tmp_path) == 0
    assert (tmp_path / "model.safetensors").read_bytes() == best


@pytest.mark.ci
def test_validation_images_too_small_for_a_score(photos, tmp_path):
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    write_photo(tiny / "a.png", seed=1, size=(16, 12))
    config = tiny_config(photos, tmp_path / "cache", data__val_root=str(tiny))
    assert train_and_evaluate(config, tmp_path / "run") == 0
    assert read_json(tmp_path / "run" / "evaluation.json")["validation"]["model"]["psnr_rgb"] is None
    assert load_pretrained(tmp_path / "run")


# Trouble


def test_loss_that_stays_non_finite_stops_the_run(config, tmp_path):
    config.train.update(learning_rate=1e30, max_skipped=2, steps=50, eval_every=50, warmup_steps=0)
    with pytest.raises(UserError) as error:
        train_and_evaluate(config, tmp_path)
    message = str(error.value)
    assert "\n" not in message
    assert "not finite in 3 steps in a row" in message and "--config.train.learning_rate" in message
    skipped = [value for _, value in read_points(tmp_path)["train/skipped"]]
    assert skipped[0] == 0 and skipped[-1] >= 3 and skipped == sorted(skipped)
    assert not (tmp_path / "model.safetensors").exists()
    state = state_of(tmp_path)
    assert all(np.isfinite(leaf).all() for leaf in state.values())


def test_skipped_steps_are_counted_and_the_rest_goes_on(config, tmp_path, monkeypatch):
    original = step.parallel_train_step

    def with_overflow(**options):
        loss = options.pop("loss")
        # Black LR patches: see the batches below.
        return original(loss=lambda sr, hr: loss(sr, hr) / jnp.where(hr.max() == 0, 0.0, 1.0), **options)

    def batches(pairs, *, start, batch_size, patch_size, **options):
        for i in range(start, 100):
            lr = np.full((batch_size, patch_size, patch_size, 3), 100, np.uint8)
            hr = np.full((batch_size, 2 * patch_size, 2 * patch_size, 3), 0 if i == 3 else 90, np.uint8)
            yield {"lr": lr, "hr": hr}

    monkeypatch.setattr(step, "parallel_train_step", with_overflow)
    monkeypatch.setattr(loop, "training_batches", batches)
    assert train_and_evaluate(config, tmp_path) == 0
    points = read_points(tmp_path)
    assert [value for _, value in points["train/skipped"]] == [0, 0, 0, 1, 1, 1]
    rates = [value for _, value in points["train/learning_rate"]]
    schedule = optim.learning_rate_schedule("cosine", learning_rate=3e-3, steps=6, warmup_steps=2)
    # the optimiser has not counted the step that was skipped
    np.testing.assert_allclose(rates[4:], [float(schedule(3)), float(schedule(4))], rtol=1e-6)


@pytest.mark.ci
def test_other_training_images_are_noticed(config, photos, tmp_path, monkeypatch, caplog):
    mine = shutil.copytree(photos, tmp_path / "mine")
    config.data.root = str(mine)
    with monkeypatch.context() as patch:
        stop_before_step(patch, 4, terminate)
        assert train_and_evaluate(config, tmp_path / "run") == 143
    warning = "the training images have changed since this run was stopped"
    with monkeypatch.context() as patch:
        stop_before_step(patch, 5, terminate)
        assert train_and_evaluate(config, tmp_path / "run") == 143
    assert warning not in caplog.messages
    write_photo(mine / "photo0.png", seed=99)
    assert train_and_evaluate(config, tmp_path / "run") == 0
    assert caplog.messages.count(warning) == 1


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
        assert_same_bits(state_of(workdir), state_of(finished))
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
    assert_same_bits(state_of(tmp_path / "resumed"), state_of(tmp_path / "whole"))
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
