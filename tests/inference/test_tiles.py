"""Padded batches give what each image alone gives, tiles what the whole image gives; types are kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import numpy_wdsr
from tests.numpy_wdsr import random_params
from wdsr_jax.image.pixels import dihedral, from_float, to_float, to_uint8, undo_dihedral
from wdsr_jax.inference import tiles as inference
from wdsr_jax.inference.tiles import apply_padded, bytes_per_pixel, for_inference, parallel_apply, upscale
from wdsr_jax.models import create_model

H, W = 9, 8


def model(name, scale=2, **fields):
    return create_model(dict(name=name, scale=scale, filters=5, blocks=2, expansion=2) | fields)


WDSR_X4 = create_model(dict(name="wdsr_a", scale=4))  # as shipped: 32 filters, 16 blocks

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


def test_parallel_apply_equals_apply_padded_on_two_devices():
    module = model("wdsr_a")
    params, lr, sizes = random_params(module), noise(2, 6, 7, 3), np.array([[6, 7], [4, 2]])
    sr = parallel_apply(module)(params, lr, sizes)
    assert sr.shape == (2, 12, 14, 3)
    assert len(sr.sharding.device_set) == 2
    np.testing.assert_allclose(sr, padded(module, params, lr, sizes), atol=1e-6)


def test_batches_that_fill_their_shape_need_no_sizes():
    module = model("wdsr_b")
    params, lr = random_params(module), noise(2, 6, 7, 3)
    sr = parallel_apply(module)(params, lr, None)
    assert len(sr.sharding.device_set) == 2
    np.testing.assert_allclose(sr, padded(module, params, lr, np.array([[6, 7]] * 2)), atol=1e-6)
    np.testing.assert_allclose(sr, alone(module, params, lr), atol=1e-6)


def test_compiler_options_are_left_out_where_xla_does_not_know_them(monkeypatch):
    compiler_options = inference.compiler_options.__wrapped__  # without its cache
    assert set(compiler_options()) <= {"xla_cpu_experimental_ynn_fusion_type"}

    def refuse(*args, **kwargs):
        raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: No such compile option")

    with monkeypatch.context() as patch:
        patch.setattr(jax, "jit", refuse)
        assert compiler_options() == {}
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiler_options() == {}


def whole(module, params, image):
    """The network over the whole image, by Flax alone."""
    return np.asarray(alone(module, params, to_float(image)[None])[0])


@pytest.mark.parametrize("name", ["wdsr_a", "wdsr_b", "edsr"])
@settings(deadline=None, max_examples=25)
@given(height=st.integers(1, 40), width=st.integers(1, 40), tile=st.integers(0, 4))
def test_tiles_equal_the_whole_image(name, height, width, tile):
    module = model(name)
    params, lr = random_params(module), noise(height, width, 3)
    done = []
    sr = upscale(module, params, lr, tile=2 * module.radius + 1 + tile, on_pixels=done.append)
    np.testing.assert_allclose(sr, whole(module, params, lr), atol=1e-5)
    assert sum(done) == height * width


@pytest.mark.parametrize("name", ["wdsr_a", "wdsr_b", "edsr"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_radius_is_how_far_an_output_pixel_sees(name, scale):
    """With weights that are all positive nothing cancels: the gradient is zero exactly beyond the radius."""
    module = model(name, scale)
    params = jax.tree.map(jnp.ones_like, random_params(module))
    side = 2 * module.radius + 5
    middle = side // 2

    def cell_of_pixels(lr):
        sr = module.apply({"params": params}, lr)
        return sr[0, middle * scale : (middle + 1) * scale, middle * scale : (middle + 1) * scale].sum()

    seen = np.abs(jax.grad(cell_of_pixels)(jnp.ones((1, side, side, 3)))).sum((0, 3)) > 0
    reach = np.abs(np.arange(side) - middle) <= module.radius
    np.testing.assert_array_equal(seen, reach[:, None] & reach[None, :])


@given(length=st.integers(1, 300), radius=st.integers(0, 30), extra=st.integers(1, 100))
def test_windows_cover_an_axis_once_and_keep_their_distance(length, radius, extra):
    side = 2 * radius + extra
    windows = inference._windows(length, side, radius)
    assert [i for _, keep in windows for i in keep] == list(range(length))
    for window, keep in windows:
        assert len(window) == min(side, length)
        assert window.start == 0 or window.start + radius <= keep.start
        assert window.stop == length or keep.stop <= window.stop - radius


@pytest.mark.parametrize("size", [(7, 12), (19, 23)])
def test_self_ensemble_is_the_mean_over_the_symmetries_of_the_whole_image(size):
    module = model("wdsr_a")
    params, lr = random_params(module), noise(*size, 3)
    expected = np.mean(
        [undo_dihedral(whole(module, params, dihedral(lr, t)), t) for t in range(8)], axis=0, dtype=np.float64
    )
    assert np.abs(expected - whole(module, params, lr)).max() > 1e-3
    for tile in (None, 2 * module.radius + 3):
        sr = upscale(module, params, lr, tile=tile, ensemble=True)
        np.testing.assert_allclose(sr, expected, atol=1e-5)


def test_sizes_share_compilations(monkeypatch):
    traced = []

    def counted(module, params, lr, sizes=None, **options):
        traced.append(lr.shape)
        return apply_padded(module, params, lr, sizes, **options)

    monkeypatch.setattr(inference, "apply_padded", counted)
    module = model("wdsr_b", filters=6)
    params = random_params(module)
    for side in (1, 5, 20, 31):  # below the smallest tile
        upscale(module, params, np.zeros((side, side + 1, 3), np.uint8))
    # The estimate of memory traces it as well, for a batch of 1 of the smallest size.
    assert [shape for shape in traced if shape[0] == jax.local_device_count()] == [(2, 32, 32, 3)]


def test_the_tile_is_chosen_from_the_memory_at_hand(monkeypatch):
    module = WDSR_X4  # 34 pixels of margin
    params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    size = bytes_per_pixel(module, params)

    def tile(height, width, memory, side=None, square=False):
        monkeypatch.setattr(inference, "device_memory", lambda: memory)
        return inference._tile_shape(module, params, (height, width), 34, side, square)[0]

    plenty = 1 << 40
    assert tile(512, 512, plenty) == (512, 512)
    assert tile(667, 1000, plenty) == (384, 1024)
    assert tile(667, 1000, plenty, square=True) == (384, 384)  # 2 x 3 of them
    assert tile(1, 1000, plenty) == (32, 1024)
    assert tile(4000, 6000, plenty, side=200) == (200, 200)
    for side in (96, 128, 256, 512):
        room = side**2 * size / inference._MEMORY_SHARE
        height, width = tile(4000, 6000, room * 1.01)
        assert side**2 / 2 < height * width <= side**2
    assert tile(4000, 6000, 1) == (96, 96)  # the smallest that is larger than its margins


@pytest.mark.parametrize(
    "module", [WDSR_X4, model("wdsr_b", filters=32, blocks=16, expansion=6), model("edsr")]
)
def test_the_estimate_of_memory_is_that_of_the_compiler(module):
    params = random_params(module)
    lr, sizes = np.zeros((1, 128, 128, 3), np.float32), np.array([[128, 128]])
    analysis = padded.lower(module, params, lr, sizes).compile().memory_analysis()
    measured = (analysis.temp_size_in_bytes + analysis.output_size_in_bytes) / 128**2
    assert measured / 1.3 < bytes_per_pixel(module, params) < 2 * measured


@pytest.mark.parametrize("size", [(1, 1), (5, 6)])
def test_upscale_keeps_the_type(size):
    module = model("wdsr_b", scale=4)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = whole(module, random_params(module), image)
    assert expected.shape == (size[0] * 4, size[1] * 4, 3)

    for image_type in (np.float32, np.float64):
        as_float = upscale(module, random_params(module), to_float(image).astype(image_type))
        assert as_float.dtype == np.float32
        np.testing.assert_allclose(as_float, expected, atol=1e-5)  # unclipped
    as_bytes = upscale(module, random_params(module), image)
    assert as_bytes.dtype == np.uint8
    np.testing.assert_array_equal(as_bytes, to_uint8(as_float))
    as_words = upscale(module, random_params(module), jnp.asarray(image.astype(np.uint16) * 257))
    assert as_words.dtype == np.uint16
    np.testing.assert_array_equal(as_words, from_float(as_float, np.uint16))


@pytest.mark.parametrize(
    "image, message",
    [
        (np.zeros((4, 4), np.uint8), r"image must be \(H, W, 3\) and not empty, not \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"image must be \(H, W, 3\)"),
        (np.zeros((1, 4, 4, 3)), r"image must be \(H, W, 3\)"),
        (np.zeros((0, 4, 3)), r"image must be \(H, W, 3\) and not empty"),
        (np.zeros((4, 4, 3), int), "image must be uint8, uint16 or float, not int64"),
        (np.zeros((4, 4, 3), complex), "image must be uint8, uint16 or float"),
    ],
)
def test_upscale_refuses_what_it_would_misread(image, message):
    with pytest.raises(ValueError, match=message):
        upscale(model("wdsr_a"), random_params(model("wdsr_a")), image)


def test_upscale_refuses_tiles_that_are_all_margin():
    module = model("wdsr_a")
    with pytest.raises(ValueError, match="tile must be more than 12 for this network, not 12"):
        upscale(module, random_params(module), np.zeros((20, 4, 3), np.uint8), tile=12)
    upscale(module, random_params(module), np.zeros((12, 4, 3), np.uint8), tile=12)  # one tile has no margin
