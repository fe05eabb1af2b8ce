"""The size of a result, in pixels and in words."""

from argparse import Namespace

import pytest

from wdsr_jax.photo.sizes import size_label, target_size


@pytest.mark.parametrize(
    "given, expected",
    [
        (dict(scale=4.0), (400, 800)),
        (dict(scale=3.4), (340, 680)),
        (dict(scale=0.001), (1, 1)),
        (dict(width=300), (150, 300)),
        (dict(height=301), (301, 602)),
        (dict(width=10, height=70), (70, 10)),
        (dict(megapixels=0.08), (200, 400)),
    ],
)
def test_target_size(given, expected):
    assert target_size((100, 200), **given) == expected


@pytest.mark.parametrize(
    "given, label",
    [
        (dict(scale=4.0), "x4"),
        (dict(scale=2.5), "x2.5"),
        (dict(width=3840), "3840w"),
        (dict(height=2160), "2160h"),
        (dict(width=3840, height=2160), "3840x2160"),
        (dict(megapixels=12.0), "12MP"),
    ],
)
def test_the_size_in_words_is_never_empty(given, label):
    nothing = dict.fromkeys(("scale", "width", "height", "megapixels"))
    assert size_label(Namespace(**nothing | given)) == label
