"""Which network upscales by a factor."""

import pytest

from tests.photo.samples import photo_file
from tests.photo.shipped import CLEAN, FAST, ship
from wdsr_jax.errors import UserError
from wdsr_jax.photo import network
from wdsr_jax.photo.network import choose_network


@pytest.mark.parametrize(
    "factor, scale", [(0.5, None), (1, None), (1.1, 2), (2, 2), (2.0001, 2), (2.5, 3), (3.4, 4), (9, 4)]
)
def test_the_shipped_network_of_the_next_larger_scale_is_taken(factor, scale):
    module, _ = choose_network(None, factor)
    assert getattr(module, "scale", None) == scale


def test_a_family_is_taken_by_its_word(monkeypatch, tmp_path):
    ship(monkeypatch, tmp_path / "shipped", CLEAN, FAST, "wdsr-a-4-x4")
    for model, factor, name in (("clean", 3, CLEAN), ("fast", 2, FAST), ("fast", 3, "wdsr-a-4-x4")):
        assert choose_network(model, factor) is network.load_network(name)
    assert choose_network("fast", 1) == (None, None)
    with pytest.raises(UserError, match=r"^no photo network is shipped with this package; name yours with"):
        choose_network("photo", 2)


def test_without_shipped_weights_it_says_how_to_get_some(upscale, monkeypatch, tmp_path):
    photo_file("a.png")
    ship(monkeypatch, tmp_path / "shipped")
    with pytest.raises(
        UserError, match=r"^no weights are shipped with this package; name yours with --model="
    ):
        upscale("a.png", "--out=b.png", model=None)
