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
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from typing import Any, NamedTuple, NoReturn

import numpy as np

from wdsr_jax.errors import UserError
from wdsr_jax.system.files import open_regular
from wdsr_jax.weights.tensors import MAX_BYTES, MAX_DIMENSIONS, Head, shown

ZIP_START = b"PK\x03\x04"  # torch.save since 1.6
LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # its magic number, pickled

# A checkpoint has some thousand opcodes for its tensors, and again for the optimiser's; logs may be longer.
_MOST_OPCODES = 500_000
_MOST_READ = 4 * MAX_BYTES  # a storage that tensors view by turns is read anew
_DEEPEST = 100  # marks within marks
_LONGEST_PICKLE = 1 << 25  # bytes; also of a zip file's list of members

_BFLOAT16 = "torch BFloat16Storage"
_DTYPES = {
    "torch DoubleStorage": "<f8",
    "torch FloatStorage": "<f4",
    "torch HalfStorage": "<f2",
    _BFLOAT16: "<u2",  # the upper half of a float32
    "torch LongStorage": "<i8",
    "torch IntStorage": "<i4",
    "torch ShortStorage": "<i2",
    "torch CharStorage": "i1",
    "torch ByteStorage": "u1",
    "torch BoolStorage": "?",
}
_TENSOR = "torch._utils _rebuild_tensor_v2"
_OLD_TENSOR = "torch._utils _rebuild_tensor"  # before PyTorch 0.4; without requires_grad and hooks
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
_KNOWN = {_TENSOR, _OLD_TENSOR, _PARAMETER, _DICT, *_DTYPES, *_UNNEEDED}

# What reading damaged data raises, here and in zipfile, pickletools and NumPy.
_DAMAGE = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError),
    *(struct.error, zipfile.BadZipFile),
)


class _Global(NamedTuple):
    """A name of Python's that a pickle mentions; only ever compared."""

    name: str


class Object:
    """An object of a class that is not known here, such as a whole network that was saved.

    Attributes:
        state: what was pickled of it.
    """

    def __init__(self) -> None:
        self.state: Any = None


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
        content: what was saved: dicts, lists and so on, with `Tensor` for tensors and `Object` for objects.
        head: gives what is checked of a `Tensor` before it is read; UserError where that cannot be one's.
        read: gives the array of a `Tensor`, bfloat16 as float32, a view of its storage; UserError where it
            does not fit the file, or more than `MAX_BYTES` would be read.
    """

    content: Any
    head: Callable[[Tensor], Head]
    read: Callable[[Tensor], np.ndarray]


@contextmanager
def open_torch(path: str | os.PathLike) -> Iterator[TorchFile]:
    """A file of `torch.save`, of the zip format or the one before; its tensors are not read yet.

    Raises:
        UserError: there is no such file, it is damaged or big-endian, or its pickle refers to what weights
            have no need of, or is too long.
    """

    def guard(function: Callable, *args: Any) -> Any:
        try:
            return function(*args)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        except _DAMAGE as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(f"{path}: damaged, or not written by torch.save ({reason})") from None

    try:
        file = open_regular(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    with file:
        is_zip = file.read(len(ZIP_START)) == ZIP_START
        file.seek(0)
        content, find = guard(_open_zip if is_zip else _open_legacy, file)
        last: dict[_Storage, np.ndarray] = {}  # the storage that was read last, which others may view, too
        left = _MOST_READ

        def read(tensor: Tensor) -> np.ndarray:
            nonlocal left
            storage = tensor.storage
            if storage not in last:
                last.clear()
                place = find(storage)
                left -= place.size
                if place.size > MAX_BYTES or left < 0:
                    raise ValueError(f"more than {MAX_BYTES:,} bytes")
                last[storage] = _read_block(file, place).view(_DTYPES[storage.type])
            return _to_array(tensor, last[storage])

        yield TorchFile(content, lambda tensor: guard(_head, tensor), lambda tensor: guard(read, tensor))


def _head(tensor: Tensor) -> Head:
    """What is checked of a tensor before it is read; ValueError where that cannot be a tensor's."""
    kind = tensor.storage.type
    sides = tensor.shape
    if not all(type(n) is int and 0 <= n < 1 << 48 for n in sides) or len(sides) > MAX_DIMENSIONS:
        raise ValueError("a tensor of no shape that can be")
    stored = np.dtype(_DTYPES[kind])
    return Head(sides, np.dtype("<f4") if kind == _BFLOAT16 else stored, stored.itemsize)


class _Place(NamedTuple):
    """Where a storage lies in a file, in bytes."""

    start: int
    size: int
    checksum: int | None  # CRC-32, where there is one


def _read_block(file: BufferedReader, place: _Place) -> np.ndarray:
    block = np.empty(place.size, np.uint8)
    file.seek(place.start)
    if file.readinto(block.data) != place.size:
        raise ValueError("it ends within a tensor")
    if place.checksum not in (None, zlib.crc32(block.data)):
        raise ValueError("the checksum of a tensor is wrong")
    return block


class _Members:
    """A file as zipfile reads it, which takes the list of all members in one piece: no large ones."""

    def __init__(self, file: BufferedReader):
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size if 0 <= size <= _LONGEST_PICKLE else _LONGEST_PICKLE + 1)
        if len(data) > _LONGEST_PICKLE:
            raise ValueError("the list of its members, or its pickle, is too long")
        return data


