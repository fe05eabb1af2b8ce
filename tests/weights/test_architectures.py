"""What is read off the shapes of files, and what is said of sizes that no network here has."""

import numpy as np
import pytest

from wdsr_jax.errors import UserError
from wdsr_jax.models import create_model
from wdsr_jax.weights.architectures import architecture, describe, low_rank_ratio, shuffle_factors
from wdsr_jax.weights.conversion import param_shapes
from wdsr_jax.weights.families import FAMILIES, Counts
from wdsr_jax.weights.layouts import layout_of, their_shape
from wdsr_jax.weights.tensors import Head

LEAVES = {True: dict(kernel=".weight", bias=".bias"), False: dict(kernel="/kernel", bias="/bias")}
# By network: a config, the counts that the names of its layers tell, and what it is called.
CONFIGS = {
    "wdsr": (
        dict(name="wdsr_a", scale=3, filters=6, blocks=2, expansion=4, norm="none"),
        Counts(2),
        "WDSR-A x3, 2 blocks, 6 filters, expansion 4",
    ),
    "edsr": (
        dict(name="edsr", scale=4, filters=6, blocks=2, norm="none"),
        Counts(2, 0, 2),
        "EDSR x4, 2 blocks, 6 filters",
    ),
    "msrresnet": (
        dict(name="msrresnet", scale=3, filters=6, blocks=2),
        Counts(2, 0, 1),
        "MSRResNet x3, 2 blocks, 6 filters",
    ),
    "srcnn": (
        dict(name="srcnn_955", filters=8, channels="rgb", scale=2),
        Counts(),
        "SRCNN 9-5-5 x2 on rgb, 8 filters",
    ),
    "rdn": (
        dict(name="rdn", filters=6, blocks=2, layers=3, growth=4, scale=2),
        Counts(2, 3, 1),
        "RDN x2, 2 blocks, 6 filters, 3 layers of 4 in a block",
    ),
}


def file_of(family, **fields):
    """The heads of a network's tensors under the names of a project, and the layout."""
    config, counts, _ = CONFIGS[family.network]
    layout = layout_of(family, counts, LEAVES[family.torch])
    heads = {}
    for name, shape in param_shapes(create_model(config | fields)).items():
        heads[layout.name(name)] = Head(their_shape(shape, name, layout), np.dtype("<f4"), 4)
    return heads, layout


def row(project, network):
    return next(f for f in FAMILIES if project in f.project and f.network == network)


PLAIN = [f for f in FAMILIES if "block_{i}.reduce" not in f.parts and "up_2" not in f.parts]


@pytest.mark.parametrize("family", PLAIN, ids=lambda family: f"{family.project} {family.network}")
def test_a_network_is_read_off_its_shapes(family):
    config, _, words = CONFIGS[family.network]
    scale = config["scale"] if family.network == "srcnn" else None
    assert architecture("w", *file_of(family), scale) == config
    assert describe(config) == words


def test_rank_luma_and_the_upsampler_of_idealo():
    family = next(f for f in FAMILIES if "block_{i}.reduce" in f.parts)
    config = architecture("w", *file_of(family, name="wdsr_b", low_rank_ratio=0.6))
    assert config["name"] == "wdsr_b" and int(config["low_rank_ratio"] * 6) == 3
    for project, luma in (("yjn870", "luma_studio"), ("khanu263", "luma_full")):
        config = architecture("w", *file_of(row(project, "srcnn"), channels=luma), 3)
        assert config["channels"] == luma and describe(config) == "SRCNN 9-5-5 x3 on luma, 8 filters"
    for upnet in ("espcn", "espcn_nearest"):
        config = architecture("w", *file_of(row("idealo", "rdn"), upnet=upnet))
        assert config == CONFIGS["rdn"][0] | dict(upnet=upnet)


@pytest.mark.parametrize(
    "project, network, kernels, scale, message",
    [
        (
            "yjn870",
            "srcnn",
            {},
            None,
            "w: an SRCNN, which does not say for which scale it is; give --scale=N",
        ),
        ("BasicSR", "edsr", {}, 2, "--scale=2: w is a network for x4"),
        ("BasicSR", "msrresnet", {"upconv1": (30, 6, 3, 3)}, None, "30 channels behind 6"),
        ("yjn870", "srcnn", {"conv2": (4, 8, 3, 3)}, 2, "an SRCNN 9-3-5; 9-1-5 and 9-5-5 are supported"),
        ("yjn870", "srcnn", {"conv1": (8, 2, 9, 9)}, 2, "an SRCNN on 2 channels"),
        ("RDN-pytorch", "rdn", {"upscale.0": (16, 6, 3, 3)}, None, "16 channels behind 6"),
        ("idealo", "rdn", {"UPN3": (3, 3, 32, 13)}, None, "13 channels at the end"),
    ],
)
def test_sizes_that_do_not_work(project, network, kernels, scale, message):
    heads, layout = file_of(row(project, network), **(dict(upnet="espcn") if project == "idealo" else {}))
    for layer, shape in kernels.items():
        width = shape[0] if layout.torch else shape[3]
        for leaf, sides in (("kernel", shape), ("bias", (width,))):
            heads[layer + layout.leaves[leaf]] = Head(sides, np.dtype("<f4"), 4)
    with pytest.raises(UserError) as caught:
        architecture("w", heads, layout, scale)
    assert message in str(caught.value)


@pytest.mark.parametrize("shape", [(), (2, 3), (9, 3, 3, 3)])
def test_what_the_other_tensors_say_counts(shape):
    """A tensor that does not fit is named when shapes are compared."""
    heads, layout = file_of(row("2020", "wdsr"))
    heads["body.0.weight"] = Head(shape, np.dtype("<f4"), 4)
    assert architecture("w", heads, layout) == CONFIGS["wdsr"][0]


def test_pixel_shuffles_follow_the_upsampler():
    assert shuffle_factors(dict(name="wdsr_b", scale=3)) == {"tail": 3, "skip": 3}
    assert shuffle_factors(dict(name="edsr", scale=8)) == {"up_0": 2, "up_1": 2, "up_2": 2}
    assert shuffle_factors(dict(name="rdn", scale=3)) == {"up_0": 3}


def test_every_low_rank_width_has_a_ratio():
    for filters in range(1, 130):
        for rank in range(1, 2 * filters):
            assert int(low_rank_ratio(rank, filters) * filters) == rank
    assert low_rank_ratio(25, 32) == 0.8
