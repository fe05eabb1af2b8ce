"""Flow matching: WDSR stays, parts and devices change rounding only, runs resume, what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.numpy_wdsr import random_params
from tests.tiny import tiny_config
from tests.training.meshes import in_a_mesh
from tests.training.tiny_runs import assert_same_state, state_of, stop_before_step, terminate
from tests.training.trees import assert_close, assert_same_bits
from wdsr_jax.errors import UserError
from wdsr_jax.evaluation.benchmark import super_resolve
from wdsr_jax.models import create_model
from wdsr_jax.training import flow, optim
from wdsr_jax.training import step as steps
from wdsr_jax.training.config import check_config
from wdsr_jax.training.loop import train_and_evaluate
from wdsr_jax.weights.store import load_pretrained

MODULE = create_model(
    dict(name="wdsr_flow", scale=2, filters=4, blocks=1, expansion=2, flow_filters=5, flow_blocks=1)
)


@functools.cache
def options_of():
    optimizer = optim.create_optimizer(lambda step: 1e-2, grad_clip=1.0)
    return dict(module=MODULE, optimizer=optimizer, seed=7, ema_decay=0.6)


def start():
    params = jax.tree.map(jnp.array, random_params(MODULE))  # which a step donates
    return steps.create_state(params, options_of()["optimizer"], True)


def batch_of(seed, count=4):
    rng = np.random.default_rng(seed)
    return {
        "lr": rng.integers(0, 256, (count, 6, 6, 3), np.uint8),
        "hr": rng.integers(0, 256, (count, 12, 12, 3), np.uint8),
    }


def test_the_velocity_learns_and_wdsr_stays():
    step = jax.jit(functools.partial(flow.train_step, **options_of()))
    before = state = start()
    _, first = step(state, batch_of(0))
    for _ in range(100):
        state, _ = step(state, batch_of(0))
    assert_same_bits(state.params["base"], before.params["base"])
    assert_close(state.ema_params["base"], before.params["base"], atol=1e-6)
    assert not np.array_equal(state.params["field"]["tail"]["scale"], before.params["field"]["tail"]["scale"])
    _, last = step(before.replace(params=state.params), batch_of(0))  # with the noise of the first
    assert float(last["loss"]) < 0.9 * float(first["loss"])


def test_the_loss_is_that_of_numpy():
    """Residuals by hand, noise and times as `draw` gives them."""
    params, batch = random_params(MODULE), batch_of(1)
    _, metrics = jax.jit(functools.partial(flow.train_step, **options_of()))(start(), batch)
    key = jax.random.fold_in(jax.random.key(7), 0)
    x0, t = map(np.asarray, flow.draw(key, jnp.zeros((), jnp.int32), 4, (6, 6, 12)))
    lr, hr = (batch[name].astype(np.float32) / 255 for name in ("lr", "hr"))
    sr = np.asarray(MODULE.apply({"params": params}, lr))
    cells = (hr - sr).reshape(4, 6, 2, 6, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(4, 6, 6, 12)
    x1, time = cells / MODULE.spread, t[:, None, None, None]
    x = jnp.asarray((1 - time) * x0 + time * x1)
    found = MODULE.apply({"params": params}, x, jnp.asarray(t), lr, jnp.asarray(sr), method="velocity")
    assert float(metrics["loss"]) == pytest.approx(np.mean(np.square(found - (x1 - x0))), rel=1e-5)


def test_parts_and_devices_change_rounding_only():
    """Noise and time of an image go with its place in the whole batch."""
    step = functools.partial(flow.train_step, **options_of())
    whole, metrics = jax.jit(step)(start(), batch_of(0))
    parts, in_parts = jax.jit(functools.partial(step, micro_batches=2))(start(), batch_of(0))
    two = flow.parallel_train_step(**options_of())
    split, halves = two(start(), steps.shard(batch_of(0)))
    mesh, in_mesh = in_a_mesh("shard_map", step)(start(), batch_of(0))
    for state, others in ((parts, in_parts), (split, halves), (mesh, in_mesh)):
        for name, value in metrics.items():
            assert float(others[name]) == pytest.approx(float(value), rel=1e-5), name
        assert_close(jax.device_get(state), jax.device_get(whole), atol=1e-5)


def test_a_step_that_is_not_finite_is_skipped():
    before = start()
    bad = jax.tree.map(lambda leaf: leaf * np.nan, before.params["field"]["tail"])
    before = before.replace(params={**before.params, "field": {**before.params["field"], "tail": bad}})
    after, _ = jax.jit(functools.partial(flow.train_step, **options_of()))(before, batch_of(0))
    assert_same_bits(after.opt_state, before.opt_state)
    assert int(after.skipped) == 1


# --- whole runs -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory, photos, image_cache, compile_cache):
    workdir = tmp_path_factory.mktemp("wdsr")
    assert train_and_evaluate(tiny_config(photos, image_cache), workdir) == 0
    return workdir


@pytest.fixture
def config(photos, image_cache, trained):
    config = tiny_config(photos, image_cache, train__loss="l2", train__init_from=str(trained))
    with config.unlocked():
        config.model.update(name="wdsr_flow", flow_filters=4, flow_blocks=1)
    return config


def test_stopped_and_resumed_equals_never_stopped(config, trained, tmp_path):
    assert train_and_evaluate(config, tmp_path / "whole") == 0
    with pytest.MonkeyPatch.context() as patch:
        stop_before_step(patch, 4, terminate)
        assert train_and_evaluate(config, tmp_path / "stopped") == 143
    assert train_and_evaluate(config, tmp_path / "stopped") == 0
    assert_same_state(state_of(tmp_path / "stopped"), state_of(tmp_path / "whole"))

    (plain, before), (module, after) = load_pretrained(trained), load_pretrained(tmp_path / "whole")
    assert_close(after["base"], before, atol=1e-6)
    lr = np.random.default_rng(0).uniform(size=(1, 7, 9, 3)).astype(np.float32)
    srs = [net.apply({"params": params}, lr) for net, params in ((plain, before), (module, after))]
    np.testing.assert_allclose(*srs, atol=1e-5)
    assert not (tmp_path / "whole" / "before_gan.safetensors").exists()

    again = tiny_config(config.data.root, config.data.cache_dir, train__loss="l2")
    with again.unlocked():
        again.model.update(config.model)
        again.train.init_from = str(tmp_path / "whole")
    drawn = steps.init_params(module, 0)
    assert flow.start_from_trained(drawn, again.train.init_from).keys() == {"base", "field"}
    with pytest.raises(UserError, match=r"another config: model.flow_blocks"):
        train_and_evaluate(tiny_config(config.data.root, config.data.cache_dir), tmp_path / "whole")
    with pytest.raises(UserError, match=r"another config: model.flow_blocks"):
        train_and_evaluate(config, trained)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("train.init_from", "", "config.train.init_from is missing: the flow is learnt around a trained net"),
        ("train.loss", "l1", "config.train.loss must be l2 with model.name=wdsr_flow, not l1"),
        ("train.grad_accum", 2, "config.train.grad_accum must be 1 with model.name=wdsr_flow, not 2"),
        ("train.shift_window", 1, "config.train.shift_window must be 0 with model.name=wdsr_flow, not 1"),
        ("model.norm", "batch", "config.model.norm must be weight or none for wdsr_flow, not 'batch'"),
        ("model.spread", 0.0, "config.model.spread must be above 0, not 0.0"),
    ],
)
def test_what_a_config_may_not_say(config, key, value, message):
    section, name = key.split(".")
    with config.unlocked():
        config[section][name] = value
    with pytest.raises(UserError) as error:
        check_config(config)
    assert str(error.value).startswith(message)


def test_a_discriminator_is_refused(config):
    with config.unlocked():
        config.gan = dict(adversarial="standard", perceptual="none", vgg="", filters=2)
        config.gan.update(adversarial_weight=1e-3, perceptual_weight=1.0, pixel_weight=1.0)
    with pytest.raises(UserError, match=r"config\.gan: model\.name=wdsr_flow is trained by flow matching"):
        check_config(config)


def test_another_network_is_no_start(config, tmp_path):
    config.model.filters = 6
    with pytest.raises(UserError, match=r"is another network than config\.model: block_0"):
        train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_validation_draws_the_same_sample_each_time(config, tmp_path):
    from wdsr_jax.training.setup import create_task, load_run_data

    task, data = create_task(config), load_run_data(config)
    params = task.init_state(config.train.init_from).params
    one, other = (next(super_resolve(task.module, params, data.val))[-1] for _ in range(2))
    assert np.array_equal(one, other)
