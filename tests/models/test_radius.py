"""The receptive field of every network is what its `radius` says: tiles rely on it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.numpy_wdsr import random_params
from wdsr_jax import models
from wdsr_jax.models import create_model, model_keys
from wdsr_jax.models.srresnet import SRResNet

pytestmark = pytest.mark.usefixtures("compile_cache")

apply = jax.jit(lambda module, params, lr: module.apply({"params": params}, lr), static_argnums=0)
# Every count is small, whatever the fields of a network are called.
TINY = {key: 2 for key, kind in model_keys().items() if kind is int} | dict(norm="none")
MORE = [
    *(dict(name=name, blocks=3) for name in ("wdsr_a", "wdsr_b")),
    *(dict(name="srcnn_915", scale=scale) for scale in (3, 4, 8)),
    *(dict(name="srcnn_955", scale=scale) for scale in (3, 4)),
    *(dict(name="edsr", scale=scale, blocks=1) for scale in (3, 4, 6, 8)),
    *(dict(name="edsr", scale=scale, blocks=1, upsampler="deconvolution") for scale in (2, 3, 4)),
    *(
        dict(name=name, scale=scale, blocks=1)
        for name in ("srresnet", "msrresnet", "srdensenet", "rdn")
        for scale in (3, 4)
    ),
    dict(name="rdn", scale=2, blocks=1, upnet="espcn"),
    dict(name="rdn", scale=3, blocks=1, upnet="espcn_nearest"),
    dict(name="srcnn_915", scale=2, channels="luma_full"),
]


def measured_reach(module):
    """Whether the outputs of the centre LR pixel depend on pixels beyond the radius, and on those at it.

    Returns:
        Whether they depend on any pixel more than `radius` away; and, above, below, left and right, whether
        they depend on the row or column at that distance.
    """
    # All weights are positive, so that nothing cancels and no ReLU closes.
    params = jax.tree.map(lambda leaf: abs(leaf) + 0.1, random_params(module))
    radius, scale = module.radius, module.scale
    side = 2 * radius + 7
    centre = side // 2
    distance = abs(np.arange(side) - centre)
    beyond = (distance[:, None] > radius) | (distance[None, :] > radius)
    changes = [np.zeros((side, side)), beyond]
    for pixel in (centre - radius, centre + radius):
        row = np.zeros((side, side))
        row[pixel] = 1
        changes += [row, row.T]
    # Noise, on which bicubic's weights do not add up to 0.
    image = np.random.default_rng(0).uniform(size=(side, side, 1))
    lr = image + np.stack(changes)[..., None] + np.zeros(3)
    cell = slice(centre * scale, (centre + 1) * scale)
    sr = np.asarray(apply(module, params, jnp.asarray(lr, jnp.float32)))[:, cell, cell]
    moved = abs(sr[1:] - sr[:1]).max((1, 2, 3)) > 2e-6 * abs(sr).max()
    return bool(moved[0]), moved[1:].tolist()


@pytest.mark.parametrize(
    "fields",
    [*(dict(name=name) for name in models._NETWORKS), *MORE],
    ids=lambda fields: "-".join(map(str, fields.values())),
)
def test_an_output_pixel_depends_on_the_radius_and_no_further(fields):
    only_scale = dict(scale=1) if fields["name"] == "edrn" else {}
    module = create_model(TINY | fields | only_scale)
    if module.radius is None:
        assert sees_the_farthest_corner(module)
    else:
        beyond, at_radius = measured_reach(module)
        assert not beyond
        assert at_radius == [True] * 4


def sees_the_farthest_corner(module, side=32):
    """Whether the first output pixel depends on the last LR pixel."""
    lr = np.repeat(np.random.default_rng(0).uniform(0.2, 0.8, (1, side, side, 3)), 2, axis=0)
    lr[1, -1, -1] += 10  # means over the image divide it by side**2
    sr = np.asarray(apply(module, random_params(module), jnp.asarray(lr, jnp.float32)))[:, 0, 0]
    return bool((abs(sr[1] - sr[0]) > 2e-6 * abs(sr).max()).any())


class TooSmall(SRResNet):
    radius = property(lambda self: SRResNet.radius.fget(self) - 1)


class TooLarge(SRResNet):
    radius = property(lambda self: SRResNet.radius.fget(self) + 1)


def test_a_wrong_radius_is_found():
    fields = dict(scale=2, filters=2, blocks=1, norm="none")
    assert measured_reach(SRResNet(**fields)) == (False, [True] * 4)
    assert measured_reach(TooSmall(**fields)) == (True, [True] * 4)
    assert measured_reach(TooLarge(**fields)) == (False, [False] * 4)
