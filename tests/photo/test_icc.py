"""ICC profiles that are made here, against published colorants and against LittleCMS."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from wdsr_jax.photo import icc
from wdsr_jax.photo.icc import D65, SRGB_CURVE, SRGB_PRIMARIES, Primaries

P3 = Primaries(D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE = Primaries(D65, (0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
LITTLE_CMS_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def converted(pixels, profile):
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    image = ImageCms.profileToProfile(
        Image.fromarray(pixels),
        source,
        LITTLE_CMS_SRGB,
        outputMode="RGB",
        flags=ImageCms.Flags.NOOPTIMIZE,  # else its curves for grey are up to 10 levels off
    )
    return np.asarray(image).astype(int)


@pytest.mark.parametrize(
    "primaries, published",
    [
        # of the sRGB profile of the ICC, of Apple's Display P3 and of Adobe RGB (1998)
        (SRGB_PRIMARIES, [[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]]),
        (P3, [[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]]),
        (ADOBE, [[0.6097, 0.2053, 0.1492], [0.3111, 0.6257, 0.0632], [0.0195, 0.0609, 0.7446]]),
    ],
)
def test_colorants_are_the_published_ones(primaries, published):
    np.testing.assert_allclose(icc.colorants(primaries), published, atol=2e-4)


def test_a_profile_of_srgb_is_that_of_little_cms():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    profile = icc.make_profile(SRGB_PRIMARIES, SRGB_CURVE, "sRGB")
    assert np.abs(converted(pixels, profile) - pixels).max() <= 1


def test_display_p3_by_little_cms():
    # sRGB's red is 0.9175, 0.2003, 0.1386 in Display P3 (CSS Color 4, color(display-p3)).
    red = np.array([[[0.9175, 0.2003, 0.1386]]]) * 255
    found = converted(np.rint(red).astype(np.uint8), icc.make_profile(P3, SRGB_CURVE, "Display P3"))
    assert np.abs(found - (255, 0, 0)).max() <= 4


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
def test_curves_by_little_cms(gamma):
    ramp = np.arange(256, dtype=np.uint8)[None]
    linear = (ramp / 255) ** gamma
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    grey = converted(ramp, icc.make_profile(None, (gamma,), "grey"))
    assert np.abs(grey - expected[..., None]).max() < 1
    rgb = converted(
        np.repeat(ramp[..., None], 3, -1), icc.make_profile(SRGB_PRIMARIES, (gamma,), f"gamma {gamma}")
    )
    assert np.abs(rgb - expected[..., None]).max() < 1


def test_light_of_a_profile():
    values = np.linspace(0, 1, 11)
    of_srgb = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    for profile in (icc.make_profile(P3, SRGB_CURVE, "a"), icc.make_profile(None, SRGB_CURVE, "a")):
        np.testing.assert_allclose(icc.light(profile, values), of_srgb, atol=1e-4)
    np.testing.assert_allclose(icc.light(LITTLE_CMS_SRGB.tobytes(), values), of_srgb, atol=1e-4)
    assert icc.light(b"no profile", values) is None
    assert icc.light(icc.make_profile(P3, SRGB_CURVE, "a")[:300], values) is None


@pytest.mark.parametrize(
    "kind, numbers, expected",
    [
        (0, (2,), lambda x: x**2),
        (1, (2, 2, -1), lambda x: np.where(x >= 0.5, np.maximum(2 * x - 1, 0) ** 2, 0)),
        (2, (1, 1, -0.5, 0.25), lambda x: np.where(x >= 0.5, x - 0.25, 0.25)),
        (3, (2, 1, 0, 0.5, 0.5), lambda x: np.where(x >= 0.5, x**2, 0.5 * x)),
        (4, (2, 1, 0, 0.5, 0.5, 0.125, 0.25), lambda x: np.where(x >= 0.5, x**2 + 0.125, 0.5 * x + 0.25)),
    ],
)
def test_parametric_curves(kind, numbers, expected):
    values = np.linspace(0, 1, 21)
    data = b"para" + struct.pack(">IHH", 0, kind, 0)
    data += struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))
    np.testing.assert_allclose(icc._decoded(data, values), np.clip(expected(values), 0, 1), atol=1e-4)


def test_tables_and_damage_of_curves():
    values = np.linspace(0, 1, 5)

    def curve(count, data=b""):
        return icc._decoded(b"curv" + struct.pack(">II", 0, count) + data, values)

    np.testing.assert_array_equal(curve(0), values)
    np.testing.assert_array_equal(curve(1, b"\2\0"), values**2)
    np.testing.assert_allclose(curve(3, struct.pack(">3H", 0, 0, 65535)), [0, 0, 0, 0.5, 1])
    assert curve(1) is None
    assert curve(100, b"ab") is None
    assert icc._decoded(b"para" + bytes(4) + b"\0\x09" + bytes(40), values) is None


def test_damaged_profiles_give_light_or_none():
    rng = np.random.default_rng(0)
    values = np.linspace(0, 1, 16)
    whole = [icc.make_profile(of, curve, "a") for of in (P3, None) for curve in ((1.0,), SRGB_CURVE)]
    lights = 0
    for i in range(4000):
        damaged = bytearray(whole[i % len(whole)])
        for position in rng.integers(0, len(damaged), 4):
            damaged[position] = rng.integers(256)
        found = icc.light(bytes(damaged), values)
        if found is not None:
            lights += 1
            assert found.min() >= 0 and found.max() <= 1
            icc.with_srgb_curve(bytes(damaged))
    assert 1000 < lights < 4000


def test_the_curve_is_replaced_and_the_primaries_stay():
    linear = icc.make_profile(P3, (1.0,), "linear P3")
    pixels = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    assert icc.with_srgb_curve(icc.make_profile(SRGB_PRIMARIES, (1.0,), "a")) == b""
    assert icc.with_srgb_curve(icc.make_profile(None, (1.0,), "a")) == b""
    expected = converted(pixels, icc.make_profile(P3, SRGB_CURVE, "P3"))
    for version in (2, 4):
        profile = icc.with_srgb_curve(linear[:8] + bytes([version]) + linear[9:])
        assert np.abs(converted(pixels, profile) - expected).max() <= 1


def test_primaries_that_span_nothing():
    for wrong in (
        Primaries(D65, (0.3, 0.3), (0.3, 0.3), (0.3, 0.3)),
        Primaries((0.3, 0), (0.64, 0.33), (0.3, 0.6), (0.15, 0.06)),
    ):
        with pytest.raises(ValueError, match="span no colours"):
            icc.colorants(wrong)


def test_the_code_of_a_transfer_function():
    profile = icc.make_profile(P3, SRGB_CURVE, "a")
    assert icc.transfer_code(profile) is None
    assert icc.transfer_code(b"") is None
    coded = icc._packed(profile, icc._tags(profile) | {b"cicp": b"cicp" + bytes(4) + bytes([9, 16, 0, 1])})
    assert icc.transfer_code(coded) == 16
