"""Padded batches give what each image alone gives; `upscale` keeps types."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wdsr_jax.images import to_float, to_uint8
from wdsr_jax.inference import apply_padded, for_inference, upscale
from wdsr_jax.models import create_model

from . import numpy_wdsr
from .numpy_wdsr import random_params

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
def test_each_padded_image_equals_apply_alone(name):
    module = model(name)
    params, lr = random_params(module), noise(2, H, W, 3)
    for sizes in ([(1, 1), (H, W)], [(1, 7), (5, 3)]):
        sr = padded(module, params, lr, np.array(sizes))
        for i, (h, w) in enumerate(sizes):
            expected = alone(module, params, lr[i : i + 1, :h, :w])[0]
            np.testing.assert_allclose(sr[i, : 2 * h, : 2 * w], expected, atol=1e-6)
            # The mask matters: an image smaller than the batch would see what lies beyond its edge.
            differs = (
                np.abs(alone(module, params, lr[i : i + 1])[0, : 2 * h, : 2 * w] - expected).max() > 1e-2
            )
            assert differs == ((h, w) != (H, W))


def test_for_inference_is_the_same_network_in_float32_without_norm():
    trained = model("wdsr_a", dtype="bfloat16")
    module, params = for_inference(trained, random_params(trained))
    assert (module.norm, module.dtype) == ("none", jnp.float32)
    assert set(params["head"]) == {"kernel", "bias"}
    lr = noise(1, 5, 6, 3)
    expected = alone(model("wdsr_a"), random_params(trained), lr)
    np.testing.assert_allclose(alone(module, params, lr), expected, atol=1e-5)
    assert trained.norm == "weight"  # and the one given is left as it was


@pytest.mark.parametrize("size", [(1, 1), (5, 6)])
def test_upscale_keeps_the_type(size):
    module = model("wdsr_b", scale=4)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = np.asarray(alone(module, random_params(module), to_float(image)[None])[0])
    assert expected.shape == (size[0] * 4, size[1] * 4, 3)

    for image_type in (np.float32, np.float64):
        as_float = upscale(module, random_params(module), to_float(image).astype(image_type))
        assert as_float.dtype == np.float32
        np.testing.assert_allclose(as_float, expected, atol=1e-5)  # unclipped
    as_bytes = upscale(module, random_params(module), image)
    assert as_bytes.dtype == np.uint8
    np.testing.assert_array_equal(as_bytes, to_uint8(as_float))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((1, 4, 4, 3)),
        np.zeros((4, 4, 3), int),
    ],
    ids=["grey", "rgba", "batch", "int64"],
)
def test_upscale_refuses_what_it_would_misread(image):
    with pytest.raises(ValueError, match=r"image must be \(H, W, 3\), uint8 or float, not"):
        upscale(model("wdsr_a"), random_params(model("wdsr_a")), image)
