"""SIGTERM and Ctrl-C: the step is finished and saved, and nothing is lost."""

import signal

import pytest

from tests.tiny import read_json, read_points
from tests.training.tiny_runs import assert_same_state, interrupt, state_of, stop_before_step, terminate
from wdsr_jax.training import checkpoints, run
from wdsr_jax.training.loop import train_and_evaluate

pytestmark = [
    pytest.mark.usefixtures("log_everything"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


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
    assert_same_state(state_of(tmp_path), state_of(finished))


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
    assert_same_state(state_of(tmp_path), state_of(finished))
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
