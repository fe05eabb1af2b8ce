"""Comparison of parameters and other trees of arrays."""

import functools

import jax
import numpy as np


def assert_close(actual, expected, atol=1e-6):
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=atol, rtol=0), actual, expected)


def assert_same_bits(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
