"""What all networks have in common: how they are made, transformed, cut into tiles, kept and exported."""

import functools
import subprocess
import sys
import typing

import jax
import jax.export
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.models.networks import LOCAL, TINY, apply, model, noise, tiny
from tests.numpy_wdsr import random_params
from wdsr_jax.errors import UserError
from wdsr_jax.inference.network import apply_padded
from wdsr_jax.inference.tiles import upscale
from wdsr_jax.models import _NETWORKS, create_model, model_keys
from wdsr_jax.weights.exports import to_stablehlo
from wdsr_jax.weights.store import load_pretrained, save_weights, start_from

padded = jax.jit(apply_padded, static_argnums=0)
NAMES, NORMS = ["wdsr_a", "wdsr_b", "edsr"], ["weight", "batch", "none"]


def test_jit_vmap_and_pmap_equal_the_batch():
    module, lr = model(), noise(4, 5, 6, 3)
    params = random_params(module)
    one = functools.partial(apply, module)
    expected = one(params, lr)
    by_vmap = jax.vmap(lambda image: one(params, image[None])[0])(lr)
    by_pmap = jax.pmap(one, in_axes=(None, 0))(params, lr.reshape(2, 2, 5, 6, 3))
    assert len(by_pmap.sharding.device_set) == 2
    for result in (jax.jit(one)(params, lr), by_vmap, by_pmap.reshape(expected.shape)):
        np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["wdsr_a", "wdsr_b", "edsr", *LOCAL, "edrn"])
def test_a_batch_over_a_mesh_of_explicit_axes_equals_the_batch(name):
    """The default mesh of `jax.make_mesh`, under which each operation has to know its sharding."""
    module = model(name) if name in NAMES else tiny(name, scale=1 if name == "edrn" else 2)
    params, lr = random_params(module), noise(2, 8, 8, 3)
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        sharded = jax.device_put(lr, NamedSharding(mesh, PartitionSpec("batch")))
        sr = apply(module, jax.device_put(params, NamedSharding(mesh, PartitionSpec())), sharded)
        assert jax.typeof(sr).sharding.spec[0] == "batch"
    np.testing.assert_allclose(sr, apply(module, params, lr), atol=1e-6)


