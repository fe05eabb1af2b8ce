"""What a run writes at each step: points, pictures, the best weights, and what it counts and notices."""

import math
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny import read_points, write_photo
from tests.training.tiny_runs import Stop, best_of, crash, state_of, stop_before_step, terminate
from wdsr_jax.errors import UserError
from wdsr_jax.training import loop, optim, run, step
from wdsr_jax.training.loop import train_and_evaluate
from wdsr_jax.weights.store import recorded_psnr, save_weights

pytestmark = [
    pytest.mark.usefixtures("log_everything"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


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
