"""Files of `torch.save`, read without PyTorch.

Such a file is a pickle beside raw data. A pickle is a program that may call any function; here its
instructions are interpreted, and the few functions a file of weights needs are recognised by name. Nothing
that a file names is ever imported or called.
"""

import io
import math
import os
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wdsr_jax.errors import UserError

ZIP_START = b"PK\x03\x04"  # torch.save since 1.6
LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # its magic number, pickled

_DTYPES = {
    "torch DoubleStorage": "<f8",
    "torch FloatStorage": "<f4",
    "torch HalfStorage": "<f2",
    "torch BFloat16Storage": "<u2",  # the upper half of a float32
    "torch LongStorage": "<i8",
    "torch IntStorage": "<i4",
    "torch ShortStorage": "<i2",
    "torch CharStorage": "i1",
    "torch ByteStorage": "u1",
    "torch BoolStorage": "?",
}
_TENSOR = "torch._utils _rebuild_tensor_v2"
_PARAMETER = "torch._utils _rebuild_parameter"
_DICT = "collections OrderedDict"
# Opcodes whose argument is the value.
_CONSTANTS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "BINSTRING", "SHORT_BINSTRING"),
}
# Found in checkpoints beside the weights (optimizer, learning rate, arguments), and not needed.
_UNNEEDED = {
    "__builtin__ list",
    "__builtin__ set",
    "_codecs encode",
    "argparse Namespace",
    "collections Counter",
    "collections defaultdict",
    "numpy dtype",
    "numpy.core.multiarray scalar",
    "numpy._core.multiarray scalar",
    "torch Size",
    "torch device",
}

# What reading damaged data raises, here and in zipfile, pickletools and NumPy.
_DAMAGE = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError),
    *(struct.error, zipfile.BadZipFile),
)


class _Global(NamedTuple):
    """A name of Python's that a pickle mentions; only ever compared."""

    name: str


class _Storage(NamedTuple):
    """A block of numbers that tensors are views of."""

    type: str
    key: str
    size: int  # in elements


