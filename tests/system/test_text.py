"""Text from outside as it may be shown."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdsr_jax.system.text import printable


@pytest.mark.parametrize(
    "text, shown",
    [
        ("a naïve 猫 👩\u200d🚀.jpg", "a naïve 猫 👩\u200d🚀.jpg"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("a\nerror: forged", r"a\nerror: forged"),
        ("a\r\tb\x00", r"a\r\tb\x00"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
        ("a\u2028b\x85c", r"a\u2028b\x85c"),
        (os.fsdecode(b"\xff.jpg"), r"\udcff.jpg"),
    ],
)
def test_what_cannot_be_seen_is_written_out(text, shown):
    assert printable(text) == shown


@given(st.text())
def test_any_text_is_one_line_that_can_be_encoded(text):
    line = printable(text)
    assert len(line.splitlines()) <= 1
    line.encode()
    assert printable(line) == line