def test_a_single_image_or_other_shapes_are_refused_by_every_network():
    """In a process of its own: in this one the annotations refuse them before."""
    code = """
import jax.numpy as jnp
from wdsr_jax.models import _NETWORKS, create_model
import jax
for name in _NETWORKS:
    module = create_model(dict(name=name, scale=1 if name == "edrn" else 2, filters=4, blocks=1))
    for shape in ((5, 6, 3), (1, 5, 6, 4), (1, 5, 6), (6, 3)):
        try:
            jax.eval_shape(module.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
        except ValueError as error:
            print(error)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    lines = found.splitlines()
    assert len(lines) == 4 * len(_NETWORKS)
    assert all(line.startswith("lr must be (B, H, W, 3), not (") for line in lines)
    assert lines[0] == "lr must be (B, H, W, 3), not (5, 6, 3); a single image needs an axis before: lr[None]"


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.dtype("bfloat16"), "bfloat16"])
@pytest.mark.parametrize("name", _NETWORKS)
def test_a_dtype_may_be_one_or_its_name(name, dtype):
    module = create_model(TINY | dict(name=name, scale=1 if name == "edrn" else 2, dtype=dtype))
    assert module.dtype == jnp.bfloat16
    sr = jax.eval_shape(lambda lr: module.init_with_output(jax.random.key(0), lr)[0], jnp.zeros((1, 6, 7, 3)))
    assert sr.dtype == jnp.float32


@pytest.mark.parametrize("size, tile", [((40, 9), 1), ((23, 37), 4), ((1, 30), 2)])
@pytest.mark.parametrize("name", LOCAL)
def test_tiles_equal_the_whole_image(name, size, tile):
    module = tiny(name)
    params, lr = random_params(module), noise(*size, 3)
    sr = upscale(module, params, lr, tile=2 * module.radius + tile)
    np.testing.assert_allclose(sr, apply(module, params, lr[None])[0], atol=1e-5)


@pytest.mark.parametrize("name", LOCAL)
def test_each_padded_image_equals_apply_alone(name):
    module = tiny(name, scale=3)
    params, lr = random_params(module), np.full((2, 9, 8, 3), 1e3, np.float32)
    sizes = np.array([(4, 8), (1, 3)])
    for i, (h, w) in enumerate(sizes):
        lr[i, :h, :w] = noise(h, w, 3, seed=i)
    sr = padded(module, params, lr, sizes)
    for i, (h, w) in enumerate(sizes):
        expected = apply(module, params, lr[i : i + 1, :h, :w])[0]
        np.testing.assert_allclose(sr[i, : 3 * h, : 3 * w], expected, atol=1e-5)


@pytest.mark.parametrize("name", [*LOCAL, "edrn"])
def test_weights_come_back(name, tmp_path):
    fields = TINY | dict(name=name, scale=1 if name == "edrn" else 3)
    if name == "deconvolution":
        fields |= dict(name="edsr", upsampler=name)
    module = create_model(fields)
    params = random_params(module)
    save_weights(tmp_path / "a.safetensors", fields, params)
    loaded, again = load_pretrained(tmp_path / "a.safetensors")
    assert loaded == module
    jax.tree.map(np.testing.assert_array_equal, again, params)
    fresh = jax.tree.map(np.zeros_like, params)
    jax.tree.map(np.testing.assert_array_equal, start_from(fresh, tmp_path / "a.safetensors"), params)


@pytest.mark.parametrize(
    "name",
    [*LOCAL[1:], pytest.param("edrn", marks=pytest.mark.ci)],  # both SRCNNs are one class
)
def test_stablehlo_computes_the_same(name):
    module = tiny(name, 1 if name == "edrn" else 2)
    params, lr = random_params(module), noise(1, 5, 3, 3)
    network = jax.export.deserialize(to_stablehlo(module, params, "n"))
    np.testing.assert_allclose(network.call(lr), apply(module, params, lr), atol=2e-5)


def test_create_model_takes_a_config():
    config = ml_collections.ConfigDict(
        dict(name="wdsr_b", scale=3, mean=[0.5, 0.4, 0.3], dtype="bfloat16", low_rank_ratio=0.5)
    )
    module = create_model(config)
    assert (module.block, module.scale, module.mean) == ("b", 3, (0.5, 0.4, 0.3))
    assert module.dtype == jnp.bfloat16
    assert hash(module) == hash(create_model(config))  # it can be a static argument
    assert config.name == "wdsr_b"  # the config is left as it was


@pytest.mark.parametrize(
    "fields, message",
    [
        (
            dict(name="srcnn"),
            f"model.name must be one of {', '.join(_NETWORKS)}, not 'srcnn'",
        ),
        (dict(norm="group"), "model.norm must be one of weight, batch, none, not 'group'"),
        (dict(dtype="float16"), "model.dtype must be one of float32, bfloat16, not 'float16'"),
        (dict(g_init="two"), "model.g_init must be one of official, norm, ones, not 'two'"),
        (dict(scale=0), "model.scale must be a whole number and at least 1, not 0"),
        (dict(scale=2.0), "model.scale must be a whole number and at least 1, not 2.0"),
        (dict(blocks="16"), "model.blocks must be a whole number and at least 1, not '16'"),
        (dict(filters=-1), "model.filters must be a whole number and at least 1, not -1"),
        (dict(expansion=None), "model.expansion must be a whole number and at least 1, not None"),
        (dict(res_scale=float("nan")), "model.res_scale must be a number, not nan"),
        (dict(mean=(0.4, 0.4)), "model.mean must be three numbers, R, G and B in [0, 1], not (0.4, 0.4)"),
        (dict(mean=0.5), "model.mean must be three numbers, R, G and B in [0, 1], not 0.5"),
        (
            dict(name="wdsr_b", low_rank_ratio=0.1),
            "model.low_rank_ratio=0.1 of filters=6 leaves no channel",
        ),
    ],
)
def test_create_model_names_the_key_and_the_choices(fields, message):
    with pytest.raises(UserError) as raised:
        model(**fields)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(name="rdn", scale=2, growth=0), "model.growth must be a whole number and at least 1, not 0"),
        (
            dict(name="edsr", scale=2, upsampler="bilinear"),
            "model.upsampler must be one of pixel_shuffle, deconvolution, not 'bilinear'",
        ),
    ],
)
def test_create_model_refuses_values_that_cannot_work(fields, message):
    with pytest.raises(UserError) as raised:
        create_model(fields)
    assert str(raised.value).startswith(message)


def test_create_model_takes_a_dtype_as_such():
    assert model(dtype=jnp.bfloat16) == model(dtype="bfloat16") == model(dtype=jnp.dtype("bfloat16"))
    with pytest.raises(UserError, match=r"model\.dtype must be one of float32, bfloat16, not 'int32'"):
        model(dtype=jnp.int32)


def test_create_model_names_missing_and_unknown_keys():
    with pytest.raises(UserError, match=r"model\.name is missing"):
        create_model(dict(scale=2))
    with pytest.raises(UserError, match=r"model\.scale is missing"):
        create_model(dict(name="wdsr_a"))
    with pytest.raises(UserError, match=r"model\.filtres: no such key; there are name, .*filters"):
        model(filtres=3)


def test_the_keys_are_the_fields_of_the_networks():
    keys = model_keys()
    assert keys["name"] is str
    # At least, so that a network that is added brings its own keys without a line here.
    assert {key for key, kind in keys.items() if kind is int} >= {
        *("scale", "filters", "blocks", "expansion", "layers", "growth")
    }
    assert {key for key, kind in keys.items() if kind is float} >= {"low_rank_ratio", "res_scale"}
    assert keys["mean"] == tuple[float, float, float]
    choices = {key: typing.get_args(kind) for key, kind in keys.items() if key in ("norm", "dtype")}
    assert choices == {"norm": ("weight", "batch", "none"), "dtype": ("float32", "bfloat16")}
    assert not keys.keys() & {"block", "middle", "axis_name", "convolve", "groups", "parent"}


# --- networks from outside the package ------------------------------------------------------------

OUTSIDE = """
from typing import Literal
import flax.linen as nn
import jax.numpy as jnp
from wdsr_jax.models.wdsr import WDSR

