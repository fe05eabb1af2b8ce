"""Each step of the online degradation against NumPy or Pillow; LR as a function of key and HR alone."""

import io
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from wdsr_jax.data.degradation import blur, gaussian_kernel
from wdsr_jax.data.online import (
    add_noise,
    batch_keys,
    degrade_batch,
    degrade_image,
    degrade_share,
    draw_batch,
    jpeg,
    jpeg_on_grid,
    margin_of,
    quantisation_tables,
    resample,
)
from wdsr_jax.data.sample import sample_files
from wdsr_jax.data.settings import ONLINE, Online, Range, parse_online
from wdsr_jax.image.files import read_image
from wdsr_jax.image.resize import imresize

pytestmark = pytest.mark.usefixtures("compile_cache")
BICUBIC, AREA, BILINEAR = 0, 1, 2
NOTHING = Online()


@pytest.fixture(scope="module")
def photo():
    """A part of scikit-image's astronaut, (128, 144, 3)."""
    path = next(path for path in sample_files()[1] if path.stem == "astronaut")
    return read_image(path)[20:148, 150:294]


def smooth(height, width, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return imresize(small, 8)[:height, :width]


def keys_of(count, step=0):
    return batch_keys(0, jnp.asarray(step), jnp.asarray(0), count)


# Compiled as one program each, which is faster than an operation at a time.
_resample = jax.jit(resample, static_argnames=("scale", "margin"))
_draw = jax.jit(draw_batch, static_argnums=1)
_degrade = jax.jit(degrade_batch, static_argnums=(2, 3))
_jpeg, _jpeg_on_grid = jax.jit(jpeg), jax.jit(jpeg_on_grid)
INSIDE = (slice(6, -6), slice(6, -6))  # what no pixel beyond the border takes part in


def downscaled(hr, scale, *, sigmas=(0.0, 0.0), angle=0.0, shift=(0.0, 0.0), method=BICUBIC, margin=None):
    """`resample` of one image (H, W, 3) whose border pixels are repeated outwards; sigmas in LR pixels."""
    margin = margin_of(scale, Online(blur=Range(0, max(sigmas)))) if margin is None else margin
    sine, cosine = math.sin(angle), math.cos(angle)
    axes = np.array([[sine, cosine], [cosine, -sine]])  # rows y and x, columns along and across
    (yy, yx), (_, xx) = axes @ np.diag(np.square(sigmas)) @ axes.T
    padded = np.pad(hr, [(margin * scale, margin * scale)] * 2 + [(0, 0)], mode="edge")
    return np.asarray(
        _resample(
            padded[None],
            scale,
            margin,
            jnp.asarray([[yy, yx, xx]], jnp.float32),
            jnp.asarray([shift], jnp.float32),
            jnp.asarray([method]),
        )[0]
    )


# Blur, shift, downscaling


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_bicubic_is_that_of_matlab(scale, photo):
    hr = photo[:120, :144]
    expected = imresize(hr.astype(float), Fraction(1, scale))
    np.testing.assert_allclose(downscaled(hr, scale), expected, atol=1e-3)  # of 255


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_area_is_the_mean_and_bilinear_that_of_the_nearest(scale, photo):
    hr = photo[:120, :144].astype(float)
    cells = hr.reshape(120 // scale, scale, 144 // scale, scale, 3)
    np.testing.assert_allclose(downscaled(hr, scale, method=AREA), cells.mean((1, 3)), atol=1e-3)
    middle = [scale // 2] if scale % 2 else [scale // 2 - 1, scale // 2]
    expected = cells[:, middle][:, :, :, middle].mean((1, 3))
    np.testing.assert_allclose(downscaled(hr, scale, method=BILINEAR), expected, atol=1e-3)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("sigma", [0.15, 0.4, 0.8])
def test_a_round_blur_is_the_gaussian(scale, sigma, photo):
    kernel = gaussian_kernel((sigma * scale, sigma * scale), 0.0)
    expected = imresize(blur(photo, kernel), Fraction(1, scale))
    actual = downscaled(photo, scale, sigmas=(sigma, sigma))
    np.testing.assert_allclose(actual[INSIDE], expected[INSIDE], atol=0.05)


@pytest.mark.parametrize("angle", [0.0, 0.4, math.pi / 4, math.pi / 2, 2.2])
@pytest.mark.parametrize("sigma", [0.3, 0.8])
def test_a_long_blur_is_nearly_the_gaussian(angle, sigma, photo):
    sigmas = (sigma, sigma / 2)
    expected = imresize(blur(photo, gaussian_kernel((4 * sigmas[0], 4 * sigmas[1]), angle)), Fraction(1, 4))
    error = np.abs(downscaled(photo, 4, sigmas=sigmas, angle=angle) - expected)[INSIDE]
    assert error.mean() < 0.3 and error.max() < 3  # the axes' own directions are exact
    turned = downscaled(photo, 4, sigmas=sigmas, angle=angle + math.pi / 2)
    assert np.abs(turned - expected)[INSIDE].mean() > 3 * error.mean()


def test_a_shift_of_an_lr_pixel_moves_lr_by_one(photo):
    for method in (BICUBIC, AREA, BILINEAR):
        still, moved = (
            downscaled(photo, 4, shift=shift, method=method, margin=4) for shift in ((0, 0), (4, -8))
        )
        np.testing.assert_allclose(moved[1:, :-2], still[:-1, 2:], atol=1e-3)


@pytest.mark.parametrize("shift", [(0.5, -0.25), (-1.3, 2.0)])
def test_a_shift_of_part_of_a_pixel_moves_where_the_kernels_stand(shift, photo):
    def weights(length, moved, method):
        u = (np.arange(length // 2)[:, None] + 0.5) * 2 - 0.5 - moved
        x = np.abs(u - np.arange(length)[None])
        if method == AREA:  # the part of each pixel between u - 1 and u + 1
            weights = np.clip(1.5 - x, 0, 1)
        elif method == BILINEAR:
            weights = np.clip(1 - x, 0, None)
        else:
            x = x / 2
            near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
            weights = np.where(x <= 1, near, np.where(x <= 2, far, 0))
        return weights / np.maximum(weights.sum(1, keepdims=True), 1e-9)  # 0 beyond the border

    for method in (BICUBIC, AREA, BILINEAR):
        rows, columns = (weights(n, s, method) for n, s in zip(photo.shape[:2], shift, strict=True))
        expected = np.einsum("hy,yxc,wx->hwc", rows, photo.astype(float), columns)
        actual = downscaled(photo, 2, shift=shift, method=method, margin=4)
        np.testing.assert_allclose(actual[4:-4, 4:-4], expected[4:-4, 4:-4], atol=1e-3)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_patch_is_a_part_of_the_whole(scale):
    """With its margin, a patch gives the LR that the image around it would give there."""
    settings = Online(blur=Range(0.1, 1.0), shift=Range(0, 2), area=0.3, bilinear=0.3)
    margin, side = margin_of(scale, settings), 8
    whole = np.random.default_rng(0).integers(
        0, 256, (4, 40 * scale, 40 * scale, 3), dtype=np.uint8
    )  # the hardest content
    drawn = _draw(keys_of(4, step=3), settings)
    options = drawn.covariance, drawn.shift, drawn.method
    lr = np.asarray(_resample(whole, scale, margin, *options))
    for y, x in ((0, 0), (5, 11)):
        size = (side + 2 * margin) * scale
        patch = whole[:, y * scale :, x * scale :][:, :size, :size]
        part = np.asarray(_resample(patch, scale, margin, *options))
        np.testing.assert_allclose(part, lr[:, y : y + side, x : x + side], atol=1e-3)


# Noise


@pytest.mark.parametrize("level", [20, 120, 240])
def test_the_variance_of_noise(level):
    flat = jnp.full((2, 100, 100, 3), level, jnp.float32)
    noisy = add_noise(
        keys_of(2), flat, jnp.asarray([4.0, 0.0]), jnp.asarray([1 / 500, 1 / 100]), jnp.zeros(2, bool)
    )
    for image, variance in zip(np.asarray(noisy), (16 + 255 * level / 500, 255 * level / 100), strict=True):
        assert image.mean() == pytest.approx(level, abs=5 * math.sqrt(variance / image.size))
        assert image.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / image.size))
        assert np.abs(np.corrcoef(image.reshape(-1, 3).T) - np.eye(3)).max() < 0.05


def test_grey_noise_is_the_same_in_all_channels():
    image = jnp.asarray(smooth(24, 24)[None].repeat(2, 0), jnp.float32)
    noisy = add_noise(keys_of(2), image, jnp.full(2, 5.0), jnp.full(2, 1e-2), jnp.asarray([True, False]))
    grey, colour = np.asarray(noisy - image)
    np.testing.assert_allclose(grey, grey[..., :1].repeat(3, -1), atol=1e-4)
    assert np.abs(colour - colour[..., :1]).max() > 1


def test_poisson_noise_is_close_to_that_of_photons():
    """The distribution of levels, as files have them: of a level of 17 at 300 photons, which are 20."""
    photons = np.random.default_rng(0).poisson(20, 90_000) * (255 / 300)
    flat = jnp.full((1, 300, 100, 3), 17, jnp.float32)
    noisy = add_noise(keys_of(1), flat, jnp.zeros(1), jnp.full(1, 1 / 300), jnp.zeros(1, bool))
    quantiles = np.linspace(0.02, 0.98, 25)
    difference = np.quantile(photons, quantiles) - np.quantile(np.asarray(noisy), quantiles)
    assert np.abs(difference).max() < 1


# JPEG


def pillow(image, quality, subsampling):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return Image.open(file)


def test_quantisation_tables_are_those_of_libjpeg():
    grey = np.zeros((8, 8, 3), np.uint8)
    tables = np.asarray(quantisation_tables(jnp.arange(1, 101)))
    for quality in range(1, 101):
        written = pillow(grey, quality, "4:2:0").quantization  # in the order of rows
        np.testing.assert_array_equal(tables[quality - 1], [written[0], written[1]], err_msg=str(quality))


@pytest.mark.parametrize("quality", [30, 50, 75, 95])
def test_jpeg_agrees_with_pillow(quality, photo):
    both = _jpeg(
        np.stack([photo, photo]).astype(np.float32), jnp.full(2, quality), jnp.asarray([True, False])
    )
    for image, subsampling in zip(np.asarray(both), ("4:2:0", "4:4:4"), strict=True):
        expected = np.asarray(pillow(photo, quality, subsampling)).astype(float)
        assert np.abs(image - expected).mean() < 0.6  # levels; 2 are asked for
        assert np.abs(photo - expected).mean() > 3 * np.abs(image - expected).mean()
        np.testing.assert_array_equal(image, np.round(image))
        assert image.min() >= 0 and image.max() <= 255


@pytest.mark.parametrize("grid", [(0, 0), (3, 14), (15, 8)])
@pytest.mark.parametrize("is_subsampled", [True, False])
def test_the_grid_lies_where_it_is_told(grid, is_subsampled, photo):
    """Blocks that are whole within a patch are those of the image that the patch is cut from."""
    options = jnp.asarray([50]), jnp.asarray([is_subsampled])
    whole = np.asarray(_jpeg(photo[None].astype(np.float32), *options))[0]
    y, x = 16 + grid[0], 32 + grid[1]
    patch = photo[y : y + 50, x : x + 61].astype(np.float32)
    coded = np.asarray(_jpeg_on_grid(patch[None], *options, jnp.asarray([grid])))[0]
    assert coded.shape == patch.shape
    # The chroma of a pixel at the edge of a block of 16 takes part in its neighbour's.
    inside = slice(18 - grid[0], 46 - grid[0]), slice(18 - grid[1], 46 - grid[1])
    np.testing.assert_array_equal(coded[inside], whole[y : y + 50, x : x + 61][inside])
    untouched = _jpeg_on_grid(patch[None], jnp.asarray([0]), options[1], jnp.asarray([grid]))
    np.testing.assert_array_equal(np.asarray(untouched)[0], patch)


# What is drawn


def test_draws_keep_their_probabilities_and_ranges():
    n = 2000
    settings = Online(
        blur=Range(0.2, 1.0, 0.5),
        shift=Range(0.5, 2, 0.6),
        area=0.2,
        bilinear=0.1,
        noise=Range(2, 6, 0.3),
        poisson=Range(100, 400, 0.25),
        grey=0.4,
        jpeg=Range(30, 33, 0.7),
        subsampled=0.8,
        clean=0.1,
    )
    drawn = jax.tree.map(np.asarray, _draw(keys_of(n), settings))

    def is_part(happened, part):
        assert happened.mean() == pytest.approx(part, abs=4 * math.sqrt(part * (1 - part) / n))

    def fills(values, low, high):
        slack = 0.05 * (high - low)
        assert low <= values.min() < low + slack and high - slack < values.max() <= high
        assert values.mean() == pytest.approx((low + high) / 2, abs=3 * slack)

    yy, yx, xx = drawn.covariance.T
    is_blurred, is_noisy, has_photons = yy > 0, drawn.noise > 0, drawn.inverse_photons > 0
    is_part(is_blurred, 0.9 * 0.5)
    is_part(is_noisy, 0.9 * 0.3)
    is_part(has_photons, 0.9 * 0.25)
    is_part(drawn.quality > 0, 0.9 * 0.7)
    is_part(drawn.shift[:, 0] != 0, 0.9 * 0.6)
    is_part(drawn.method == AREA, 0.9 * 0.2)
    is_part(drawn.method == BILINEAR, 0.9 * 0.1)
    is_part(drawn.is_grey, 0.4)
    is_part(drawn.is_subsampled, 0.8)
    variances = np.linalg.eigvalsh(np.stack([yy, yx, yx, xx], -1).reshape(n, 2, 2))[is_blurred]
    along, across = np.sqrt(variances[:, 1]), np.sqrt(variances[:, 0])
    fills(along, 0.2, 1.0 + 1e-6)
    fills(across / along, 0.5 - 1e-3, 1.0 + 1e-3)
    angles = np.arctan2(2 * yx, xx - yy)[is_blurred]  # twice the angle
    fills(angles, -math.pi, math.pi)
    fills(drawn.noise[is_noisy], 2, 6)
    fills(1 / drawn.inverse_photons[has_photons], 100 - 1e-3, 400 + 1e-3)
    assert set(drawn.quality) == {0, 30, 31, 32, 33}
    for axis in (0, 1):
        moved = drawn.shift[:, axis][drawn.shift[:, 0] != 0]
        fills(np.abs(moved), 0.5, 2)
        is_part(moved > 0, 0.5)
    assert set(drawn.grid.ravel()) == set(range(16))


def test_some_images_stay_clean():
    drawn = _draw(keys_of(400), ONLINE._replace(clean=1.0))
    for name in ("covariance", "shift", "method", "noise", "inverse_photons", "quality"):
        assert not np.asarray(getattr(drawn, name)).any(), name
    hr = smooth(64, 64)
    clean = degrade_image(hr, 2, ONLINE._replace(clean=1.0), 0)
    expected = np.clip(np.floor(imresize(hr.astype(float), Fraction(1, 2)) + 0.5), 0, 255)
    np.testing.assert_array_equal(clean, expected)


def test_a_setting_changes_nothing_else():
    first, second = (_draw(keys_of(50), s) for s in (ONLINE, ONLINE._replace(jpeg=Range(10, 20))))
    for name in ("covariance", "shift", "method", "noise", "inverse_photons", "is_grey", "grid"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert (first.quality != second.quality).any()


# The LR of a step


SETTINGS = parse_online("online,shift=0:1@0.5,noise=2:8,jpeg=40:90@0.7,clean=0.1")


_share = jax.jit(degrade_share, static_argnames=("seed", "scale", "settings"))


def share(hr, step, part, seed=5):
    made = _share(hr, jnp.asarray(step), jnp.asarray(part), seed=seed, scale=2, settings=SETTINGS)
    return jax.device_get(made)


def hr_patches(count, side=8, scale=2):
    side = (side + 2 * margin_of(scale, SETTINGS)) * scale
    return np.stack([smooth(side, side, seed) for seed in range(count)])


def test_lr_is_a_function_of_seed_step_and_place():
    hr = hr_patches(8)
    first = share(hr, 3, 0)
    assert first["lr"].shape == (8, 8, 8, 3) and first["hr"].shape == (8, 16, 16, 3)
    assert first["lr"].dtype == first["hr"].dtype == np.uint8
    margin = 2 * margin_of(2, SETTINGS)
    np.testing.assert_array_equal(first["hr"], hr[:, margin:-margin, margin:-margin])
    assert np.abs(first["lr"].mean((1, 2, 3)) - first["hr"].mean((1, 2, 3))).max() < 20  # the same pictures
    np.testing.assert_array_equal(share(hr, 3, 0)["lr"], first["lr"])
    for other in (share(hr, 4, 0), share(hr, 3, 1), share(hr, 3, 0, seed=6)):
        assert (other["lr"] != first["lr"]).mean() > 0.5
    same = share(np.repeat(hr[:1], 8, 0), 3, 0)["lr"]
    assert len({lr.tobytes() for lr in same}) == 8  # each image of a batch draws for itself


@pytest.mark.parametrize("devices", [2, 8])
def test_the_number_of_devices_changes_nothing(devices):
    hr = hr_patches(8)
    parts = [share(part, 7, i) for i, part in enumerate(np.split(hr, devices))]
    for name, whole in share(hr, 7, 0).items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), whole)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_every_scale(scale):
    side = (8 + 2 * margin_of(scale, ONLINE)) * scale
    hr = np.stack([smooth(side, side, seed) for seed in range(3)])
    lr = _degrade(keys_of(3), hr, scale, ONLINE)
    assert lr.shape == (3, 8, 8, 3) and lr.dtype == np.uint8
    centre = hr[
        :, side // 2 - 4 * scale : side // 2 + 4 * scale, side // 2 - 4 * scale : side // 2 + 4 * scale
    ]
    assert np.abs(np.asarray(lr).mean((1, 2)) - centre.mean((1, 2))).max() < 12


def test_margins():
    assert margin_of(4, NOTHING) == margin_of(2, NOTHING) == 2
    assert margin_of(4, ONLINE) == 4
    assert margin_of(4, NOTHING._replace(shift=Range(0, 4))) == 3
    assert margin_of(4, NOTHING._replace(blur=Range(0, 1.5, 0.0))) == 2  # which never happens


def test_whole_images_always_get_the_same():
    hr = smooth(70, 90)
    lr = degrade_image(hr, 2, SETTINGS, 3)
    assert lr.shape == (35, 45, 3) and lr.dtype == np.uint8
    np.testing.assert_array_equal(degrade_image(hr, 2, SETTINGS, 3), lr)
    assert (degrade_image(hr, 2, SETTINGS, 4) != lr).any()
    assert (degrade_image(hr, 2, SETTINGS._replace(seed=1), 3) != lr).any()


# Settings as text
