"""The plots: where the axis of PSNR begins."""

import pytest

from wdsr_jax.experiments import plots

pytest.importorskip("matplotlib")


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
