"""A sample: the same for the same seed, number and temperature, and LR when it is made small."""

from fractions import Fraction

import numpy as np

from tests.numpy_wdsr import random_params
from wdsr_jax.image.resize import imresize
from wdsr_jax.inference.sampling import draw_sample, noise_of
from wdsr_jax.inference.tiles import Tiling
from wdsr_jax.models import create_model

MODULE = create_model(
    dict(name="wdsr_flow", scale=2, filters=4, blocks=1, expansion=2, flow_filters=4, flow_blocks=1)
)


def test_samples_are_lr_when_made_small_and_do_not_depend_on_tiles():
    params = random_params(MODULE)
    for layer in (params["base"]["tail"], params["base"]["skip"], params["field"]["tail"]):
        layer["scale"] *= 0.05  # or samples would leave [0, 1]
    lr = imresize(np.random.default_rng(0).integers(90, 160, (30, 20, 3), np.uint8), 2)
    one = draw_sample(MODULE, params, lr, noise_of(3, 1, 0.8))
    assert np.abs(imresize(one, Fraction(1, 2)).astype(int) - lr).max() <= 1
    tiled = draw_sample(MODULE, params, lr, noise_of(3, 1, 0.8), [Tiling((40, 40), 2, filled=False)])
    assert np.abs(one.astype(int) - tiled).max() <= 1 and (one != tiled).mean() < 1e-3
    for other in (noise_of(4, 1, 0.8), noise_of(3, 2, 0.8), noise_of(3, 1, 0.4)):
        assert not np.array_equal(one, draw_sample(MODULE, params, lr, other))
