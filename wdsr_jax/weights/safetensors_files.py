"""Safetensors files: read with all checks on the header first, and written the same for the same tensors.

The format (https://huggingface.co/docs/safetensors): the length of the header, 8 bytes little-endian; the
header, a JSON object of a dtype, shape and data_offsets for each name, and of texts under `__metadata__`;
then the tensors without gaps. The library `safetensors` opens a file by its path, whatever is there, reads a
header of up to 100 MB, has no bfloat16 for NumPy, and writes metadata in an order that changes.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from wdsr_jax.errors import UserError
from wdsr_jax.system.files import open_regular, path_errors, replacing
from wdsr_jax.weights.tensors import MAX_DIMENSIONS, Head, TensorFile, shown

_LONGEST_HEADER = 1 << 20  # bytes; 4096 tensors need half of it
_DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1"},
    **{"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1", "C64": "<c8"},
}
_BFLOAT16 = "BF16"  # the upper half of a float32, as which it is read
# What the header may raise, whatever it holds.
_DAMAGE = (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError)


@contextmanager
def open_safetensors(path: str | os.PathLike) -> Iterator[TensorFile]:
    """A safetensors file, whose header is read and whose tensors are not.

    Raises:
        UserError: it cannot be opened, is no such file, or has a header that does not fit it.
    """
    try:
        file = open_regular(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    with file:
        try:
            metadata, places = _read_header(file)
        except _DAMAGE as error:
            raise UserError(f"{path}: not a safetensors file that can be read ({_reason(error)})") from None

        def read(name: str) -> np.ndarray:
            head, start = places[name]
            is_bfloat16 = head.itemsize != head.dtype.itemsize
            block = np.empty(head.nbytes, np.uint8)
            file.seek(start)
            if file.readinto(block.data) != block.size:
                raise UserError(f"{path}: ends within tensor {shown(name)}")  # cut since it was opened
            array = block.view("<u2" if is_bfloat16 else head.dtype)
            if is_bfloat16:
                array = (array.astype("<u4") << 16).view("<f4")
            return array.reshape(head.shape)

        yield TensorFile({name: place[0] for name, place in places.items()}, read, metadata)


def write_safetensors(
    path: str | os.PathLike, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Writes tensors; the file appears whole or not at all, and is the same for the same tensors.

    Args:
        path: of the file.
        tensors: by name, in any order and of any strides; float16 stays so, others are written as float32.
        metadata: texts.

    Raises:
        UserError: the folder is missing, read-only or full, or `path` is a folder.
    """
    header: dict[str, Any] = {"__metadata__": {key: metadata[key] for key in sorted(metadata)}}
    kinds = {name: "F16" if tensor.dtype == np.float16 else "F32" for name, tensor in tensors.items()}
    # As the library does, wide types first: so each tensor lies at a multiple of its own width.
    order = sorted(tensors, key=lambda name: (kinds[name] == "F16", name))
    end = 0
    for name in order:
        kind, tensor = kinds[name], tensors[name]
        start, end = end, end + np.dtype(_DTYPES[kind]).itemsize * tensor.size
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # as the library does, so that tensors can be mapped
    with path_errors(path), replacing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            file.write(np.ascontiguousarray(tensors[name], _DTYPES[kinds[name]]).data)


def _read_header(file: BinaryIO) -> tuple[dict[str, str], dict[str, tuple[Head, int]]]:
    """The metadata, and by name a tensor's head and place in the file."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or not 2 <= length <= size - 8:
        raise ValueError("it has no header, or ends within it")
    if length > _LONGEST_HEADER:
        raise ValueError(f"a header of {length} bytes")
    header = json.loads(file.read(length).decode(), object_pairs_hook=_without_doubles)
    metadata = header.pop("__metadata__", {})
    if not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("its metadata are not texts")
    places, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if kind not in _DTYPES and kind != _BFLOAT16:
            raise ValueError(f"tensor {shown(name)} has elements of an unknown type")
        numbers = (*shape, *offsets)
        if not all(type(n) is int and 0 <= n < 1 << 48 for n in numbers) or len(numbers) > MAX_DIMENSIONS + 2:
            raise ValueError(f"tensor {shown(name)} has no shape or place that can be")
        dtype = np.dtype("<f4" if kind == _BFLOAT16 else _DTYPES[kind])
        itemsize = 2 if kind == _BFLOAT16 else dtype.itemsize
        head = Head(tuple(shape), dtype, itemsize)
        if tuple(offsets) != (end, end + head.nbytes):
            raise ValueError(f"tensor {shown(name)} does not lie where its shape needs it")
        places[name], end = (head, 8 + length + end), offsets[1]
    if 8 + length + end != size:
        raise ValueError(f"{size} bytes, where its tensors end at {8 + length + end}")
    return metadata, places


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a name occurs twice")
    return content


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "its header is nested too deep"
    if isinstance(error, LookupError | TypeError | AttributeError):
        return "its header is not that of one"
    return " ".join(str(error).split())