def _open_zip(file: BufferedReader) -> tuple[Any, Callable[[_Storage], _Place]]:
    members: Any = _Members(file)
    archive = zipfile.ZipFile(members)
    names = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
    if not names:
        raise UserError("a zip file, but not of torch.save")
    folder = names[0].removesuffix("/data.pkl")

    def member(name: str) -> zipfile.ZipInfo:
        info = archive.getinfo(f"{folder}/{name}")
        if info.compress_type != zipfile.ZIP_STORED:  # torch.save never does; it could be a zip bomb
            raise ValueError(f"{name} is compressed")
        return info

    if f"{folder}/byteorder" in archive.namelist() and archive.read(member("byteorder")) != b"little":
        raise UserError("written on a big-endian machine; save it again on a little-endian one")

    def find(storage: _Storage) -> _Place:
        info = member(f"data/{storage.key}")
        file.seek(info.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))  # lengths of what is before the data
        return _Place(info.header_offset + 30 + name + extra, info.file_size, info.CRC)

    return _interpret(io.BytesIO(archive.read(member("data.pkl")))), find


def _open_legacy(file: BufferedReader) -> tuple[Any, Callable[[_Storage], _Place]]:
    length = os.fstat(file.fileno()).st_size
    stream = io.BytesIO(file.read(_LONGEST_PICKLE))
    _interpret(stream)  # the magic number
    _interpret(stream)  # the version of the protocol, 1001 for ever
    if _interpret(stream).get("little_endian") is not True:
        raise UserError("written on a big-endian machine; save it again on a little-endian one")
    storages: dict[str, _Storage] = {}
    content = _interpret(stream, storages)
    places = {}
    keys = _expect(list, _interpret(stream))
    end = stream.tell()
    for key in keys:
        file.seek(end)
        (count,) = struct.unpack("<q", file.read(8))
        size = count * np.dtype(_DTYPES[storages[key].type]).itemsize
        if not 0 <= size <= length - end - 8:
            raise ValueError("it ends within a tensor")
        places[key], end = _Place(end + 8, size, None), end + 8 + size
    return content, lambda storage: places[storage.key]


def _interpret(stream: io.BytesIO, storages: dict[str, _Storage] | None = None) -> Any:
    """Builds what one pickle of protocol 2 describes; the stream is left behind its end."""
    stack: list[Any] = []
    below: list[list[Any]] = []  # the stacks under each mark
    memo: dict[int, Any] = {}
    strange: set[str] = set()  # names that are mentioned, of which no object was made
    copied = 0
    for done, (name, argument) in enumerate(_operations(stream)):
        if done + copied > _MOST_OPCODES or len(below) > _DEEPEST:
            raise ValueError("a pickle longer or deeper than weights have")
        match name:
            case "PROTO":
                if argument != 2:
                    raise ValueError(f"pickle protocol {argument}")
            case "STOP":
                for mentioned in strange:
                    _refuse(mentioned)
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
                state = stack.pop()
                if isinstance(stack[-1], Object):
                    stack[-1].state = state
                # Otherwise they are attributes, such as the metadata of a state dict.
            case "GLOBAL":
                if argument not in _KNOWN:
                    strange.add(argument)
                stack.append(_Global(argument))
            case "REDUCE" | "NEWOBJ":
                arguments, function = _expect(tuple, stack.pop()), _expect(_Global, stack.pop()).name
                copied += sum(len(argument) for argument in arguments if isinstance(argument, list | tuple))
                if function in _KNOWN:
                    stack.append(_stand_in(function, arguments))
                elif name == "NEWOBJ" and not arguments:  # of a class, and nothing is called with anything
                    strange.discard(function)
                    stack.append(Object())
                else:
                    _refuse(function)
            case "BINPERSID":
                kind, type_, key, *rest = stack.pop()
                if kind == "module":  # a class and its source, of whose object the state follows
                    strange.discard(_expect(_Global, type_).name)
                    stack.append(type_)
                    continue
                _, count, *view = rest
                if kind != "storage" or type_.name not in _DTYPES or any(view):
                    raise ValueError("a storage of unknown kind")
                storage = _Storage(type_.name, _expect(str, key), _expect(int, count))
                if storages is not None:
                    storages[key] = storage
                stack.append(storage)
            case _:
                raise ValueError(f"opcode {name}")
    raise ValueError("the pickle has no end")


def _refuse(name: str) -> NoReturn:
    raise UserError(
        f"refused, and nothing was run: it refers to {shown(name.replace(' ', '.'))}, "
        "which weights have no need of; a file with the state_dict alone would do"
    )


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
    if function in (_TENSOR, _OLD_TENSOR):
        storage, offset, shape, stride, *_ = arguments
        return Tensor(_expect(_Storage, storage), offset, _expect(tuple, shape), _expect(tuple, stride))
    if function == _PARAMETER:
        return arguments[0]
    if function == _DICT and arguments:  # Python 2
        content: dict[Any, Any] = {}
        for key, value in arguments[0]:
            _set_items(content, [key, value])
        return content
    return {}


def _to_array(tensor: Tensor, flat: np.ndarray) -> np.ndarray:
    (kind, key, count), offset, shape, stride = tensor
    _head(tensor)
    if flat.size != count:
        raise ValueError(f"storage {shown(key)} has {flat.size} elements, not {count}")
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if min((offset, *shape, *stride)) < 0 or last >= count or math.prod(shape) > count:
        raise ValueError(f"a tensor of shape {shape} does not fit into its storage of {count}")
    steps = [step * flat.itemsize for step in stride]
    array = np.lib.stride_tricks.as_strided(flat[offset:], shape, steps, writeable=False)
    return (array.astype("<u4") << 16).view("<f4") if kind == _BFLOAT16 else array