class Nearest(nn.Module):
    scale: int
    heads: int
    sharpness: float = 1.0
    kind: Literal["soft", "hard"] = "soft"
    radius = 0

    @nn.compact
    def __call__(self, lr):
        return self.sharpness * jnp.repeat(jnp.repeat(lr, self.scale, 1), self.scale, 2)

class Wide(WDSR):
    expansion: int = 6

class NoScale(nn.Module):
    radius = 0

class NoRadius(nn.Module):
    scale: int

def function(scale): ...
"""


@pytest.fixture
def outside(tmp_path, monkeypatch):
    (tmp_path / "outside_net.py").write_text(OUTSIDE)
    (tmp_path / "broken_net.py").write_text("raise RuntimeError('two\\nlines')")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("outside_net", None)


@pytest.mark.usefixtures("outside")
def test_a_network_from_outside_is_imported_where_that_is_allowed():
    fields = dict(name="outside_net:Nearest", scale=2, heads=3, sharpness=0.5, blocks=4)
    with pytest.raises(UserError, match=r"model\.name=outside_net:Nearest: is no network of wdsr_jax"):
        create_model(fields)
    assert "outside_net" not in sys.modules  # nothing was imported
    module = create_model(fields, allow_import=True)
    assert (module.scale, module.heads, module.sharpness, module.kind) == (2, 3, 0.5, "soft")
    np.testing.assert_array_equal(apply(module, {}, np.ones((1, 2, 2, 3), np.float32)), 0.5)
    keys = model_keys("outside_net:Nearest")
    assert {key: keys[key] for key in keys.keys() - model_keys().keys()} == {
        "heads": int,
        "sharpness": float,
        "kind": typing.Literal["soft", "hard"],
    }
    wide = create_model(dict(name="outside_net:Wide", scale=2, block="b"), allow_import=True)
    assert (wide.expansion, wide.block, wide.filters) == (6, "b", 32)


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(name="outside_net:Nearest"), "model.heads is missing"),
        (
            dict(name="outside_net:Nearest", heads=0),
            "model.heads must be a whole number and at least 1, not 0",
        ),
        (
            dict(name="outside_net:Nearest", heads=1, kind="x"),
            "model.kind must be one of soft, hard, not 'x'",
        ),
        (dict(name="outside_net:Nearest", head=1), "model.head: no such key; there are name, scale"),
        (
            dict(name="outside_net:None_"),
            "model.name=outside_net:None_: outside_net has no class None_ that is a Flax module",
        ),
        (dict(name="outside_net:function"), "model.name=outside_net:function: outside_net has no class"),
        (dict(name="outside_net:NoScale"), "model.name=outside_net:NoScale: has no field `scale: int`"),
        (dict(name="outside_net:NoRadius"), "model.name=outside_net:NoRadius: has no `radius`"),
        (
            dict(name="no_such_net:Net"),
            "model.name=no_such_net:Net: ModuleNotFoundError: No module named 'no_such_net'",
        ),
        (dict(name="broken_net:Net"), "model.name=broken_net:Net: RuntimeError: two lines"),
        (dict(name=":Net"), "model.name=:Net: ValueError: Empty module name"),
    ],
)
def test_what_is_wrong_with_a_network_from_outside_is_named_in_one_line(fields, message):
    with pytest.raises(UserError) as raised:
        create_model(dict(scale=2) | fields, allow_import=True)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)
