"""Schedules at every step where they turn, and the optimiser against Adam written out in NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wdsr_jax.training.optim import SCHEDULES, create_optimizer, learning_rate_schedule


def test_piecewise_decays_from_the_boundary_on():
    rate = learning_rate_schedule(
        "piecewise", learning_rate=1e-3, steps=300, boundaries=(200, 250), decay=0.1
    )
    expected = {0: 1e-3, 199: 1e-3, 200: 1e-4, 249: 1e-4, 250: 1e-5, 299: 1e-5, 10_000: 1e-5}
    for step, value in expected.items():
        assert float(rate(step)) == pytest.approx(value, rel=1e-5), step


def test_cosine_falls_from_the_rate_to_zero():
    rate = learning_rate_schedule("cosine", learning_rate=2e-3, steps=400)
    for step in (0, 1, 100, 200, 399, 400):
        expected = 1e-3 * (1 + math.cos(math.pi * step / 400))
        assert float(rate(step)) == pytest.approx(expected, rel=1e-4, abs=1e-9), step
    assert float(rate(500)) == 0.0


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_multiplies_the_rate(schedule):
    options = dict(learning_rate=1e-2, steps=100, boundaries=(50,), decay=0.5)
    plain = learning_rate_schedule(schedule, **options)
    warm = learning_rate_schedule(schedule, warmup_steps=4, **options)
    factors = [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]  # never 0: the first step is not for nothing
    for step, factor in enumerate(factors):
        assert float(warm(step)) == pytest.approx(float(plain(step)) * factor, rel=1e-6)
    assert float(warm(60)) == float(plain(60))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_are_the_same_under_jit(schedule):
    rate = learning_rate_schedule(
        schedule, learning_rate=1e-3, steps=30, warmup_steps=5, boundaries=(10, 20), decay=0.5
    )
    expected = [float(rate(step)) for step in range(40)]
    np.testing.assert_allclose(jax.jit(jax.vmap(rate))(jnp.arange(40)), expected, rtol=1e-5, atol=1e-10)


def test_unknown_schedule():
    with pytest.raises(ValueError, match="schedule must be one of piecewise, cosine, not 'step'"):
        learning_rate_schedule("step", learning_rate=1e-3, steps=10)


@pytest.mark.parametrize("grad_clip", [0.0, 1.0, 1e6])
def test_optimizer_equals_adam_in_numpy(grad_clip):
    """Algorithm 1 of arXiv:1412.6980, on gradients scaled down to the norm of `grad_clip`."""
    rng = np.random.default_rng(0)
    params = {"a": rng.normal(size=(3, 2)), "b": rng.normal(size=4)}
    schedule = learning_rate_schedule("cosine", learning_rate=0.1, steps=6, warmup_steps=2)
    optimizer = create_optimizer(schedule, grad_clip)
    ours = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), params)
    state = optimizer.init(ours)
    m, v = ({k: np.zeros_like(p) for k, p in params.items()} for _ in range(2))
    for step in range(5):
        grads = {k: rng.normal(size=p.shape) * 10.0 ** rng.integers(-3, 3) for k, p in params.items()}
        updates, state = optimizer.update(
            jax.tree.map(lambda g: jnp.asarray(g, jnp.float32), grads), state, ours
        )
        ours = optax.apply_updates(ours, updates)

        norm = math.sqrt(sum((g**2).sum() for g in grads.values()))
        factor = min(1.0, grad_clip / norm) if grad_clip else 1.0
        rate = 0.05 * (1 + math.cos(math.pi * step / 6)) * min(1, (step + 1) / 2)
        for k in params:
            g = grads[k] * factor
            m[k] = 0.9 * m[k] + 0.1 * g
            v[k] = 0.999 * v[k] + 0.001 * g**2
            m_hat, v_hat = m[k] / (1 - 0.9 ** (step + 1)), v[k] / (1 - 0.999 ** (step + 1))
            params[k] = params[k] - rate * m_hat / (np.sqrt(v_hat) + 1e-8)
            np.testing.assert_allclose(ours[k], params[k], atol=2e-6, err_msg=f"{k} at step {step}")
