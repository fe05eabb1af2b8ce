"""What networks cost, against published figures, a formula by hand, and XLA."""

import sys

import jax
import jax.numpy as jnp
import pytest

from wdsr_jax import summary
from wdsr_jax.errors import UserError
from wdsr_jax.models import cost, create_model

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


def test_layers_are_in_order_and_add_up(monkeypatch, capsys):
    module = create_model(dict(name="wdsr_a", scale=2, filters=4, blocks=1, expansion=2))
    found = cost.layers(module)
    assert [layer.name for layer in found] == ["skip", "head", "block_0.expand", "block_0.project", "tail"]
    first = found[0]
    assert (first.kernel_size, first.inputs, first.outputs, first.parameters) == (5, 3, 12, 924)
    assert first.activations == 12 * 640 * 360
    arguments = "--config=configs/x2.py --config.model.filters=4 --config.model.blocks=1"
    monkeypatch.setattr(sys, "argv", ["summary", *arguments.split(), "--config.model.expansion", "2"])
    summary.main()
    out = capsys.readouterr().out
    for layer in found:
        assert layer.name in out
    total = out.splitlines()[-1]
    assert f" {sum(layer.parameters for layer in found):,} |" in total
    assert "9x9" in total  # 2 * (1 + 2 + 1) + 1


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


def test_all_networks_and_scales_in_one_table(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["summary", "--all"])
    monkeypatch.setattr(summary, "_SCALES", (2, 4))  # the others take as long again
    monkeypatch.setattr(cost, "xla_multiply_adds", lambda module: 0.0)  # as does this
    summary.main()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    cells = {(row[0], row[1]): row[2:] for row in rows[2:]}
    assert len(cells) == len(cost.PUBLISHED) * 2 - 1
    assert cells["SRResNet", "x4"][0] == "1,547,350"
    assert cells["EDRN", "x1"][-1] == "the image"
    assert cells["EDSR baseline", "x2"][0] == "1,369,859"
    assert cells["EDSR", "x2"][0] == "40,729,603"
    assert cells["WDSR-A 16x32", "x4"][0] == "1,203,312"
    assert cells["WDSR-A 16x32", "x4"][-1] == "69x69"
    assert cells["WDSR-A 32x128", "x2"][0] == "37,808,180"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --config"),
        (["--all", "--config=configs/x2.py"], "give either --config"),
        (["--all", "--config.model.blocks=2"], "--all takes no other"),
        (["--config=configs/none.py"], "there is no file configs/none.py"),
    ],
)
def test_mistakes(arguments, message, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["summary", *arguments])
    with pytest.raises(UserError, match=message):
        summary.main()
