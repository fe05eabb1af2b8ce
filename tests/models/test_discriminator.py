"""The discriminator of SRGAN."""

import jax
import jax.numpy as jnp

from wdsr_jax.models import count_params
from wdsr_jax.models.discriminator import Discriminator


def test_the_discriminator_has_the_papers_parameters():
    params = jax.eval_shape(Discriminator().init, jax.random.key(0), jnp.zeros((1, 96, 96, 3)))["params"]
    convolutions = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    count = sum(9 * i * o + o for i, o in convolutions) + sum(o for _, o in convolutions[1:])  # and gammas
    count += 6 * 6 * 512 * 1024 + 1024 + 1024 + 1
    assert count_params(params) == count