class Tensor(NamedTuple):
    """A tensor of a file, not read yet; `offset` and `stride` count elements of its storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class TorchFile(NamedTuple):
    """A file of `torch.save`.

    Attributes:
        content: what was saved: dicts, lists and so on, with `Tensor` for tensors.
        read: gives the array of a `Tensor`, bfloat16 as float32; UserError where it does not fit the file.
    """

    content: Any
    read: Callable[[Tensor], np.ndarray]


def read_torch(path: str | os.PathLike) -> TorchFile:
    """Reads a file of `torch.save`, of the zip format or the one before.

    Raises:
        UserError: the file is damaged or big-endian, or its pickle refers to what weights have no need of.
    """

    def guard(function: Callable, *args: Any) -> Any:
        try:
            return function(*args)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        except _DAMAGE as error:
            reason = str(error) or type(error).__name__
            raise UserError(f"{path}: damaged, or not written by torch.save ({reason})") from None

    data = guard(Path(path).read_bytes)
    content, storages = guard(_open_zip if data.startswith(ZIP_START) else _open_legacy, data)
    return TorchFile(content, lambda tensor: guard(_to_array, tensor, storages))


def _open_zip(data: bytes) -> tuple[Any, Callable[[_Storage], bytes]]:
    archive = zipfile.ZipFile(io.BytesIO(data))
    names = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
    if not names:
        raise UserError("a zip file, but not of torch.save")
    folder = names[0].removesuffix("/data.pkl")

    def member(name: str) -> bytes:
        info = archive.getinfo(f"{folder}/{name}")
        if info.compress_type != zipfile.ZIP_STORED:  # torch.save never does; it could be a zip bomb
            raise ValueError(f"{name} is compressed")
        return archive.read(info)

    if f"{folder}/byteorder" in archive.namelist() and member("byteorder") != b"little":
        raise UserError("written on a big-endian machine; save it again on a little-endian one")
    content = _interpret(io.BytesIO(member("data.pkl")))
    return content, lambda storage: member(f"data/{storage.key}")


def _open_legacy(data: bytes) -> tuple[Any, Callable[[_Storage], bytes]]:
    stream = io.BytesIO(data)
    _interpret(stream)  # the magic number
    _interpret(stream)  # the version of the protocol, 1001 for ever
    if _interpret(stream).get("little_endian") is not True:
        raise UserError("written on a big-endian machine; save it again on a little-endian one")
    storages: dict[str, _Storage] = {}
    content = _interpret(stream, storages)
    blocks = {}
    for key in _interpret(stream):
        (count,) = struct.unpack("<q", stream.read(8))
        size = count * np.dtype(_DTYPES[storages[key].type]).itemsize
        if not 0 <= size <= len(data) - stream.tell():
            raise ValueError("it ends within a tensor")
        blocks[key] = data[stream.tell() : stream.tell() + size]
        stream.seek(size, io.SEEK_CUR)
    return content, lambda storage: blocks[storage.key]


def _interpret(stream: io.BytesIO, storages: dict[str, _Storage] | None = None) -> Any:
    """Builds what one pickle of protocol 2 describes; the stream is left behind its end."""
    stack: list[Any] = []
    below: list[list[Any]] = []  # the stacks under each mark
    memo: dict[int, Any] = {}
    for name, argument in _operations(stream):
        match name:
            case "PROTO":
                if argument != 2:
                    raise ValueError(f"pickle protocol {argument}")
            case "STOP":
                return stack.pop()
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(name == "NEWTRUE")
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case _ if name in _CONSTANTS:
                stack.append(argument)
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "MARK":
                below.append(stack)
                stack = []
            case "TUPLE":
                items, stack = tuple(stack), below.pop()
                stack.append(items)
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "APPEND":
                item = stack.pop()
                _expect(list, stack[-1]).append(item)
            case "APPENDS":
                items, stack = stack, below.pop()
                _expect(list, stack[-1]).extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _set_items(stack[-1], [key, value])
            case "SETITEMS":
                items, stack = stack, below.pop()
                _set_items(stack[-1], items)
            case "BUILD":
                stack.pop()  # attributes, such as the metadata of a state dict
            case "GLOBAL":
                if argument not in {_TENSOR, _PARAMETER, _DICT, *_DTYPES, *_UNNEEDED}:
                    raise UserError(
                        f"refused, and nothing was run: it refers to {argument.replace(' ', '.')}, "
                        "which weights have no need of; a file with the state_dict alone would do"
                    )
                stack.append(_Global(argument))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_stand_in(_expect(_Global, function).name, _expect(tuple, arguments)))
            case "BINPERSID":
                kind, type_, key, _, count, *view = stack.pop()
                if kind != "storage" or type_.name not in _DTYPES or any(view):
                    raise ValueError("a storage of unknown kind")
                storage = _Storage(type_.name, _expect(str, key), _expect(int, count))
                if storages is not None:
                    storages[key] = storage
                stack.append(storage)
            case _:
                raise ValueError(f"opcode {name}")
    raise ValueError("the pickle has no end")


def _operations(stream: io.BytesIO) -> Iterator[tuple[str, Any]]:
    """The instructions of a pickle: the name of each, and its argument."""
    for opcode, argument, _ in pickletools.genops(stream):
        yield opcode.name, argument


def _expect(kind: type | tuple[type, ...], value: Any) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{type(value).__name__} where {getattr(kind, '__name__', 'a key')} belongs")
    return value


def _set_items(target: Any, items: list[Any]) -> None:
    for key, value in zip(items[::2], items[1::2], strict=True):
        # A tuple of tuples of tuples would be hashed for ever.
        _expect(dict, target)[_expect((str, int), key)] = value


def _stand_in(function: str, arguments: tuple[Any, ...]) -> Any:
    """What a call would give, for the functions that matter; an empty dict for others."""
    if function == _TENSOR:
        storage, offset, shape, stride, *_ = arguments
        return Tensor(_expect(_Storage, storage), offset, _expect(tuple, shape), _expect(tuple, stride))
    if function == _PARAMETER:
        return arguments[0]
    if function == _DICT and arguments:  # Python 2
        content: dict[Any, Any] = {}
        for pair in arguments[0]:
            _set_items(content, pair)
        return content
    return {}


def _to_array(tensor: Tensor, storages: Callable[[_Storage], bytes]) -> np.ndarray:
    (kind, key, count), offset, shape, stride = tensor
    data = storages(tensor.storage)
    flat = np.frombuffer(data, _DTYPES[kind])
    if flat.size != count:
        raise ValueError(f"storage {key} has {flat.size} elements, not {count}")
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if min((offset, *shape, *stride)) < 0 or last >= count or math.prod(shape) > count:
        raise ValueError(f"a tensor of shape {shape} does not fit into its storage of {count}")
    if kind == "torch BFloat16Storage":
        flat = (flat.astype("<u4") << 16).view("<f4")
    steps = [step * flat.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(flat[offset:], shape, steps).copy()
