"""What files may ask for: as many numbers as they hold, and no more than weights have."""

import numpy as np
import pytest

from wdsr_jax.errors import UserError
from wdsr_jax.weights.tensors import MAX_BYTES, MAX_TENSORS, Head, check_heads, shown


def head(*shape, dtype="<f4"):
    return Head(shape, np.dtype(dtype), np.dtype(dtype).itemsize)


def test_what_a_file_can_hold_passes():
    check_heads("w", {"a": head(3, 4), "b": head(), "c": head(0, 5), "d": head(2, dtype="<f2")}, 56)
    check_heads("w", {"half": Head((6,), np.dtype("<f4"), 2)}, 12)  # bfloat16, read as float32
    check_heads("w", {}, 0)


@pytest.mark.parametrize(
    "heads, size, message",
    [
        ({"a": head(3), "b": head(3)}, 23, "larger than the file"),
        ({"a": head(1 << 40)}, 1 << 60, "bytes of tensors, where weights have at most 268,435,456"),
        ({"a": head(1 + MAX_BYTES // 4, dtype="<f2")}, 1 << 30, "bytes of tensors"),  # 2 bytes, then 4
        ({str(i): head(1) for i in range(MAX_TENSORS + 1)}, 1 << 20, "2049 tensors"),
        ({"a": head(3, dtype="<c8")}, 99, "tensor a is of complex64, not of floating-point numbers"),
        ({"a": head(3, dtype="<i8")}, 99, "tensor a is of int64"),
        ({"a": head(3, dtype=[("x", "<f4"), ("y", "<i4")])}, 99, "tensor a is of "),
        ({"a": head(*[1] * 9)}, 99, "tensor a has no shape"),
        ({"a": head(-1)}, 99, "tensor a has no shape"),
        ({"\x1b[2J\n": head(-1)}, 99, r"tensor \x1b[2J\n has no shape"),
    ],
    ids=str,
)
def test_more_is_one_line(heads, size, message):
    with pytest.raises(UserError) as caught:
        check_heads("w", heads, size)
    assert str(caught.value).startswith("w: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_are_shown_in_one_short_line():
    assert shown("head.kernel") == "head.kernel"
    assert shown("a\nb\x1b[0m") == r"a\nb\x1b[0m"
    assert shown("x" * 101) == "x" * 97 + "..."
