"""Losses against NumPy, and what makes each of them trainable."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wdsr_jax.losses import LOSSES, charbonnier, l1, l2, shift_tolerant

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


# Tolerance of shifts


def noise(seed, shape=(3, 12, 14, 3)):
    return np.random.default_rng(seed).random(shape, np.float32)


def moved(image, dy, dx):
    """(H, W, 3) down and to the right, what comes in at the border is new."""
    wide = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="wrap")
    return wide[4 - dy : 4 - dy + image.shape[0], 4 - dx : 4 - dx + image.shape[1]]


@pytest.mark.parametrize("name", LOSSES)
def test_tolerant_losses_equal_a_search_in_numpy(name):
    sr, hr, window = noise(0), noise(1), 2
    expected = []
    for a, b in zip(sr, hr, strict=True):
        middle = a[2:-2, 2:-2]
        places = [b[y : y + 8, x : x + 10] for y in range(5) for x in range(5)]
        expected.append(min(float(LOSSES[name](jnp.array(middle), jnp.array(place))) for place in places))
    found = float(jax.jit(shift_tolerant(LOSSES[name], window))(sr, hr))
    assert found == pytest.approx(np.mean(expected), rel=1e-6)
    # Noise has different best shifts for different images, or the test would not tell them from one for all.
    assert found < float(shift_tolerant(LOSSES[name], 0)(sr[:, 2:-2, 2:-2], hr[:, 2:-2, 2:-2]))


def test_each_image_has_a_shift_of_its_own():
    sr = noise(2)
    hr = np.stack([moved(image, *shift) for image, shift in zip(sr, [(2, -2), (0, 1), (-1, 0)], strict=True)])
    assert float(shift_tolerant(l1, 2)(sr, hr)) == 0
    assert float(shift_tolerant(l1, 1)(sr, hr)) > 0.05  # the first is out of reach
    assert float(l1(sr, hr)) > 0.2


def test_no_window_is_the_loss_itself():
    assert shift_tolerant(l1, 0) is l1


def test_parts_of_a_batch_average_to_the_whole():
    sr, hr = noise(3, (4, 12, 12, 3)), noise(4, (4, 12, 12, 3))
    loss = jax.jit(jax.value_and_grad(shift_tolerant(l1, 2)))
    value, gradient = loss(sr, hr)
    parts = [loss(sr[i : i + 1], hr[i : i + 1]) for i in range(4)]
    np.testing.assert_allclose(value, np.mean([part[0] for part in parts]), rtol=1e-6)
    np.testing.assert_allclose(gradient, np.concatenate([part[1] for part in parts]) / 4, rtol=1e-6)


def test_gradients_flow_through_the_best_shift_alone():
    hr = noise(5, (1, 12, 12, 3))
    sr = np.stack([moved(hr[0], 1, -2)]) + np.float32(0.01) * noise(6, hr.shape)
    gradient = np.asarray(jax.grad(shift_tolerant(l1, 2))(sr, hr))
    expected = np.zeros_like(gradient)
    # sr[y, x] shows hr[y - 1, x + 2].
    expected[:, 2:-2, 2:-2] = np.sign(sr[:, 2:-2, 2:-2] - hr[:, 1:-3, 4:]) / (8 * 8 * 3)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)
