"""Losses against NumPy, and what makes each of them trainable."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wdsr_jax.training.losses import LOSSES, charbonnier, l1, l2, shift_tolerant

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


def best_places(name, sr, hr, guide, window):
    """For each image where HR's part begins that costs least, and the loss there."""
    side = 2 * window + 1
    found = []
    for images in zip(sr, hr, guide, strict=True):
        a, b, c = (np.asarray(image, np.float64) for image in images)
        height, width = a.shape[0] - 2 * window, a.shape[1] - 2 * window
        a, c = (x[window : window + height, window : window + width] for x in (a, c))
        places = [(y, x, b[y : y + height, x : x + width]) for y in range(side) for x in range(side)]
        distance = {
            "l1": np.abs,
            "l2": np.square,
            "charbonnier": lambda d: np.sqrt(d**2 + 1e-6),
        }[name]
        costs = [np.square(a - p).mean() + np.square(c - p).mean() for _, _, p in places]
        y, x, place = places[int(np.argmin(costs))]
        found.append((y, x, distance(a - place).mean()))
    return found


@pytest.mark.parametrize("name", LOSSES)
def test_tolerant_losses_equal_a_search_in_numpy(name):
    sr, hr, guide = noise(0), noise(1), noise(2)
    places = best_places(name, sr, hr, guide, 2)
    assert len({place[:2] for place in places}) == 3  # or one shift for all would do as well
    found = float(jax.jit(shift_tolerant(LOSSES[name], 2))(sr, hr, guide))
    assert found == pytest.approx(np.mean([place[2] for place in places]), rel=1e-5)


def test_each_image_has_a_shift_of_its_own():
    sr = noise(2)
    hr = np.stack([moved(image, *shift) for image, shift in zip(sr, [(2, -2), (0, 1), (-1, 0)], strict=True)])
    assert float(shift_tolerant(l1, 2)(sr, hr, sr)) == 0
    assert float(shift_tolerant(l1, 1)(sr, hr, sr)) > 0.05  # the first is out of reach
    assert float(l1(sr, hr)) > 0.2


def test_without_a_window_it_is_the_loss():
    sr, hr = noise(0), noise(1)
    assert float(shift_tolerant(l1, 0)(sr, hr, noise(2))) == float(l1(sr, hr))


def test_the_guide_keeps_a_network_in_place():
    """One that shows little as yet, and that a pixel away, is compared with HR where LR is."""
    hr = noise(7)
    sr = np.float32(0.35) + np.float32(0.3) * np.stack([moved(image, 0, 1) for image in hr])
    middle, here, there = sr[:, 2:-2, 2:-2], hr[:, 2:-2, 2:-2], hr[:, 2:-2, 1:-3]
    assert l1(middle, there) < l1(middle, here) - 0.02
    assert float(shift_tolerant(l1, 2)(sr, hr, hr)) == pytest.approx(float(l1(middle, here)), rel=1e-6)
    assert float(shift_tolerant(l1, 2)(sr, hr, 0 * hr)) == pytest.approx(float(l1(middle, there)), rel=1e-6)


def test_parts_of_a_batch_average_to_the_whole():
    sr, hr, guide = (noise(seed, (4, 12, 12, 3)) for seed in (3, 4, 5))
    loss = jax.jit(jax.value_and_grad(shift_tolerant(l1, 2)))
    value, gradient = loss(sr, hr, guide)
    parts = [loss(sr[i : i + 1], hr[i : i + 1], guide[i : i + 1]) for i in range(4)]
    np.testing.assert_allclose(value, np.mean([part[0] for part in parts]), rtol=1e-6)
    np.testing.assert_allclose(gradient, np.concatenate([part[1] for part in parts]) / 4, rtol=1e-6)


def test_gradients_flow_through_the_best_shift_alone():
    hr = noise(5, (1, 12, 12, 3))
    sr = np.stack([moved(hr[0], 1, -2)]) + np.float32(0.01) * noise(6, hr.shape)
    by_sr, by_guide = jax.grad(shift_tolerant(l1, 2), argnums=(0, 2))(sr, hr, sr)
    expected = np.zeros_like(by_sr)
    # sr[y, x] shows hr[y - 1, x + 2].
    expected[:, 2:-2, 2:-2] = np.sign(sr[:, 2:-2, 2:-2] - hr[:, 1:-3, 4:]) / (8 * 8 * 3)
    np.testing.assert_allclose(by_sr, expected, rtol=1e-6)
    assert not by_guide.any()
