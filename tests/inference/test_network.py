"""Padded batches give what each image alone gives, on every device; folded networks are the same networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental.layout import Format

from tests import numpy_wdsr
from tests.numpy_wdsr import random_params
from wdsr_jax.inference import network
from wdsr_jax.inference.network import (
    Batch,
    apply_batches,
    apply_padded,
    compile_network,
    fold_for_inference,
    memory_needed,
    parallel_apply,
)
from wdsr_jax.models import create_model

pytestmark = pytest.mark.usefixtures("compile_cache")
H, W = 9, 8


def model(name, scale=2, **fields):
    return create_model(dict(name=name, scale=scale, filters=5, blocks=2, expansion=2) | fields)


alone = jax.jit(lambda module, params, lr: module.apply({"params": params}, lr), static_argnums=0)
padded = jax.jit(apply_padded, static_argnums=0)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", ["wdsr_a", "wdsr_b"])
@settings(deadline=None, max_examples=30)
@given(
    sizes=st.lists(st.tuples(st.integers(1, H), st.integers(1, W)), min_size=2, max_size=2),
    garbage=st.sampled_from([0.0, 1e3, -7.0, np.nan]),
    seed=st.integers(0, 99),
)
def test_each_padded_image_equals_numpy_alone(name, sizes, garbage, seed):
    module = model(name)
    lr = noise(2, H, W, 3, seed=seed)
    batch = np.full_like(lr, garbage)
    for i, (h, w) in enumerate(sizes):
        batch[i, :h, :w] = lr[i, :h, :w]
    sr = padded(module, random_params(module), batch, np.array(sizes))
    assert sr.shape == (2, 2 * H, 2 * W, 3)
    for i, (h, w) in enumerate(sizes):
        expected = numpy_wdsr.forward(module, random_params(module), lr[i : i + 1, :h, :w])[0]
        np.testing.assert_allclose(sr[i, : 2 * h, : 2 * w], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["wdsr_a", "wdsr_b"])
def test_what_lies_beyond_an_image_would_show_without_the_mask(name):
    module = model(name)
    params, lr = random_params(module), noise(2, H, W, 3)
    unmasked = padded(module, params, lr, np.array([(H, W)] * 2))
    for sizes in ([(1, 1), (H, W)], [(1, 7), (5, 3)]):
        sr = padded(module, params, lr, np.array(sizes))
        for i, (h, w) in enumerate(sizes):
            expected = numpy_wdsr.forward(module, params, lr[i : i + 1, :h, :w])[0]
            np.testing.assert_allclose(sr[i, : 2 * h, : 2 * w], expected, atol=1e-5)
            differs = np.abs(unmasked[i, : 2 * h, : 2 * w] - expected).max() > 1e-2
            assert differs == ((h, w) != (H, W))


def test_fold_for_inference_is_the_same_network_in_float32_without_norm():
    trained = model("wdsr_a", dtype="bfloat16")
    module, params = fold_for_inference(trained, random_params(trained))
    assert (module.norm, module.dtype) == ("none", jnp.float32)
    assert set(params["head"]) == {"kernel", "bias"}
    lr = noise(1, 5, 6, 3)
    expected = numpy_wdsr.forward(trained, random_params(trained), lr)
    np.testing.assert_allclose(alone(module, params, lr), expected, atol=1e-5)
    assert trained.norm == "weight"  # and the one given is left as it was


def test_parallel_apply_equals_apply_padded_on_two_devices():
    module = model("wdsr_a")
    params, lr, sizes = random_params(module), noise(2, H, W, 3), np.array([[H, W], [4, 2]])
    sr = parallel_apply(module, params, lr, sizes)
    assert sr.shape == (2, 2 * H, 2 * W, 3)
    assert len(sr.sharding.device_set) == 2
    np.testing.assert_allclose(sr, padded(module, params, lr, sizes), atol=1e-6)


def test_batches_that_fill_their_shape_need_no_sizes():
    module = model("wdsr_b")
    params, lr = random_params(module), noise(2, 6, 7, 3)
    sr = parallel_apply(module, params, lr, None)
    assert len(sr.sharding.device_set) == 2
    np.testing.assert_allclose(sr, numpy_wdsr.forward(module, params, lr), atol=1e-5)


def test_parameters_are_laid_out_for_an_accelerator_once_a_shape(monkeypatch):
    """What is done on accelerators, on CPUs: XLA chooses the layout, and each array is put into it."""
    module = model("wdsr_a", filters=7)  # which no other test has compiled
    params, images = random_params(module), [noise(6, 7, 3), noise(5, 4, 3), noise(6, 7, 3)]
    batches = [Batch([lr], lr.shape[:2], filled=True) for lr in images]
    put, device_put = [], jax.device_put
    monkeypatch.setattr(network, "on_cpu", lambda: False)
    monkeypatch.setattr(jax, "device_put", lambda x, to: put.append(to) or device_put(x, to))
    for lr, sr in zip(images, apply_batches(module, params, batches, 2), strict=True):
        np.testing.assert_allclose(sr, numpy_wdsr.forward(module, params, lr[None])[0], atol=1e-5)
    laid_out = [to for to in put if not isinstance(to, tuple)]
    assert len(laid_out) == 2  # of two shapes
    assert all(isinstance(leaf, Format) for leaf in jax.tree.leaves(laid_out))


def test_compiler_options_are_left_out_where_xla_does_not_know_them(monkeypatch):
    compiler_options = network.compiler_options.__wrapped__  # without its cache
    assert set(compiler_options()) <= {"xla_cpu_experimental_ynn_fusion_type"}

    def refuse(*args, **kwargs):
        raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: No such compile option")

    with monkeypatch.context() as patch:
        patch.setattr(jax, "jit", refuse)
        assert compiler_options() == {}
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiler_options() == {}


def test_a_program_is_compiled_once_a_shape_and_says_what_memory_it_needs():
    module = model("wdsr_a", filters=16)
    params = random_params(module)
    small = compile_network(module, params, (2, 32, 32), filled=True)
    assert compile_network(module, jax.tree.map(jnp.zeros_like, params), (2, 32, 32), filled=True) is small
    large = compile_network(module, params, (2, 64, 96), filled=True)
    for program, pixels in ((small, 32 * 32), (large, 64 * 96)):  # of one image, on each of two devices
        features, sr = pixels * 2 * 16 * 4, pixels * 4 * 3 * 4
        assert features + sr <= memory_needed(program) < 20 * (features + sr)
