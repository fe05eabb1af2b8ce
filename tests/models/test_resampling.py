"""Layers that change the resolution: bicubic, and convolutions that are each other's transpose."""

import numpy as np
import pytest

from tests import numpy_wdsr
from tests.models.networks import noise
from wdsr_jax.image.resize import imresize
from wdsr_jax.models.resampling import Bicubic, Bilinear, StridedConv, TransposedConv, upscale_factors


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (6, 5)])
def test_what_srcnn_starts_from_is_imresize(scale, size):
    lr = noise(2, *size, 3)
    enlarged = Bicubic(scale).apply({}, lr)
    for image, expected in zip(enlarged, lr, strict=True):
        np.testing.assert_allclose(image, imresize(expected, scale), atol=1e-6)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_bilinear_keeps_ramps_and_repeats_edges(scale):
    rows, columns = np.mgrid[:4, :5].astype(np.float32)
    enlarged = Bilinear(scale).apply({}, np.stack([rows, columns], -1)[None])[0]  # (4 r, 5 r, 2)
    for axis, length in ((0, 4), (1, 5)):
        places = np.clip((np.arange(length * scale) + 0.5) / scale - 0.5, 0, length - 1)
        expected = np.broadcast_to(np.expand_dims(places, 1 - axis), enlarged.shape[:2])
        np.testing.assert_allclose(enlarged[..., axis], expected, atol=1e-6)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_strided_convolution_takes_every_other_output_of_a_plain_one(size):
    x, kernel, bias = noise(2, 7, 6, 3), noise(size, size, 3, 4, seed=2) - 0.5, noise(4, seed=3)
    params = {"kernel": kernel, "bias": bias}
    strided = StridedConv(4, size, "none").apply({"params": params}, x)
    np.testing.assert_allclose(strided, numpy_wdsr.conv(params, x)[:, ::2, ::2], atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_the_strided_and_the_transposed_convolution_are_adjoint(size):
    """<S x, y> = <x, T y> for one kernel."""
    kernel = noise(size, size, 3, 4, seed=2) - 0.5
    x, y = noise(2, 8, 6, 3), noise(2, 4, 3, 4, seed=3)
    down = StridedConv(4, size, "none").apply({"params": {"kernel": kernel, "bias": np.zeros(4)}}, x)
    up = TransposedConv(3, size, "none").apply({"params": {"kernel": kernel, "bias": np.zeros(3)}}, y)
    assert (down.shape, up.shape) == (y.shape, x.shape)
    assert np.vdot(down, y) == pytest.approx(np.vdot(x, up), rel=1e-5)


def test_stages_of_an_upsampler_multiply_to_its_scale():
    factors = {scale: upscale_factors(scale) for scale in range(2, 33)}
    assert all(np.prod(stages) == scale for scale, stages in factors.items())
    assert (factors[2], factors[3], factors[6], factors[8]) == ((2,), (3,), (6,), (2, 2, 2))
