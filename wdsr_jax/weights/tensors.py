"""What a file of weights may ask for: its tensors' names, shapes and types, checked before any is read.

Whoever wrote the file wrote these, too. A few bytes can name a billion layers, a terabyte of zeros that lie
nowhere, or one tensor under thousands of names.
"""

import math
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from wdsr_jax.errors import UserError
from wdsr_jax.system.text import printable

# The largest network of the papers, EDSR, has 43 million numbers (172 MB); EDRN has the most tensors, 880.
MAX_BYTES = 1 << 28
MAX_TENSORS = 2048
MAX_DIMENSIONS = 8  # a kernel has four


class Head(NamedTuple):
    """What a file says of a tensor before it is read.

    Attributes:
        shape: its sides.
        dtype: of its elements, as it is read.
        itemsize: bytes of an element in the file; bfloat16 has 2, and is read as float32.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    itemsize: int

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in the file."""
        return self.size * self.itemsize


class TensorFile(NamedTuple):
    """The tensors of a file, of whatever format, which is open.

    Attributes:
        heads: by name.
        read: gives the array of a name; UserError where it is damaged.
        metadata: what the file says beside them, as text.
    """

    heads: Mapping[str, Head]
    read: Callable[[str], np.ndarray]
    metadata: Mapping[str, str]


def check_heads(path: str | os.PathLike, heads: Mapping[str, Head], size: int) -> None:
    """Checks that tensors are numbers, and no more of them than a file can hold and a network has.

    Args:
        path: of the file, for messages.
        heads: of all tensors that are to be read.
        size: of the file in bytes.

    Raises:
        UserError: there are too many or they are too large, or one is not of floating point.
    """
    if len(heads) > MAX_TENSORS:
        raise UserError(f"{path}: {len(heads)} tensors, where weights have at most {MAX_TENSORS}")
    for name, head in heads.items():
        if len(head.shape) > MAX_DIMENSIONS or min(head.shape, default=0) < 0:
            raise UserError(f"{path}: tensor {shown(name)} has no shape that a tensor of weights can have")
        if head.dtype.kind != "f":
            kind = shown(str(head.dtype), 30)
            raise UserError(f"{path}: tensor {shown(name)} is of {kind}, not of floating-point numbers")
    if sum(head.nbytes for head in heads.values()) > size:
        raise UserError(f"{path}: its tensors are larger than the file; it names some bytes more than once")
    if (total := sum(head.size * max(head.itemsize, 4) for head in heads.values())) > MAX_BYTES:
        raise UserError(f"{path}: {total:,} bytes of tensors, where weights have at most {MAX_BYTES:,}")


def shown(name: str, longest: int = 100) -> str:
    """A name from a file as a message shows it: in one line, and no longer than that."""
    name = name if len(name) <= longest else name[: longest - 3] + "..."
    return printable(name)
