"""The parts that networks share: weight norm, pixel shuffle, bfloat16, and what is folded."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import numpy_wdsr
from tests.models.networks import apply, model, noise, tiny
from tests.numpy_wdsr import random_params
from wdsr_jax.inference.network import fold_for_inference
from wdsr_jax.models import fold_weight_norm
from wdsr_jax.models.layers import normalise, pixel_shuffle, relu

NAMES, NORMS = ["wdsr_a", "wdsr_b", "edsr"], ["weight", "batch", "none"]


def test_weight_norm_is_over_all_but_the_output_channel():
    v, g = noise(3, 3, 4, 5) - 0.5, noise(5)
    w = np.asarray(normalise(v, g))
    np.testing.assert_allclose(np.sqrt((w**2).sum((0, 1, 2))), g, rtol=1e-6)
    np.testing.assert_allclose(w, v * (g / np.sqrt((v.astype(np.float64) ** 2).sum((0, 1, 2)))), rtol=1e-6)


def test_a_filter_of_zeros_under_weight_norm_is_finite_and_can_learn():
    v, g = noise(3, 3, 4, 5) - 0.5, noise(5)
    v[..., 2] = 0
    w, pull = jax.vjp(normalise, v, g)
    assert not w[..., 2].any() and np.isfinite(w).all()
    by_v, by_g = pull(jnp.ones_like(w))
    assert np.isfinite(by_v).all() and np.isfinite(by_g).all()
    np.testing.assert_allclose(by_v[..., 2], g[2])
    module = model("wdsr_a")
    params = jax.tree.map(jnp.asarray, random_params(module))  # a tree of its own
    params["block_0"]["expand"]["kernel"] = params["block_0"]["expand"]["kernel"].at[..., 1].set(0)
    lr = noise(1, 6, 6, 3)
    sr, pull = jax.vjp(lambda p: apply(module, p, lr), params)
    assert np.isfinite(sr).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(pull(jnp.ones_like(sr))))


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_pixel_shuffle_equals_loops(r, b, h, w, c):
    x = noise(b, h, w, c * r * r)
    np.testing.assert_array_equal(
        jax.jit(pixel_shuffle, static_argnums=1)(x, r), numpy_wdsr.pixel_shuffle(x, r).astype(np.float32)
    )


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


def test_integers_are_refused_where_the_mean_would_vanish():
    with pytest.raises(TypeError, match=r"float in \[0, 1\], not uint8"):
        apply(model(), random_params(model()), np.zeros((1, 4, 4, 3), np.uint8))


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


@pytest.mark.parametrize("norm", ["batch", "weight", "none"])
@pytest.mark.parametrize("name", ["srresnet", "deconvolution", "edrn"])
def test_folding_for_inference_changes_no_output(name, norm):
    if name == "edrn" and norm == "batch":
        return
    module = tiny(name, scale=1 if name == "edrn" else 2, norm=norm)
    params, lr = random_params(module), noise(2, 8, 7, 3)
    plain, folded = fold_for_inference(module, params)
    leaves = {leaf.split(".")[-1] for leaf in flatten_dict(folded, sep=".")}
    assert leaves - {"slope"} == {"kernel", "bias"} | ({"scale"} if name == "edrn" else set())
    expected = apply(module, params, lr)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(apply(plain, folded, lr), expected, atol=1e-5, rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, fold_weight_norm(folded), folded)


def test_relu_is_that_of_jax_and_keeps_no_input():
    x = jnp.array([-2.0, -0.0, 0.0, 1e-30, 3.0, jnp.inf])
    for of in (lambda f: f(x), lambda f: jax.vjp(f, x)[1](x + 1)[0], lambda f: jax.jvp(f, [x], [x + 1])[1]):
        np.testing.assert_array_equal(of(relu), of(jax.nn.relu))
    assert np.isnan(relu(jnp.array(jnp.nan)))
    _, vjp_fn = jax.vjp(relu, x)
    assert all(
        (np.asarray(leaf) >= 0).all() for leaf in jax.tree.leaves(vjp_fn)
    )  # what is kept for the gradient
