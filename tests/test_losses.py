"""Losses against NumPy, and what makes each of them trainable."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wdsr_jax.losses import LOSSES, charbonnier, l1, l2

images = hnp.arrays(np.float32, (2, 3, 4, 3), elements=st.floats(-1, 2, width=32))


@settings(deadline=None, max_examples=20)
@given(images, images)
def test_losses_equal_numpy(sr, hr):
    d = sr.astype(np.float64) - hr
    expected = {
        "l1": np.abs(d).mean(),
        "l2": (d**2).mean(),
        "charbonnier": np.sqrt(d**2 + 1e-6).mean(),
    }
    assert expected.keys() == LOSSES.keys()
    for name, loss in LOSSES.items():
        assert float(loss(jnp.asarray(sr), jnp.asarray(hr))) == pytest.approx(expected[name], rel=1e-5), name


def test_values_by_hand():
    sr, hr = jnp.array([0.0, 1.0, 0.5, 0.5]), jnp.array([0.0, 0.0, 0.5, 1.0])
    assert float(l1(sr, hr)) == 1.5 / 4
    assert float(l2(sr, hr)) == 1.25 / 4
    assert float(charbonnier(sr, hr, epsilon=0.75)) == pytest.approx(
        (0.75 + 1.25 + 0.75 + 0.8125**0.5) / 4, rel=1e-6
    )


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_a_subgradient_where_sr_equals_hr(name):
    x = jnp.full((1, 2, 2, 3), 0.3)
    gradient = jax.grad(LOSSES[name])(x, x)  # of a root of 0, it would be NaN
    steepest = 1 / x.size if name == "l1" else 0
    assert (np.abs(gradient) <= steepest).all()
