"""What settings of degradations mean, and mistakes in them in one line."""

import pytest

from wdsr_jax.data.settings import ONLINE, PRESETS, Degradation, Range, parse_degradation, parse_online
from wdsr_jax.errors import UserError


@pytest.mark.parametrize(
    "text, expected",
    [
        ("mild", PRESETS["mild"]),
        ("shift=4", Degradation(shift=4)),
        ("wild, shift=2,jpeg=30:90", PRESETS["wild"]._replace(shift=2, jpeg=(30.0, 90.0))),
        ("blur=1.5,seed=12", Degradation(blur=(1.5, 1.5), seed=12)),
        ("subpixel=0.5,poisson=1e3,noise=0:2.5", Degradation((0, 0), 0, 0.5, (1e3, 1e3), (0, 2.5))),
    ],
)
def test_settings(text, expected):
    assert parse_degradation(text) == expected


@pytest.mark.parametrize(
    "text, message",
    [
        ("mildly", "'mildly' is unknown; it is one of mild, difficult, wild"),
        ("shift=4,mild", "'mild' is unknown"),
        ("mild,", "'' is unknown"),
        ("blurr=3", "'blurr=3' is unknown"),
        ("shift=2.5", "shift must be a whole number from 0 to 64, not '2.5'"),
        ("shift=1:2", "shift must be a whole number from 0 to 64, not '1:2'"),
        ("jpeg=101", "jpeg must be a number from 0 to 100, or two such as jpeg=LOWEST:HIGHEST, not '101'"),
        ("noise=-1", "noise must be"),
        ("noise=nan", "noise must be"),
        ("blur=3:1", "blur must be"),
        ("blur=1:2:3", "blur must be"),
        ("subpixel=1", "subpixel must be a number from 0 to 0.5, not '1'"),
        ("poisson=", "poisson must be"),
    ],
)
def test_bad_settings_are_one_line(text, message):
    with pytest.raises(UserError) as error:
        parse_degradation(text)
    assert f"config.data.degradation={text!r}: {message}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("online", ONLINE),
        ("online,noise=0:8@0.5", ONLINE._replace(noise=Range(0, 8, 0.5))),
        (" online, jpeg=60 ,grey=1,seed=12", ONLINE._replace(jpeg=Range(60, 60), grey=1.0, seed=12)),
        ("online,jpeg=0,blur=0,poisson=0", ONLINE._replace(jpeg=Range(), blur=Range(), poisson=Range())),
        ("online,poisson=100:1e3@1", ONLINE._replace(poisson=Range(100, 1000))),
    ],
)
def test_online_settings(text, expected):
    assert parse_degradation(text) == parse_online(text) == expected


@pytest.mark.parametrize("text", ["onlines", "mild,online"])
def test_online_comes_first(text):
    with pytest.raises(UserError, match="is unknown; it is one of mild, difficult, wild, or settings"):
        parse_degradation(text)


@pytest.mark.parametrize(
    "text, message",
    [
        ("online,", "'' is unknown; after online come settings such as jpeg=30:90@0.5 (blur, shift, area"),
        ("online,soft", "'soft' is unknown"),
        ("online,jpg=3", "'jpg=3' is unknown"),
        ("online,jpeg=101", "jpeg must be a whole number from 1 to 100, or two such as jpeg=LOWEST:HIGHEST"),
        ("online,jpeg=0:50", "jpeg must be a whole number from 1 to 100"),
        ("online,jpeg=50.5", "jpeg must be a whole number from 1 to 100"),
        ("online,jpeg=inf", "jpeg must be a whole number from 1 to 100"),
        ("online,noise=-1", "noise must be a number from 0 to 50, or two such as noise=LOWEST:HIGHEST"),
        ("online,noise=nan", "noise must be a number from 0 to 50"),
        ("online,noise=5:1", "noise must be a number from 0 to 50"),
        ("online,noise=1:2:3", "noise must be a number from 0 to 50"),
        ("online,noise=", "noise must be a number from 0 to 50"),
        ("online,noise=1@2", "noise must be a number from 0 to 50"),
        ("online,noise=1@", "noise must be a number from 0 to 50"),
        ("online,poisson=10", "poisson must be a number from 50 to 1e+06"),
        ("online,area=2", "area must be a part of the images, from 0 to 1, not '2'"),
        ("online,grey=0.5@0.5", "grey must be a part of the images"),
        ("online,seed=-1", "seed must be a whole number, not '-1'"),
        ("online,area=0.6,bilinear=0.6", "area and bilinear are parts of the images, at most 1 together"),
    ],
)
def test_bad_online_settings_are_one_line(text, message):
    with pytest.raises(UserError) as error:
        parse_online(text)
    assert str(error.value).startswith(f"config.data.degradation={text!r}: {message}")
    assert "\n" not in str(error.value)
