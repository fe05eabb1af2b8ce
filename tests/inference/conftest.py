"""Fixtures of these tests."""

from tests.tiny import compile_cache  # noqa: F401
