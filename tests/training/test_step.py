"""The training step against NumPy, over devices and micro-batches, and where the loss is not finite."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.numpy_wdsr import random_params
from tests.training.meshes import MESHES, in_a_mesh
from tests.training.trees import assert_close, assert_same_bits
from wdsr_jax.data.online import degrade_share, margin_of
from wdsr_jax.data.settings import parse_online
from wdsr_jax.image.resize import imresize
from wdsr_jax.models import create_model
from wdsr_jax.models.layers import Conv
from wdsr_jax.training import step as steps
from wdsr_jax.training.losses import l1, l2, shift_tolerant
from wdsr_jax.training.optim import create_optimizer

RATE, EMA = 0.05, 0.6


class Affine(nn.Module):
    """x2 by repetition, times a, plus b: its gradient is a sum that NumPy can write down."""

    @nn.compact
    def __call__(self, lr):
        a = self.param("a", nn.initializers.ones, (3,))
        b = self.param("b", nn.initializers.zeros, (3,))
        return lr.repeat(2, 1).repeat(2, 2) * a[None, None, None] + b[None, None, None]


class Dropout(nn.Module):
    """Affine with half of the pixels dropped."""

    @nn.compact
    def __call__(self, lr):
        return nn.Dropout(0.5, deterministic=False)(Affine()(lr))


WDSR = create_model(dict(name="wdsr_a", scale=2, filters=4, blocks=1, expansion=2, g_init="norm"))


def batch_of(seed, size=4, largest=254):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.integers(0, largest + 1, shape, dtype=np.uint8)  # noqa: E731
    return {"lr": draw(size, 3, 4, 3), "hr": draw(size, 6, 8, 3)}


def start(module, optimizer, ema=True):
    # Copies: a step donates them.
    params = jax.tree.map(jnp.copy, random_params(module)) if module is WDSR else steps.init_params(module, 0)
    return steps.create_state(params, optimizer, ema)


def options_of(module, grad_clip=0.0, **options):
    defaults = dict(optimizer=create_optimizer(lambda _: RATE, grad_clip), loss=l1, seed=7, ema_decay=EMA)
    return dict(module=module) | defaults | options


@functools.cache  # tests share compilations
def jitted(module, **options):
    options = options_of(module, **options)
    return options["optimizer"], jax.jit(functools.partial(steps.train_step, **options))


@functools.cache
def on_two_devices(module, **options):
    options = options_of(module, **options)
    return options["optimizer"], steps.parallel_train_step(**options)


@pytest.mark.parametrize("grad_clip", [0.0, 0.01])
def test_three_steps_equal_numpy(grad_clip):
    optimizer, step = jitted(Affine(), loss=l2, grad_clip=grad_clip)
    state = start(Affine(), optimizer)
    p, ema = {"a": np.ones(3), "b": np.zeros(3)}, {"a": np.ones(3), "b": np.zeros(3)}
    m, v = ({k: np.zeros(3) for k in p} for _ in range(2))
    for i in range(3):
        batch = batch_of(i)
        state, metrics = step(state, batch)

        x = (batch["lr"] / 255.0).repeat(2, 1).repeat(2, 2)
        d = x * p["a"] + p["b"] - batch["hr"] / 255.0
        grads = {"a": 2 * (d * x).sum((0, 1, 2)) / d.size, "b": 2 * d.sum((0, 1, 2)) / d.size}
        norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
        assert float(metrics["loss"]) == pytest.approx((d**2).mean(), rel=1e-5)
        assert float(metrics["grad_norm"]) == pytest.approx(norm, rel=1e-4)  # before clipping
        decay = min(EMA, (1 + i) / (10 + i))
        for k in p:
            g = grads[k] * (min(1, grad_clip / norm) if grad_clip else 1)
            m[k], v[k] = 0.9 * m[k] + 0.1 * g, 0.999 * v[k] + 0.001 * g**2
            m_hat, v_hat = m[k] / (1 - 0.9 ** (i + 1)), v[k] / (1 - 0.999 ** (i + 1))
            p[k] = p[k] - RATE * m_hat / (np.sqrt(v_hat) + 1e-8)
            ema[k] = decay * ema[k] + (1 - decay) * p[k]
        assert_close(state.params, p, atol=3e-6)
        assert_close(state.ema_params, ema, atol=3e-6)
    assert int(state.step) == 3
    assert int(state.skipped) == int(state.skipped_in_row) == 0


def test_average_reaches_the_decay_asked_for():
    optimizer, step = jitted(Affine())
    state = start(Affine(), optimizer).replace(step=jnp.asarray(1000))
    new, _ = step(state, batch_of(0))
    expected = jax.tree.map(lambda e, p: EMA * e + (1 - EMA) * p, state.ema_params, new.params)
    assert_close(new.ema_params, expected)


def test_no_average_where_none_is_wanted():
    optimizer, step = jitted(Affine())
    with_ema, _ = step(start(Affine(), optimizer), batch_of(0))
    without, _ = step(start(Affine(), optimizer, ema=False), batch_of(0))
    assert without.ema_params is None
    assert_same_bits(without.params, with_ema.params)


# Not Adam: where a gradient is 0 but for rounding, it makes a whole step of it.
SGD = optax.sgd(0.1)


def two_steps(optimizer, step, place=lambda batch: batch):
    state, metrics = start(WDSR, optimizer), []
    for i in range(2):
        state, values = step(state, place(batch_of(i)))
        metrics.append({name: float(values[name]) for name in ("loss", "grad_norm", "skipped_in_row")})
    return jax.device_get(state), metrics


def test_micro_batches_change_rounding_only():
    whole, whole_metrics = two_steps(*jitted(WDSR, optimizer=SGD))
    parts, parts_metrics = two_steps(*jitted(WDSR, optimizer=SGD, micro_batches=4))
    assert_close(parts, whole, atol=1e-6)
    assert_close(parts_metrics, whole_metrics, atol=1e-6)


@pytest.mark.parametrize(("grad_accum", "micro_batches"), [(4, 1), (2, 2)])
def test_accumulated_gradients_are_those_of_the_undivided_batch(grad_accum, micro_batches):
    whole, whole_metrics = two_steps(*jitted(WDSR, optimizer=SGD))
    options = dict(optimizer=SGD, grad_accum=grad_accum, micro_batches=micro_batches)
    parts, parts_metrics = two_steps(*jitted(WDSR, **options))
    assert_close(parts, whole, atol=1e-6)
    assert_close(parts_metrics, whole_metrics, atol=1e-6)


@pytest.mark.ci
def test_the_best_shift_of_an_image_is_its_own_however_the_batch_is_split():
    options = dict(optimizer=SGD, shift=1)
    whole, whole_metrics = two_steps(*jitted(WDSR, **options))
    assert whole_metrics[0]["loss"] < two_steps(*jitted(WDSR, optimizer=SGD))[1][0]["loss"]
    for parts, parts_metrics in (
        two_steps(*jitted(WDSR, **options, grad_accum=2, micro_batches=2)),
        two_steps(*on_two_devices(WDSR, **options, micro_batches=2), steps.shard),
    ):
        assert_close(parts, whole, atol=1e-6)
        assert_close(parts_metrics, whole_metrics, atol=1e-6)


def test_the_guide_is_lr_enlarged():
    optimizer, step = jitted(WDSR, optimizer=SGD, shift=1)
    state, batch = start(WDSR, optimizer), batch_of(0)
    lr, hr = (jnp.asarray(batch[name] / 255, jnp.float32) for name in ("lr", "hr"))
    guide = np.stack([imresize(image, 2) for image in np.asarray(lr)])
    expected = shift_tolerant(l1, 1)(WDSR.apply({"params": state.params}, lr), hr, guide)
    assert float(step(state, batch)[1]["loss"]) == pytest.approx(float(expected), rel=1e-5)


def test_accumulation_saves_memory():
    """The features of a quarter of the batch at a time: XLA plans for far less temporary memory."""
    batch = {"lr": np.zeros((16, 24, 24, 3), np.uint8), "hr": np.zeros((16, 48, 48, 3), np.uint8)}

    def planned(grad_accum):
        optimizer, step = jitted(WDSR, grad_accum=grad_accum)
        return step.lower(start(WDSR, optimizer), batch).compile().memory_analysis().temp_size_in_bytes

    assert planned(4) < 0.5 * planned(1)


def test_a_device_that_is_to_stop_tells_all():
    optimizer, step = on_two_devices(WDSR)
    state, metrics = step(start(WDSR, optimizer), steps.shard(batch_of(0)))
    assert int(metrics["stop"]) == 0
    _, metrics = step(state, steps.shard(batch_of(1)), True)
    assert int(metrics["stop"]) == 1


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_two_devices_change_rounding_only(micro_batches):
    whole, whole_metrics = two_steps(*jitted(WDSR, optimizer=SGD))
    step = on_two_devices(WDSR, optimizer=SGD, micro_batches=micro_batches)
    split, split_metrics = two_steps(*step, steps.shard)
    assert_close(split, whole, atol=1e-6)
    assert_close(split_metrics, whole_metrics, atol=1e-6)


@pytest.mark.parametrize(("norm", "grad_accum"), [("weight", 1), ("weight", 2), ("batch", 1)])
@pytest.mark.parametrize("kind", MESHES)
def test_a_mesh_changes_rounding_only(kind, norm, grad_accum):
    module = WDSR.clone(norm=norm)
    options = dict(module=module, optimizer=SGD, loss=l1, seed=0, ema_decay=0.9, grad_accum=grad_accum)
    state, batch = start(module, SGD), batch_of(0)
    expected, metrics = steps.parallel_train_step(**options)(start(module, SGD), steps.shard(batch))
    result, others = in_a_mesh(kind, functools.partial(steps.train_step, **options))(state, batch)
    assert_close(jax.device_get(result), jax.device_get(expected), atol=1e-6)
    assert float(others["loss"]) == pytest.approx(float(metrics["loss"]), abs=1e-6)


def test_lr_made_on_two_devices_is_that_of_one():
    settings = parse_online("online,clean=0,noise=2:8")
    degrade = functools.partial(degrade_share, seed=3, scale=2, settings=settings)
    side = (4 + 2 * margin_of(2, settings)) * 2
    hr = np.random.default_rng(0).integers(0, 255, (4, side, side, 3), dtype=np.uint8)
    optimizer, step = jitted(Affine(), optimizer=SGD)
    whole = start(Affine(), optimizer)
    _, parallel = on_two_devices(Affine(), optimizer=SGD, degrade=degrade)
    split = start(Affine(), optimizer)
    for i in range(2):
        batch = jax.jit(degrade)(hr, jnp.asarray(i), jnp.asarray(0))
        whole, metrics = step(whole, batch)
        split, parts = parallel(split, steps.shard({"hr": hr}))
        assert float(parts["loss"]) == pytest.approx(float(metrics["loss"]), abs=1e-6)
    assert_close(split, whole, atol=1e-6)


def test_state_is_donated_and_comes_back_unstacked():
    optimizer, step = on_two_devices(WDSR)
    first, _ = step(start(WDSR, optimizer), steps.shard(batch_of(0)))
    shapes = jax.tree.map(jnp.shape, first)
    second, _ = step(first, steps.shard(batch_of(1)))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first))
    assert jax.tree.map(jnp.shape, second) == shapes == jax.tree.map(jnp.shape, start(WDSR, optimizer))
    # As a checkpoint gives it back: host arrays.
    third, _ = step(jax.device_get(second), steps.shard(batch_of(2)))
    assert int(third.step) == 3


NORMED = {
    name: create_model(dict(name=name, scale=2, filters=4, blocks=1, expansion=2, norm="batch"))
    for name in ("wdsr_a", "wdsr_b", "edsr")
}


@pytest.mark.parametrize(
    "name", [name if name == "wdsr_a" else pytest.param(name, marks=pytest.mark.ci) for name in NORMED]
)
def test_batch_norm_over_two_devices_equals_one(name):
    module = NORMED[name]

    def run(optimizer, step, place=lambda batch: batch):
        state, metrics = start(module, optimizer), []
        for i in range(2):
            state, values = step(state, place(batch_of(i)))
            metrics.append({name: float(values[name]) for name in ("loss", "grad_norm", "skipped_in_row")})
        return jax.device_get(state), metrics

    whole, whole_metrics = run(*jitted(module, optimizer=SGD))
    split, split_metrics = run(*on_two_devices(module, optimizer=SGD), steps.shard)
    assert_close(split, whole, atol=1e-5)
    assert_close(split_metrics, whole_metrics, atol=1e-5)


def test_batch_norm_moves_its_statistics_as_the_average_does():
    module, batch = NORMED["wdsr_a"], batch_of(0)
    optimizer, step = jitted(module)
    state, params = start(module, optimizer), steps.init_params(module, 0)
    new, _ = step(state, batch)
    # What the first convolution of the block gives, by the layer before it alone and without its norm.
    without = {name: leaf for name, leaf in params["block_0"]["expand"].items() if name in ("kernel", "bias")}
    mean = np.asarray(module.mean, np.float32)
    head = Conv(4, 3, "none").apply({"params": params["head"]}, batch["lr"].astype(np.float32) / 255 - mean)
    y = np.asarray(Conv(8, 3, "none").apply({"params": without}, head), np.float64)
    measured = {"mean": y.mean((0, 1, 2)), "var": y.var((0, 1, 2))}
    for name, initial in {"mean": 0, "var": 1}.items():
        moved = 0.9 * initial + 0.1 * measured[name]
        np.testing.assert_allclose(new.params["block_0"]["expand"][name], moved, atol=1e-6)
        averaged = initial + (1 - 0.1) * (moved - initial)  # the decay of step 0 is 1 / 10
        np.testing.assert_allclose(new.ema_params["block_0"]["expand"][name], averaged, atol=1e-6)


def test_batch_norm_keeps_its_statistics_in_a_step_that_is_skipped():
    optimizer, step = jitted(NORMED["wdsr_a"], loss=nan_loss)
    good, bad = good_and_bad()
    before, _ = step(start(NORMED["wdsr_a"], optimizer), good)
    after, metrics = step(before, bad)
    assert int(metrics["skipped_in_row"]) == 1
    assert_same_bits(after.params, before.params)
    assert_same_bits(after.ema_params, before.ema_params)


def test_batch_norm_is_not_split_into_micro_batches():
    assert steps.count_micro_batches(NORMED["wdsr_a"], 16) == 1
    optimizer, step = jitted(NORMED["wdsr_a"], micro_batches=2)
    with pytest.raises(ValueError, match="micro_batches must be 1"):
        step(start(NORMED["wdsr_a"], optimizer), batch_of(0))


# A pixel of 255 in HR marks a bad batch.


def nan_loss(sr, hr):
    return l1(sr, hr) + jnp.where(hr.max() == 1, jnp.nan, 0)


def inf_loss(sr, hr):
    return l1(sr, hr) / jnp.where(hr.max() == 1, 0, 1)


def nan_gradient(sr, hr):
    zero = 0 * jnp.sum(sr)
    return l1(sr, hr) + jnp.sqrt(jnp.where(hr.max() == 1, zero, 1))  # sqrt(0), whose slope is 0 * inf


def good_and_bad():
    good, bad = batch_of(0), batch_of(1)
    bad["hr"][3, 2, 2, 1] = 255
    return good, bad


@pytest.mark.parametrize("loss", [nan_loss, inf_loss, nan_gradient])
@pytest.mark.parametrize("devices", [1, 2])
def test_non_finite_step_is_skipped_and_counted(loss, devices):
    good, bad = good_and_bad()
    if devices == 1:
        optimizer, step = jitted(Affine(), loss=loss, grad_clip=1.0)
    else:  # the bad pixel is on the second device alone
        optimizer, step = on_two_devices(Affine(), loss=loss)
        good, bad = steps.shard(good), steps.shard(bad)
    state, _ = step(start(Affine(), optimizer), good)
    before = jax.device_get(state)

    after = state
    for n in (1, 2):
        after, metrics = step(after, bad)
        assert np.isfinite(metrics["loss"]) == (loss is nan_gradient)
        assert not np.isfinite(metrics["loss"] + metrics["grad_norm"])
        assert int(metrics["skipped_in_row"]) == n
        host = jax.device_get(after)
        assert (host.step, host.skipped, host.skipped_in_row) == (1 + n, n, n)
        for kept in ("params", "ema_params", "opt_state"):
            assert_same_bits(getattr(host, kept), getattr(before, kept))

    again, metrics = step(after, good)
    assert np.isfinite(metrics["loss"])
    assert (int(again.step), int(again.skipped), int(again.skipped_in_row)) == (4, 2, 0)
    # It goes on as if the bad ones had never been, but for the step.
    expected, _ = step(jax.tree.map(jnp.asarray, before.replace(step=np.int32(3))), good)
    for same in ("params", "ema_params", "opt_state"):
        assert_same_bits(getattr(again, same), getattr(expected, same))


def test_key_of_a_step_is_of_seed_and_step_alone():
    optimizer, step = jitted(Dropout(), micro_batches=2)
    state, batch = start(Dropout(), optimizer), batch_of(0)
    losses = []
    for i in (0, 5, 0):
        _, metrics = step(state.replace(step=jnp.asarray(i)), batch)
        losses.append(float(metrics["loss"]))
        expected = []
        for part in range(2):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), i), part)
            half = slice(2 * part, 2 * part + 2)
            lr = batch["lr"][half].astype(np.float32) / 255
            sr = np.asarray(Dropout().apply({"params": state.params}, lr, rngs={"dropout": key}))
            assert 0.2 < (sr == 0).mean() < 0.8
            expected.append(np.abs(sr - batch["hr"][half] / 255).mean())
        assert losses[-1] == pytest.approx(np.mean(expected), rel=1e-5)
    assert losses[0] == losses[2] != losses[1]


def test_state_is_of_the_seed_and_its_buffers_its_own():
    optimizer = optax.adam(1e-3)
    first, again, other = (steps.init_params(Conv(4, 3), seed)["kernel"] for seed in (3, 3, 4))
    assert_same_bits(first, again)
    assert not np.array_equal(first, other)
    state = start(WDSR, optimizer)
    assert_same_bits(state.params, state.ema_params)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(pointers)) == len(pointers)
    assert int(state.step) == 0


def test_shard_keeps_the_order():
    batch = batch_of(0, size=6)
    sharded = steps.shard(batch)
    assert sharded["lr"].shape == (2, 3, 3, 4, 3)
    for key, value in batch.items():
        np.testing.assert_array_equal(np.concatenate(sharded[key]), value)


def test_micro_batches_divide_the_batch(monkeypatch):
    counts = {1: 1, 2: 2, 7: 7, 12: 12, 16: 16, 17: 1, 32: 16, 34: 2, 36: 12, 64: 16}
    assert {n: steps.count_micro_batches(WDSR, n) for n in counts} == counts
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert steps.count_micro_batches(WDSR, 16) == 1
