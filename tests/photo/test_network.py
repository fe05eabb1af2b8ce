"""Which network upscales by a factor."""

import pytest

from tests.photo.samples import photo_file
from wdsr_jax.errors import UserError
from wdsr_jax.photo import network
from wdsr_jax.photo.network import choose_network


@pytest.mark.parametrize(
    "factor, scale", [(0.5, None), (1, None), (1.1, 2), (2, 2), (2.0001, 2), (2.5, 3), (3.4, 4), (9, 4)]
)
def test_the_shipped_network_of_the_next_larger_scale_is_taken(factor, scale):
    module, _ = choose_network(None, factor)
    assert getattr(module, "scale", None) == scale


def test_without_shipped_weights_it_says_how_to_get_some(upscale, monkeypatch):
    photo_file("a.png")
    monkeypatch.setattr(network, "pretrained_for", lambda factor: None)
    with pytest.raises(
        UserError, match=r"^no weights are shipped with this package; name yours with --model="
    ):
        upscale("a.png", "--out=b.png", model=None)
