"""What networks cost, against published figures, a formula by hand, and XLA."""

import jax
import jax.numpy as jnp
import pytest

from tests.models.networks import tiny
from wdsr_jax.models import cost, create_model

pytestmark = pytest.mark.usefixtures("compile_cache")
EDSR = dict(name="edsr", norm="none")


@pytest.mark.parametrize(("scale", "published"), [(2, 316.3), (3, 160.2), (4, 114.0)])
def test_multiply_adds_of_the_edsr_baseline_are_the_published_ones(scale, published):
    module = create_model(EDSR | dict(scale=scale))
    assert cost.multiply_adds(module) / 1e9 == pytest.approx(published, rel=2.5e-3)


@pytest.mark.parametrize("norm", ["weight", "batch", "none"])
@pytest.mark.parametrize(
    "fields",
    [
        dict(name="wdsr_a", scale=3, filters=8, blocks=2, expansion=4),
        dict(name="wdsr_b", scale=4, filters=10, blocks=2, expansion=6),
        dict(name="edsr", scale=4, filters=8, blocks=2),
    ],
)
def test_multiply_adds_are_those_of_the_kernels(fields, norm):
    module = create_model(fields | dict(norm=norm))
    params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    flat = jax.tree.leaves_with_path(params)
    pixels = 1280 * 720 / module.scale**2
    expected = 0
    for path, leaf in flat:
        if path[-1].key == "kernel":
            resolution = {"up_1": 2, "tail": 4}.get(path[0].key, 1) if fields["name"] == "edsr" else 1
            expected += leaf.size * pixels * resolution**2
    assert cost.multiply_adds(module) == pytest.approx(expected)
    trained = [leaf.size for path, leaf in flat if path[-1].key not in ("mean", "var")]
    assert cost.parameters(module) == sum(trained)


@pytest.mark.parametrize("fields", [EDSR, dict(name="wdsr_a"), dict(name="wdsr_a", norm="batch", blocks=3)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_xla_counts_a_little_less_for_the_border(fields, scale):
    module = create_model(fields | dict(scale=scale))
    ratio = cost.xla_multiply_adds(module) / cost.multiply_adds(module)
    assert 0.99 < ratio < 1.005


def test_layers_are_in_order():
    module = create_model(dict(name="wdsr_a", scale=2, filters=4, blocks=1, expansion=2))
    found = cost.layers(module)
    assert [layer.name for layer in found] == ["skip", "head", "block_0.expand", "block_0.project", "tail"]
    first = found[0]
    assert (first.kernel_size, first.inputs, first.outputs, first.parameters) == (5, 3, 12, 924)
    assert first.activations == 12 * 640 * 360


@pytest.mark.parametrize(
    "fields",
    [
        dict(name="wdsr_a", scale=3, filters=4, blocks=3, expansion=2),
        dict(name="wdsr_b", scale=2, filters=4, blocks=3, norm="batch"),
        *(dict(name="edsr", scale=scale, filters=2, blocks=2) for scale in (2, 3, 4, 8)),
    ],
)
def test_receptive_fields_end_at_the_radius_of_the_network(fields):
    module = create_model(fields)
    found = cost.receptive_fields(module)
    assert list(found) == [layer.name for layer in cost.layers(module)]
    assert found["head"] == 3
    assert found["tail"] == 2 * module.radius + 1
    if fields["name"] == "wdsr_a":
        assert (found["skip"], found["block_0.expand"], found["block_2.project"]) == (5, 5, 15)
    if fields["name"] == "edsr":
        assert (found["body"], found["up_0"]) == (13, 15)


def test_the_published_networks_have_their_published_counts():
    counts = {
        ("EDSR baseline", 2): 1_369_859,
        ("EDSR", 2): 40_729_603,
        ("WDSR-A 16x32", 4): 1_203_312,
        ("WDSR-A 32x128", 2): 37_808_180,
    }
    for (name, scale), count in counts.items():
        assert cost.parameters(create_model(dict(scale=scale) | cost.PUBLISHED[name])) == count


@pytest.mark.ci
def test_a_row_a_network(monkeypatch):
    monkeypatch.setattr(cost, "xla_multiply_adds", lambda module: 0.0)  # it takes as long again
    names = {"SRResNet": 4, "WDSR-A 16x32": 4, "EDRN": 1}
    modules = [(name, create_model(dict(scale=s) | cost.PUBLISHED[name])) for name, s in names.items()]
    table = cost.network_table(modules).splitlines()
    rows = {cells[0]: cells[1:] for cells in ([c.strip() for c in row.split("|")[1:-1]] for row in table[2:])}
    assert rows["SRResNet"][:2] == ["x4", "1,547,350"]
    assert rows["WDSR-A 16x32"][:2] == ["x4", "1,203,312"] and rows["WDSR-A 16x32"][-1] == "69x69"
    assert rows["EDRN"][0] == "x1" and rows["EDRN"][-1] == "the image"


def test_multiply_adds_of_layers_that_change_the_resolution():
    found = {layer.name: layer for layer in cost.layers(tiny("edrn", 1, filters=64))}
    pixels = 1280 * 720
    assert found["head"].multiply_adds == 27 * 64 * pixels
    assert found["encoder_0"].multiply_adds == 9 * 64 * 128 * pixels / 4  # once a pixel of its output
    assert found["encoder_0"].activations == 128 * pixels / 4
    assert found["decoder_1"].multiply_adds == 9 * 128 * 64 * pixels / 4  # once a pixel of its input
    assert found["decoder_1"].activations == 64 * pixels
    assert found["level_0_group_0.block_0.attention.squeeze"].multiply_adds == 256 * 16
    assert cost.multiply_adds(tiny("srcnn_915", 3, filters=64)) == 20_000 * pixels


@pytest.mark.parametrize("name", ["srcnn_955", "srresnet", "srdensenet", "rdn"])
def test_receptive_fields_of_the_other_networks_end_at_the_radius(name):
    module = tiny(name, 2)
    fields = cost.receptive_fields(module)
    assert list(fields.values())[-1] == 2 * module.radius + 1
    assert list(fields) == [layer.name for layer in cost.layers(module)]
