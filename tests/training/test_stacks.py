"""Equal blocks as one array each: to and fro, the same step, the same files."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.numpy_wdsr import random_params
from tests.training.meshes import MESHES, in_a_mesh
from tests.training.tiny_runs import state_of, stop_before_step, terminate
from tests.training.trees import assert_close, assert_same_bits
from wdsr_jax.models import create_model
from wdsr_jax.models.discriminator import Discriminator
from wdsr_jax.training import adversarial, run, setup, stacks
from wdsr_jax.training import step as steps
from wdsr_jax.training.loop import train_and_evaluate
from wdsr_jax.training.losses import l1
from wdsr_jax.training.optim import create_optimizer
from wdsr_jax.training.stacks import stack_blocks, unstack_blocks

SGD = optax.sgd(0.1)  # Adam makes a whole step of a gradient that is 0 but for rounding
WDSR = create_model(dict(name="wdsr_a", scale=2, filters=4, blocks=3, expansion=2))


def state_for(module, optimizer=SGD):
    return steps.create_state(jax.tree.map(jnp.copy, random_params(module)), optimizer, ema=True)


def batch_of(size=4):
    draw = np.random.default_rng(0).integers
    shapes = {"lr": (size, 8, 8, 3), "hr": (size, 16, 16, 3)}
    return {name: draw(0, 256, shape, dtype=np.uint8) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    "fields",
    [
        dict(name="wdsr_a", filters=4, blocks=12),
        dict(name="edsr", filters=4, blocks=2),
        dict(name="edsr", filters=4, blocks=2, norm="batch"),
        dict(name="rdn", filters=4, blocks=2, layers=2, growth=4),
        dict(name="edrn", scale=1, filters=4, blocks=2, norm="weight"),  # blocks in groups
    ],
    ids=lambda fields: "-".join(map(str, fields.values())),
)
def test_unstacking_is_the_inverse_of_stacking(fields):
    module = create_model(dict(scale=2) | fields)
    params = jax.eval_shape(lambda: steps.init_params(module, 0))
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda x: random.normal(size=x.shape).astype(x.dtype), params)
    state = steps.create_state(params, create_optimizer(lambda _: 1e-3, grad_clip=1.0), ema=True)
    stacked = stack_blocks(state)
    assert_same_bits(unstack_blocks(stacked), state)
    fewer = len(jax.tree.leaves(stacked)) < len(jax.tree.leaves(state))
    assert fewer == (fields.get("norm") != "batch")
    on_host = unstack_blocks(jax.device_get(stacked))
    assert all(isinstance(leaf, np.ndarray | np.generic) for leaf in jax.tree.leaves(on_host))


def test_equal_blocks_are_one_and_others_stay():
    params = stack_blocks(random_params(WDSR))
    assert params.keys() == {"head", "block_*", "tail", "skip"}
    assert jax.tree.map(jnp.shape, params["block_*"]["expand"]) == {
        **{"kernel": (3, 3, 3, 4, 8), "scale": (3, 8), "bias": (3, 8)}
    }
    unequal = {"block_0": {"a": np.zeros(3)}, "block_1": {"a": np.zeros(4)}, "other_0": {"a": np.zeros(3)}}
    assert stack_blocks(unequal).keys() == unequal.keys()


@pytest.mark.parametrize("options", [{}, dict(grad_accum=2), dict(micro_batches=2), dict(shift=1)], ids=str)
def test_a_stacked_step_is_the_plain_step(options):
    step = jax.jit(
        functools.partial(
            steps.train_step, module=WDSR, optimizer=SGD, loss=l1, seed=0, ema_decay=0.9, **options
        )
    )
    plain, metrics = step(state_for(WDSR), batch_of())
    stacked, others = step(stack_blocks(state_for(WDSR)), batch_of())
    assert "block_*" in stacked.params
    assert_close(unstack_blocks(stacked), plain)
    assert_close(others, metrics)


@pytest.mark.parametrize("kind", MESHES)
def test_a_stacked_step_over_devices_is_the_plain_step(kind):
    step = functools.partial(steps.train_step, module=WDSR, optimizer=SGD, loss=l1, seed=0)
    plain, _ = jax.jit(step)(state_for(WDSR), batch_of())
    stacked, _ = in_a_mesh(kind, step)(stack_blocks(state_for(WDSR)), batch_of())
    assert_close(jax.device_get(unstack_blocks(jax.device_get(stacked))), jax.device_get(plain))


def test_a_stacked_step_with_a_discriminator_is_the_plain_step():
    judge = Discriminator(2)
    options = dict(module=WDSR, discriminator=judge, optimizer=SGD, loss=l1, seed=0, adversarial="standard")
    weights = adversarial.LossWeights(0.1, 0.0, 1.0)
    step = jax.jit(
        functools.partial(
            adversarial.train_step, vgg_params=None, perceptual="none", weights=weights, **options
        )
    )

    def start(params):
        return adversarial.create_state(params, SGD, ema=True, discriminator=judge, size=16, seed=0)

    params = random_params(WDSR)
    plain, _ = step(start(params), batch_of())
    stacked, _ = step(start(stack_blocks(params)), batch_of())
    assert_close(unstack_blocks(stacked), plain)


def test_cpus_have_no_stacks(monkeypatch):
    params = random_params(WDSR)
    assert stacks.stack_for_backend(params) is params
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "block_*" in stacks.stack_for_backend(params)


@pytest.mark.parametrize("first", ["plain", "stacked"])
def test_a_run_goes_on_from_a_checkpoint_of_either_kind(config, tmp_path, monkeypatch, first):
    config.model.update(blocks=2)
    assert train_and_evaluate(config, tmp_path / "whole") == 0

    def go_on(kind):
        with monkeypatch.context() as patch:
            if kind == "stacked":
                patch.setattr(setup, "stack_for_backend", stack_blocks)
                patch.setattr(run, "stack_for_backend", stack_blocks)
            if kind == first:
                stop_before_step(patch, 4, terminate)
            return train_and_evaluate(config, tmp_path / "parts")

    kinds = ["plain", "stacked"]
    assert go_on(first) == 143
    assert go_on(kinds[1 - kinds.index(first)]) == 0
    whole, parts = state_of(tmp_path / "whole"), state_of(tmp_path / "parts")
    assert whole.keys() == parts.keys()  # `block_0` and `block_1`, in params and moments
    assert {path[1].key for path in whole if path[0].key == "params"} >= {"block_0", "block_1"}
    for path, leaf in whole.items():
        np.testing.assert_allclose(parts[path], leaf, atol=1e-6, err_msg=str(path))
