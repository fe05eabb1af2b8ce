"""What a run measures of itself, against sums by hand and a clock of the tests' own."""

import jax.numpy as jnp
import numpy as np
import pytest

from wdsr_jax.training import meters
from wdsr_jax.training.meters import DivergedError, Meter, check_finite


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but for what is added to it."""
    now = [100.0]
    monkeypatch.setattr(meters.time, "monotonic", lambda: now[0])
    return now


def metrics(loss, skipped_in_row=0):
    return {"loss": jnp.float32(loss), "skipped_in_row": jnp.int32(skipped_in_row), "stop": jnp.int32(0)}


def test_means_leave_out_steps_that_were_skipped(clock):
    meter = Meter(7, batch_size=16)
    for loss, skipped in ((1.0, 0), (jnp.nan, 1), (jnp.inf, 2), (4.0, 0)):
        meter.advance(metrics(loss, skipped))
    clock[0] += 8
    assert meter.step == 11 and meter.first_step == 7
    assert meter.summarise() == {"loss": 2.5, "images_per_second": 4 * 16 / 8, "input_wait": 0.0}
    meter.advance(metrics(jnp.nan, 1))  # where all were skipped, there is nothing else to show
    clock[0] += 1
    assert np.isnan(meter.summarise()["loss"])


def test_the_rate_is_of_the_time_since_the_last_summary_or_restart(clock):
    def batches():
        while True:
            clock[0] += 1.0
            yield {"lr": np.zeros(1)}

    meter, source = Meter(0, batch_size=2), batches()
    meter.advance(metrics(1.0))
    clock[0] += 60  # compilation
    meter.restart()
    for _ in range(3):
        meter.next(source)
        clock[0] += 3
        meter.advance(metrics(1.0))
    summary = meter.summarise()
    assert summary["images_per_second"] == pytest.approx(3 * 2 / 12) and summary["input_wait"] == 3 / 12
    meter.next(source)
    meter.advance(metrics(2.0))
    assert meter.summarise() == {"loss": 2.0, "images_per_second": 2.0, "input_wait": 1.0}


def test_steps_land_in_order_and_by_their_number(clock):
    meter = Meter(10, batch_size=1)
    landed = []
    for i in range(1, 6):
        meter.advance(metrics(i))
        landed += [(step, float(values["loss"])) for step, values in meter.landed(leave=2)]
    assert landed == [(11, 1), (12, 2), (13, 3)]
    landed += [(step, float(values["loss"])) for step, values in meter.landed(leave=0)]
    assert landed[3:] == [(14, 4), (15, 5)]


def test_more_skipped_steps_than_the_limit_are_refused(tmp_path):
    check_finite(metrics(0, skipped_in_row=3), 3, 20, tmp_path)
    with pytest.raises(DivergedError, match="not finite in 4 steps in a row, up to step 21") as error:
        check_finite(metrics(0, skipped_in_row=4), 3, 21, tmp_path)
    assert error.value.step == 21 and "init_from" not in str(error.value)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(DivergedError, match=f"--config.train.init_from={tmp_path}$"):
        check_finite(metrics(0, skipped_in_row=5), 3, 22, tmp_path)
