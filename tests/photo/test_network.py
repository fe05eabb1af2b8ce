"""Which network upscales by a factor."""

import pytest

from wdsr_jax.photo.network import choose_network


@pytest.mark.parametrize(
    "factor, scale", [(0.5, None), (1, None), (1.1, 2), (2, 2), (2.0001, 2), (2.5, 3), (3.4, 4), (9, 4)]
)
def test_the_shipped_network_of_the_next_larger_scale_is_taken(factor, scale):
    module, _ = choose_network(None, factor)
    assert getattr(module, "scale", None) == scale
