"""The networks against a NumPy implementation in float64, their counts, and JAX's transformations."""

import functools
import sys
import typing

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import numpy_wdsr
from tests.numpy_wdsr import random_params
from wdsr_jax.errors import UserError
from wdsr_jax.models import _NETWORKS, count_params, create_model, fold_weight_norm, model_keys
from wdsr_jax.models.layers import normalise, pixel_shuffle

pytestmark = pytest.mark.usefixtures("compile_cache")

SMALL = dict(filters=6, blocks=2, expansion=3, res_scale=0.7, norm="weight", g_init="norm")
NAMES, NORMS = ["wdsr_a", "wdsr_b", "edsr"], ["weight", "batch", "none"]


def model(name="wdsr_a", scale=2, **fields):
    return create_model(dict(SMALL, name=name, scale=scale) | fields)


def noise(*shape, seed=1):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)  # op by op it would compile each operation
def apply(module, params, lr):
    return module.apply({"params": params}, lr)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale, size", [(2, (1, 1)), (2, (1, 7)), (3, (5, 3)), (4, (6, 9))])
def test_forward_pass_equals_numpy(name, scale, size):
    module = model(name, scale)
    lr = noise(2, *size, 3)
    sr = apply(module, random_params(module), lr)
    assert sr.shape == (2, size[0] * scale, size[1] * scale, 3)
    assert sr.dtype == jnp.float32
    np.testing.assert_allclose(sr, numpy_wdsr.forward(module, random_params(module), lr), atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("name", NAMES)
def test_forward_pass_with_other_norms_equals_numpy(name, norm):
    module, lr = model(name, norm=norm), noise(2, 4, 5, 3)
    params = random_params(module)
    normalised = {layer.split(".")[0] for layer in flatten_dict(params, sep=".") if layer.endswith("mean")}
    inner = {"block_0", "block_1"} | ({"body"} if name == "edsr" else set())
    assert normalised == (inner if norm == "batch" else set())
    np.testing.assert_allclose(apply(module, params, lr), numpy_wdsr.forward(module, params, lr), atol=1e-5)


@pytest.mark.parametrize("scale", [5, 6, 8])
def test_edsr_enlarges_by_any_scale(scale):
    module, lr = model("edsr", scale), noise(1, 3, 4, 3)
    sr = apply(module, random_params(module), lr)
    np.testing.assert_allclose(sr, numpy_wdsr.forward(module, random_params(module), lr), atol=1e-5)


def test_output_is_not_clipped():
    module = model()
    params = random_params(module)
    bias = jnp.asarray(np.resize([5, -5], 12), jnp.float32)
    sr = apply(module, params | {"skip": params["skip"] | {"bias": bias}}, noise(1, 4, 4, 3))
    assert sr.min() < -3
    assert sr.max() > 3


@pytest.mark.parametrize("name", NAMES)
def test_gradients_equal_finite_differences_of_numpy(name):
    module = model(name)
    params, lr, hr = random_params(module), noise(1, 4, 5, 3), noise(1, 8, 10, 3, seed=2)
    loss = lambda p: jnp.mean(jnp.square(apply(module, p, lr) - hr))  # noqa: E731
    grads = flatten_dict(jax.jit(jax.grad(loss))(params))
    flat = {name: np.asarray(leaf, np.float64) for name, leaf in flatten_dict(params).items()}
    rng = np.random.default_rng(3)
    for name, leaf in flat.items():
        index = tuple(rng.integers(0, leaf.shape))
        losses = []
        for step in (1e-6, -1e-6):
            moved = leaf.copy()
            moved[index] += step
            losses.append(
                np.mean((numpy_wdsr.forward(module, unflatten_dict(flat | {name: moved}), lr) - hr) ** 2)
            )
        slope = (losses[0] - losses[1]) / 2e-6
        assert grads[name][index] == pytest.approx(slope, rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize(
    "fields, count",
    [
        (dict(scale=2), 1_190_100),
        (dict(scale=3), 1_195_605),
        (dict(scale=4), 1_203_312),
        (dict(scale=2, filters=128, blocks=32), 37_808_180),
        (dict(scale=3, filters=128, blocks=32), 37_826_645),
        (dict(scale=4, filters=128, blocks=32), 37_852_496),
        (dict(scale=2, name="wdsr_b", filters=64, blocks=1, expansion=6), 84_250),
        (dict(scale=2, name="edsr"), 1_369_859),  # what PyTorch counts in the authors' code
        (dict(scale=2, name="edsr", norm="weight"), 1_372_294),
        (dict(scale=3, name="edsr"), 1_554_499),
        (dict(scale=4, name="edsr"), 1_517_571),
        (dict(scale=2, name="edsr", filters=256, blocks=32, res_scale=0.1), 40_729_603),
        (dict(scale=2, name="edsr", blocks=1), 262_019),
        (dict(scale=2, name="edsr", blocks=3), 409_731),
        (dict(scale=2, name="edsr", blocks=5), 557_443),
        (dict(scale=2, name="edsr", blocks=8), 779_011),
        # beta is in the place of a bias, gamma one more scalar a channel; statistics do not count
        (dict(scale=2, name="edsr", norm="batch"), 1_369_859 + 33 * 64),
    ],
)
def test_number_of_trainable_scalars(fields, count):
    module = create_model({"name": "wdsr_a"} | fields)  # 16 blocks of 32 filters where it says nothing
    params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    assert count_params(params) == count


@pytest.mark.parametrize(
    "name, inner", [("wdsr_a", ("expand", "project")), ("wdsr_b", ("expand", "reduce", "project"))]
)
def test_parameters_have_readable_names(name, inner):
    layers = {"head", "tail", "skip"} | {f"block_{i}.{conv}" for i in range(2) for conv in inner}
    expected = {f"{layer}.{leaf}" for layer in layers for leaf in ("kernel", "scale", "bias")}
    assert set(flatten_dict(random_params(model(name)), sep=".")) == expected


@pytest.mark.parametrize("name", ["wdsr_a", "wdsr_b"])
@pytest.mark.parametrize("g_init", ["official", "norm", "ones"])
def test_initial_g(name, g_init):
    module = model(name, blocks=3, g_init=g_init)
    params = jax.jit(module.init)(jax.random.key(1), jnp.zeros((1, 8, 8, 3)))["params"]
    convs = flatten_dict(params, is_leaf=lambda _, node: "kernel" in node, sep=".")
    for layer, conv in convs.items():
        v = np.asarray(conv["kernel"])
        bound = 1 / np.sqrt(np.prod(v.shape[:3]))  # PyTorch's default for a convolution
        assert 0.9 * bound < np.abs(v).max() <= bound
        assert not conv["bias"].any()
        if g_init == "norm":
            np.testing.assert_allclose(normalise(conv["kernel"], conv["scale"]), v, atol=1e-7)
        else:
            official = {"expand": 2.0, "project": 3**-0.5}.get(layer.split(".")[-1], 1.0)
            expected = official if g_init == "official" else 1.0
            np.testing.assert_allclose(conv["scale"], np.full(v.shape[-1], expected), rtol=1e-6)


def test_weight_norm_is_over_all_but_the_output_channel():
    v, g = noise(3, 3, 4, 5) - 0.5, noise(5)
    w = np.asarray(normalise(v, g))
    np.testing.assert_allclose(np.sqrt((w**2).sum((0, 1, 2))), g, rtol=1e-6)
    np.testing.assert_allclose(w, v * (g / np.sqrt((v.astype(np.float64) ** 2).sum((0, 1, 2)))), rtol=1e-6)


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_pixel_shuffle_equals_loops(r, b, h, w, c):
    x = noise(b, h, w, c * r * r)
    np.testing.assert_array_equal(
        jax.jit(pixel_shuffle, static_argnums=1)(x, r), numpy_wdsr.pixel_shuffle(x, r).astype(np.float32)
    )


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NAMES)
def test_folding_changes_no_output(name, norm):
    module, lr = model(name, norm=norm), noise(2, 7, 5, 3)
    plain, folded = model(name, norm="none"), jax.jit(fold_weight_norm)(random_params(module))
    assert {leaf.split(".")[-1] for leaf in flatten_dict(folded, sep=".")} == {"kernel", "bias"}
    np.testing.assert_allclose(
        apply(plain, folded, lr), apply(module, random_params(module), lr), atol=1e-5, rtol=0
    )
    jax.tree.map(np.testing.assert_array_equal, fold_weight_norm(folded), folded)


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(inner, "eqns"):
                yield from equations(getattr(inner, "jaxpr", inner))


@pytest.mark.parametrize("name, convs", [("wdsr_a", 7), ("wdsr_b", 9), ("edsr", 8)])
def test_bfloat16_convolves_in_bfloat16_and_normalises_in_float32(name, convs):
    module, lr = model(name, dtype="bfloat16"), noise(1, 6, 6, 3)
    params = random_params(module)
    created = jax.eval_shape(module.init, jax.random.key(0), lr)["params"]
    assert {leaf.dtype for leaf in jax.tree.leaves(created)} == {jnp.dtype(jnp.float32)}

    by_name = {}
    for equation in equations(jax.make_jaxpr(functools.partial(apply, module))(params, lr).jaxpr):
        by_name.setdefault(equation.primitive.name, []).append(equation)
    products = by_name["conv_general_dilated"] + by_name.get("dot_general", [])  # the latter are of 1x1
    assert len(products) == convs
    for conv in products:
        assert {v.aval.dtype for v in (*conv.invars, *conv.outvars)} == {jnp.dtype(jnp.bfloat16)}
    # One sum of squares, root and quotient a convolution.
    for primitive in ("reduce_sum", "sqrt", "div"):
        assert len(by_name[primitive]) == convs
        for equation in by_name[primitive]:
            assert {v.aval.dtype for v in (*equation.invars, *equation.outvars)} == {jnp.dtype(jnp.float32)}

    sr, exact = apply(module, params, lr), apply(model(name), params, lr)
    assert sr.dtype == jnp.float32
    difference = np.abs(sr - exact).max()
    assert 1e-5 < difference < 0.02 * np.abs(exact).max()


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


@pytest.mark.parametrize("name, radius", [("wdsr_a", 1 + 2 * 3 + 1), ("wdsr_b", 3 + 2)])
def test_radius_counts_the_layers(name, radius):
    assert model(name, blocks=3).radius == radius  # measured in test_radius


def test_integers_are_refused_where_the_mean_would_vanish():
    with pytest.raises(TypeError, match=r"float in \[0, 1\], not uint8"):
        apply(model(), random_params(model()), np.zeros((1, 4, 4, 3), np.uint8))


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
