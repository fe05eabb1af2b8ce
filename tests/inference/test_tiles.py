"""Tiles give what the whole image gives and fit the memory at hand; types are kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import numpy_wdsr
from tests.numpy_wdsr import random_params
from wdsr_jax.image.pixels import dihedral, from_float, to_float, to_uint8, undo_dihedral
from wdsr_jax.inference import network, tiles
from wdsr_jax.inference.network import apply_padded, compile_network, memory_needed
from wdsr_jax.inference.tiles import upscale
from wdsr_jax.models import create_model

pytestmark = pytest.mark.usefixtures("compile_cache")


def model(name, scale=2, **fields):
    return create_model(dict(name=name, scale=scale, filters=5, blocks=2, expansion=2) | fields)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def whole(module, params, image):
    """The network over the whole image, by NumPy."""
    return numpy_wdsr.forward(module, params, to_float(image)[None])[0]


@pytest.mark.parametrize(
    "name", ["wdsr_a", *(pytest.param(name, marks=pytest.mark.ci) for name in ("wdsr_b", "edsr"))]
)
@settings(deadline=None, max_examples=25)
@given(height=st.integers(1, 30), width=st.integers(1, 30), tile=st.sampled_from([1, 4]))
def test_tiles_equal_the_whole_image(name, height, width, tile):
    module = model(name)
    params, lr = random_params(module), noise(height, width, 3)
    done = []
    sr = upscale(module, params, lr, tile=2 * module.radius + tile, on_pixels=done.append)
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

    seen = np.abs(jax.jit(jax.grad(cell_of_pixels))(jnp.ones((1, side, side, 3)))).sum((0, 3)) > 0
    reach = np.abs(np.arange(side) - middle) <= module.radius
    np.testing.assert_array_equal(seen, reach[:, None] & reach[None, :])


@pytest.mark.parametrize("size", [(7, 12), (19, 23)])
def test_self_ensemble_is_the_mean_over_the_symmetries_of_the_whole_image(size):
    module = model("wdsr_a")
    params, lr = random_params(module), noise(*size, 3)
    expected = np.mean([undo_dihedral(whole(module, params, dihedral(lr, t)), t) for t in range(8)], axis=0)
    assert np.abs(expected - whole(module, params, lr)).max() > 1e-3
    for tile in (None, 2 * module.radius + 3):
        sr = upscale(module, params, lr, tile=tile, ensemble=True)
        np.testing.assert_allclose(sr, expected, atol=1e-5)


def test_sizes_share_compilations(monkeypatch):
    traced = []

    def counted(module, params, lr, sizes=None, **options):
        traced.append(lr.shape)
        return apply_padded(module, params, lr, sizes, **options)

    monkeypatch.setattr(network, "apply_padded", counted)
    module = model("wdsr_b", filters=6)
    params = random_params(module)
    for side in (1, 5, 20, 31):  # below the smallest tile
        upscale(module, params, np.zeros((side, side + 1, 3), np.uint8))
    assert traced == [(2, 32, 32, 3)]  # one a device; for its memory it is not traced again


def test_of_the_tiles_with_room_that_with_the_least_cost_is_chosen(monkeypatch):
    def tile(height, width, room=1 << 19, **options):
        shape, batch = tiles._choose_tiles((height, width), 34, room, **options)  # 34 pixels of margin
        assert batch == jax.local_device_count()
        return shape

    assert tile(512, 512) == (512, 512)
    assert tile(600, 800) == (256, 512)  # (384, 1024) has as many pixels, each of which costs more
    assert tile(667, 1000) == (384, 384)
    assert tile(667, 1000, square=True) == (384, 384)  # 2 x 3 of them
    assert tile(1, 1000) == (32, 1024)
    assert tile(4000, 6000, tile=200) == (200, 200)
    for side in (96, 128, 256, 512):
        height, width = tile(4000, 6000, side**2)
        assert side**2 / 2 < height * width <= side**2
    assert tile(4000, 6000, 1) == (96, 96)  # the smallest that is larger than its margins
    monkeypatch.setattr(tiles, "on_cpu", lambda: False)
    assert tiles._choose_tiles((600, 800), 34, 1 << 19)[0] == (384, 1024)


def test_an_accelerator_gets_as_many_tiles_at_once_as_there_is_room_for(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    devices = jax.local_device_count()
    assert tiles._choose_tiles((4000, 6000), 34, 4 * 128**2, 128) == ((128, 128), 4 * devices)
    assert tiles._choose_tiles((100, 100), 34, 1 << 19, 128) == ((128, 128), devices)  # 1 tile in all


def test_tiles_take_no_more_than_their_share_of_the_memory(monkeypatch):
    module = model("wdsr_a", filters=4, blocks=1)
    params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]

    def needed(shape):
        return memory_needed(compile_network(module, params, (2, *shape), filled=True))

    def fitting(memory, tile=None):
        monkeypatch.setattr(tiles, "device_memory", lambda: memory)
        return tiles._tiles_that_fit(module, params, (512, 512), tile, square=True)

    assert fitting(1 << 40).shape == (512, 512)
    memory = needed((512, 512)) / tiles.MEMORY_SHARE
    assert fitting(1.01 * memory) == ((512, 512), 2, True)
    less = fitting(0.99 * memory)
    assert less == ((192, 192), 2, True)  # 9 of which have fewer pixels than 4 of (384, 384)
    assert needed(less.shape) <= 0.99 * tiles.MEMORY_SHARE * memory
    assert fitting(1).shape == (32, 32)  # the smallest that is larger than its margins
    assert fitting(1, tile=100).shape == (100, 100)  # who asks for a size gets it


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
        (
            np.full((4, 4, 3), 255.0),
            r"float must be in \[0, 1\], not in \[255, 255\]; divide it by its white",
        ),
        (np.full((4, 4, 3), -1.5, np.float32), r"float must be in \[0, 1\], not in \[-1\.5, -1\.5\]"),
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
