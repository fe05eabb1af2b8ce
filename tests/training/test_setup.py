"""From a config to a task: the state it starts from, and what the kinds of training differ in."""

import jax
import numpy as np
import pytest

from configs.quickstart import get_config
from configs.srgan import get_config as get_gan_config
from wdsr_jax.errors import UserError
from wdsr_jax.training.setup import batch_options, create_task
from wdsr_jax.weights.store import save_weights


def tiny(config):
    config.model.update(blocks=1, filters=4)
    config.data.update(patch_size=8, batch_size=4)
    return config


@pytest.fixture
def gan_config():
    config = tiny(get_gan_config())
    config.gan.update(perceptual="none", filters=2)
    return config


def test_the_shapes_of_a_task_are_those_of_its_state(gan_config):
    for config in (tiny(get_config()), gan_config):
        task = create_task(config)
        state = jax.eval_shape(lambda x: x, task.init_state(""))
        assert task.shapes == state
        assert task.keeps_best == ("gan" not in config)
    assert task.shapes.d_params and task.module.scale == gan_config.model.scale


def test_a_state_starts_from_weights_or_from_the_seed(tmp_path):
    config = tiny(get_config())
    task = create_task(config)
    state = task.init_state("")
    moved = jax.tree.map(lambda x: x + 1, state.params)
    save_weights(tmp_path / "w.safetensors", config.model.to_dict(), moved)
    started = task.init_state(str(tmp_path / "w.safetensors"))
    jax.tree.map(np.testing.assert_array_equal, started.params, moved)
    assert int(started.step) == 0


def test_a_discriminator_wants_the_whole_network(gan_config, tmp_path):
    small = tiny(get_config())
    save_weights(tmp_path / "w.safetensors", small.model.to_dict(), create_task(small).init_state("").params)
    with pytest.raises(UserError):
        create_task(gan_config).init_state(str(tmp_path / "w.safetensors"))


def test_one_process_gets_the_whole_batch():
    config = tiny(get_config())
    assert batch_options(config) == dict(
        patch_size=8, margin=0, batch_size=4, seed=0, process_index=0, process_count=1, workers=0
    )
