"""What settings of degradations mean, and mistakes in them in one line."""

import pytest

from wdsr_jax.data.settings import PRESETS, Degradation, parse_degradation
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
