"""The flow: paths and Euler's method, its oracle of two modes, the velocity against NumPy, noise, tiles."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import numpy_wdsr
from tests.models.networks import apply, conv, noise, weight_normed
from tests.numpy_wdsr import random_params
from wdsr_jax.errors import UserError
from wdsr_jax.inference.network import Noise
from wdsr_jax.inference.tiles import upscale
from wdsr_jax.models import cost, create_model
from wdsr_jax.models.flow import euler, path, pixel_noise, sampler_of
from wdsr_jax.models.wdsr import WDSR
from wdsr_jax.training.flow import matching_loss
from wdsr_jax.training.optim import create_optimizer

FIELDS = dict(name="wdsr_flow", filters=6, blocks=1, expansion=2, flow_filters=5, flow_blocks=2)


def flow(scale=2, **fields):
    return create_model(FIELDS | dict(scale=scale) | fields)


def test_samples_of_two_modes_have_both_in_the_right_shares():
    """1-D data: 30% at -2 and 70% at 1, each with a deviation of 0.1. The best velocity is known, too."""
    means, shares, deviation = np.array([-2.0, 1.0]), np.array([0.3, 0.7]), 0.1

    def exact(x, t):
        """E[x_1 - x_0 | x_t] of a mixture of Gaussians, for each mode by conditioning (x_t, x_1 - x_0)."""
        x, t = np.asarray(x, np.float64), np.asarray(t, np.float64)[:, None]
        variance = (1 - t) ** 2 + (t * deviation) ** 2
        density = shares * np.exp(-((x[:, None] - t * means) ** 2) / (2 * variance)) / np.sqrt(variance)
        slope = (t * deviation**2 - (1 - t)) / variance
        each = means + slope * (x[:, None] - t * means)
        return jnp.asarray((density * each).sum(1) / density.sum(1), jnp.float32)

    def velocity(params, x, t):
        x = jnp.stack([x, t, jnp.ones_like(x)], axis=1)
        for kernel in params[:-1]:
            x = jnp.tanh(x @ kernel)
        return (x @ params[-1])[:, 0]

    keys = jax.random.split(jax.random.key(0), 3)
    shapes = [(3, 64), (64, 64), (64, 1)]
    params = [jax.random.normal(k, s) / np.sqrt(s[0]) for k, s in zip(keys, shapes, strict=True)]
    optimizer = create_optimizer(optax.cosine_decay_schedule(3e-3, 3000))

    @jax.jit
    def train(params, opt_state, key):
        def step(carry, key):
            params, opt_state = carry
            mode_key, data_key, noise_key, time_key = jax.random.split(key, 4)
            is_high = jax.random.uniform(mode_key, (256,)) < shares[1]
            x1 = jnp.where(is_high, means[1], means[0]) + deviation * jax.random.normal(data_key, (256,))
            x0, t = jax.random.normal(noise_key, (256,)), jax.random.uniform(time_key, (256,))
            loss = lambda p: matching_loss(lambda x, t: velocity(p, x, t), x0, x1, t)  # noqa: E731
            updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), None

        return jax.lax.scan(step, (params, opt_state), jax.random.split(key, 3000))[0]

    params, _ = train(params, optimizer.init(params), jax.random.key(1))
    x = jax.random.normal(jax.random.key(2), (4000,))
    for one in (lambda x, t: velocity(params, x, t), exact):
        samples = np.asarray(euler(one, x, 50))
        low = samples < -0.5
        assert low.mean() == pytest.approx(0.3, abs=0.03)
        assert samples[low].mean() == pytest.approx(-2, abs=0.1)
        assert samples[~low].mean() == pytest.approx(1, abs=0.1)
        assert max(samples[low].std(), samples[~low].std()) < 0.3


def test_path_runs_straight_from_noise_to_data():
    x0, x1 = noise(3, 4), noise(3, 4, seed=2)
    x, velocity = path(jnp.asarray(x0), jnp.asarray(x1), jnp.array([0.0, 0.25, 1.0]))
    np.testing.assert_allclose(x, [x0[0], 0.75 * x0[1] + 0.25 * x1[1], x1[2]], rtol=1e-6)
    np.testing.assert_allclose(euler(lambda x, t: velocity, jnp.asarray(x0), 7), x1, atol=1e-6)


def test_alone_it_is_wdsr():
    module, lr = flow(), noise(2, 5, 6, 3)
    params = random_params(module)
    base = WDSR(2, filters=6, blocks=1, expansion=2)
    assert np.array_equal(apply(module, params, lr), apply(base, params["base"], lr))


def velocity_by_numpy(module, p, x, t, lr, sr):
    """The velocity, block by block."""
    b, h, w, _ = lr.shape
    r = module.scale
    cells = sr.reshape(b, h, r, w, r, 3).transpose(0, 1, 3, 2, 4, 5).reshape(b, h, w, 3 * r * r)
    detail = cells - np.concatenate([lr] * r * r, axis=-1)
    condition = np.concatenate([lr - np.array(module.mean), detail / module.spread], axis=-1)
    waves = np.pi * t[:, None] * np.array([1, 2, 4, 8])
    time = np.concatenate([np.sin(waves), np.cos(waves)], axis=1)
    bias = (time @ np.asarray(p["time"]["kernel"]) + np.asarray(p["time"]["bias"])).reshape(
        b, module.flow_blocks, module.flow_filters
    )
    y = numpy_wdsr.conv(p["head"], np.concatenate([x, condition], axis=-1))
    for i in range(module.flow_blocks):
        block, z = p[f"block_{i}"], y + bias[:, i, None, None]
        wide = np.maximum(numpy_wdsr.conv(block["expand"], z), 0)
        y = z + numpy_wdsr.conv(block["project"], numpy_wdsr.conv(block["reduce"], wide))
    y = numpy_wdsr.conv(p["tail"], y)
    t = t[:, None, None, None]
    return (2 * t - 1) / (t**2 + (1 - t) ** 2) * x + y / np.sqrt(t**2 + (1 - t) ** 2)


@pytest.mark.parametrize("scale", [2, 3])
def test_velocity_and_samples_equal_numpy(scale):
    module, lr = flow(scale), noise(2, 4, 5, 3)
    params = random_params(module)
    x, t = noise(2, 4, 5, 3 * scale**2, seed=4), np.array([0.3, 0.9], np.float32)
    sr = np.asarray(apply(module, params, lr))
    given = map(jnp.asarray, (x, t, lr, sr))
    found = module.apply({"params": params}, *given, method="velocity")
    expected = velocity_by_numpy(module, params["field"], x, t, lr, sr)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=2e-5)

    sampler = sampler_of(module)
    for k in range(sampler.steps):
        at = np.full(2, k / sampler.steps)
        x = x + velocity_by_numpy(module, params["field"], x, at, lr, sr) / sampler.steps
    expected = sr + module.spread * np.asarray(
        x.reshape(2, 4, 5, scale, scale, 3).transpose(0, 1, 3, 2, 4, 5).reshape(sr.shape)
    )
    given = np.concatenate([lr, noise(2, 4, 5, 3 * scale**2, seed=4)], axis=-1)
    np.testing.assert_allclose(apply(sampler, params, given), expected, atol=1e-4)


def test_the_rest_of_the_linear_velocity_has_the_variance_that_is_multiplied_out():
    """Of x_0 and x_1, both of variance 1: the residual of the regression of x_1 - x_0 on x_t."""
    rng = np.random.default_rng(0)
    x0, x1 = rng.normal(size=(2, 200_000))
    for t in (0.0, 0.2, 0.5, 0.8, 1.0):
        x, velocity = path(x0, x1, np.full(len(x0), t))
        rest = velocity - (2 * t - 1) / (t**2 + (1 - t) ** 2) * x
        assert np.var(rest) * (t**2 + (1 - t) ** 2) == pytest.approx(1, rel=0.02)
        assert abs(np.mean(rest * x)) < 0.02


def test_number_of_trainable_scalars():
    base = WDSR(4, filters=6, blocks=1, expansion=2)
    block = weight_normed(1, 5, 30) + weight_normed(1, 30, 4) + weight_normed(3, 4, 5)
    field = weight_normed(3, 48 + 3 + 48, 5) + 2 * block + weight_normed(3, 5, 48) + conv(1, 8, 2 * 5)
    assert cost.parameters(flow(4)) == cost.parameters(base) + field


def test_noise_of_a_window_is_that_of_the_image():
    key = jax.random.key(7)
    whole = pixel_noise(key, np.array([0, 0]), (9, 11, 12))
    window = pixel_noise(key, np.array([3, 5]), (4, 6, 12))
    assert np.array_equal(whole[3:7, 5:11], window)
    assert np.unique(whole).size == whole.size
    many = np.asarray(pixel_noise(key, np.array([100, 2000]), (40, 40, 48)))
    assert abs(many.mean()) < 0.02 and many.std() == pytest.approx(1, abs=0.02)
    neighbours = np.corrcoef(many[:, 1:].ravel(), many[:, :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.02


@pytest.mark.parametrize("size", [(40, 61), (5, 70)])
def test_tiles_have_the_sample_of_the_whole_image(size):
    sampler = sampler_of(flow())
    params, lr = random_params(flow()), noise(*size, 3)
    assert sampler.radius == 1 + 2 + 1 + 4 * (1 + 2 + 1)
    drawn = Noise(jax.random.key(3), 0.7)
    whole = upscale(sampler, params, lr, noise=drawn, tile=128)
    tiled = upscale(sampler, params, lr, noise=drawn, tile=48)
    np.testing.assert_allclose(tiled, whole, atol=2e-6 * max(1, np.abs(whole).max()))
    assert not np.array_equal(whole, upscale(sampler, params, lr, noise=Noise(jax.random.key(4), 0.7)))
    calm = [upscale(sampler, params, lr, noise=Noise(jax.random.key(k), 0.0)) for k in (3, 4)]
    assert np.array_equal(*calm)


def test_receptive_field_of_a_sample_reaches_no_further_than_its_radius():
    """Of LR and of noise: beyond the radius nothing changes, at it something does."""
    module = flow(flow_blocks=1)
    sampler, params = sampler_of(module), random_params(module)
    radius = sampler.radius
    x = np.zeros((1, 3, 2 * radius + 3, sampler.input_channels), np.float32)
    before = apply(sampler, params, x)
    moved = x.copy()
    moved[0, :, 0] += 1
    change = np.abs(np.asarray(apply(sampler, params, moved) - before)).max((0, 1, 3))
    reached = np.flatnonzero(change)[-1] // module.scale
    assert reached <= radius


def test_spread_must_be_above_zero():
    with pytest.raises(UserError, match=r"model\.spread must be above 0, not -1"):
        flow(spread=-1.0)
