"""The report at the end of a run: that it is there, whole, and says what was measured."""

import re

import pytest

from tests.tiny import read_json, tiny_config, write_photo
from wdsr_jax import load_pretrained
from wdsr_jax.training.loop import train_and_evaluate

pytestmark = [
    pytest.mark.usefixtures("log_everything"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_the_progress_and_the_table(config, tmp_path, capsys, caplog):
    train_and_evaluate(config, tmp_path)
    out, err = capsys.readouterr()
    *_, line = [record.message for record in caplog.records if record.message.startswith("training: ")]
    assert re.fullmatch(
        r"training: 6 of 6 steps \(100%\), [\d.]+ steps/s, 00:00 left, loss 0\.\d+, \d+ img/s", line
    )
    assert "\r" not in err
    assert out.startswith("| x2: bicubic / model | images |")
    for name in ("before_after.png", "evaluation.json", "model.safetensors"):
        assert f"{tmp_path / name}\n" in out


@pytest.mark.parametrize("missing", ["evaluation.json", "before_after.png"])
def test_a_report_that_is_missing_is_made(a_copy, config, finished, missing):
    (a_copy / missing).unlink()
    assert train_and_evaluate(config, a_copy) == 0
    assert (a_copy / missing).read_bytes() == (finished / missing).read_bytes()


@pytest.mark.parametrize(
    "text", ["[]", "null", "{}", '{"validation": []}', '{"validation": {"model', "[" * 9999]
)
def test_a_report_that_is_none_is_made_anew(a_copy, config, finished, text):
    (a_copy / "evaluation.json").write_text(text)
    assert train_and_evaluate(config, a_copy) == 0
    assert (a_copy / "evaluation.json").read_bytes() == (finished / "evaluation.json").read_bytes()


@pytest.mark.ci
def test_validation_images_too_small_for_a_score(photos, tmp_path):
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    write_photo(tiny / "a.png", seed=1, size=(16, 12))
    config = tiny_config(photos, tmp_path / "cache", data__val_root=str(tiny))
    assert train_and_evaluate(config, tmp_path / "run") == 0
    assert read_json(tmp_path / "run" / "evaluation.json")["validation"]["model"]["psnr_rgb"] is None
    assert load_pretrained(tmp_path / "run")
