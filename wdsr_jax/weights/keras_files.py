"""HDF5 files of Keras (`save`, `save_weights` to .h5): only plain numbers in the file itself are read.

HDF5 can say that data lie in other files, of any name: by external storage, external links and virtual data
sets. It can name one data set a thousand times, fill what was never written with zeros, and compress zeros to
nothing. None of that is read.
"""

import functools
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from typing import Any

import h5py
import numpy as np

from wdsr_jax.errors import UserError
from wdsr_jax.system.files import open_regular
from wdsr_jax.weights.tensors import MAX_BYTES, MAX_DIMENSIONS, MAX_TENSORS, Head, TensorFile, shown

HDF5_START = b"\x89HDF\r\n\x1a\n"
_PLAIN = (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED)
_MOST_CHUNKS = 4096
_MAX_FILE = 4 * MAX_BYTES  # with the optimiser's state
# Names of a variable length lie in heaps, which begin so. Many names may be one; h5py copies it for each.
_HEAP = b"GCOL\x01\0\0\0"
_LONGEST_NAMES = 1 << 28  # bytes, all together
# What h5py raises on damaged files, and what comes of names and types that are not as Keras has them.
_DAMAGE = (
    *(ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RecursionError, RuntimeError),
    *(TypeError, ValueError),
)


@contextmanager
def open_keras(path: str | os.PathLike) -> Iterator[TensorFile]:
    """A file of Keras, whose names and shapes are read, and whose numbers are not.

    Its tensors are named `layer/weight`, and in the order of the layers. The metadata has `layers`, the names
    of all layers, those without weights too, in lines.

    Raises:
        UserError: there is no such file, it is damaged or not of Keras, or a tensor is no plain data set.
    """
    try:
        raw = open_regular(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    with raw:
        if os.fstat(raw.fileno()).st_size > _MAX_FILE:
            raise UserError(f"{path}: of more than {_MAX_FILE:,} bytes, which no file of weights has")
        try:
            file = h5py.File(raw, "r")
            layers, order = _Reader(raw).layers(file)
            heads = {name: _head(name, dataset) for name, dataset in layers.items()}
        except _DAMAGE as error:
            raise UserError(f"{path}: damaged, or not weights that Keras saved ({_reason(error)})") from None

        def read(name: str) -> np.ndarray:
            try:
                array = np.empty(heads[name].shape, heads[name].dtype)
                if array.size:
                    layers[name].read_direct(array)
                return array
            except _DAMAGE as error:
                reason = _reason(error)
                raise UserError(f"{path}: tensor {shown(name)} cannot be read ({reason})") from None

        with file:
            yield TensorFile(heads, read, {"layers": "\n".join(order)})


class _Reader:
    """Finds the weights of a file, and keeps count of what its names take."""

    def __init__(self, raw: BufferedReader):
        self._raw, self._names_left = raw, _LONGEST_NAMES

    def layers(self, file: h5py.File) -> tuple[dict[str, h5py.Dataset], list[str]]:
        """The weights in the order of the layers, as `layer/weight`, and all layers; raises `_DAMAGE`."""
        root: Any = _find(file, "model_weights", h5py.Group) if "model_weights" in list(file) else file
        datasets = {}
        order = self._texts(root, "layer_names")
        for layer in order:
            group = _find(root, layer, h5py.Group)
            for weight in self._texts(group, "weight_names"):
                name = f"{layer}/{weight.rpartition('/')[2].partition(':')[0]}"
                if name.endswith("/initialized"):  # of weight norm: whether g has been set
                    continue
                if name in datasets or len(datasets) == MAX_TENSORS:
                    raise ValueError(f"weight {shown(name)} is there twice, or one of too many")
                datasets[name] = _find(group, weight, h5py.Dataset)
        return datasets, order

    def _texts(self, group: h5py.Group, attribute: str) -> list[str]:
        """An attribute that lists names."""
        kept = group.attrs.get_id(attribute)
        kind, count = kept.get_type(), math.prod(kept.shape)
        if len(kept.shape) != 1 or count > MAX_TENSORS or not isinstance(kind, h5py.h5t.TypeStringID):
            # An empty list has a type of its own.
            if count == 0:
                return []
            raise ValueError(f"{attribute} is no list of names")
        if kind.is_variable_str():
            self._names_left -= count * self._largest_heap
            if self._names_left < 0:
                raise ValueError(f"{attribute} has {count} names, which may be longer than names are")
        names = np.asarray(group.attrs[attribute]).tolist()
        return [name.decode() if isinstance(name, bytes) else name for name in names]

    @functools.cached_property
    def _largest_heap(self) -> int:
        """The size that any heap in the file claims, in bytes; no name is longer."""
        largest, block, before = 0, b"", b""
        self._raw.seek(0)
        while block := self._raw.read(1 << 20):
            before = data = before[-15:] + block
            start = data.find(_HEAP)
            while start >= 0:
                largest = max(largest, int.from_bytes(data[start + 8 : start + 16], "little"))
                start = data.find(_HEAP, start + 1)
        return largest


def _find(group: h5py.Group, path: str, kind: type) -> Any:
    """What lies at a path below a group, by links that stay in the file."""
    item: Any = group
    for part in filter(None, path.split("/")):
        if not isinstance(item, h5py.Group):
            raise ValueError(f"{shown(path)} is not there")
        if not isinstance(item.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{shown(path)} is not there, or a link to elsewhere, which is not followed")
        item = item[part]
    if not isinstance(item, kind):
        raise TypeError(f"{shown(path)} is a {type(item).__name__}, not a {kind.__name__}")
    return item


def _head(name: str, dataset: h5py.Dataset) -> Head:
    """What a data set says of itself; ValueError where it is not plain."""
    properties = dataset.id.get_create_plist()
    if properties.get_layout() not in _PLAIN or properties.get_external_count():
        raise ValueError(f"{shown(name)} lies in other files, which are not read")
    if properties.get_nfilters():
        raise ValueError(f"{shown(name)} is compressed or filtered, which is not read")
    if not isinstance(dataset.id.get_type(), h5py.h5t.TypeFloatID):  # before h5py makes a dtype of a compound
        raise ValueError(f"{shown(name)} is not of floating-point numbers")
    shape = dataset.shape
    if shape is None or len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"{shown(name)} has no shape that a tensor of weights can have")
    chunks = dataset.chunks or shape
    if math.prod(-(-n // max(1, side)) for n, side in zip(shape, chunks, strict=True)) > _MOST_CHUNKS:
        raise ValueError(f"{shown(name)} is cut into too many pieces")
    return Head(shape, dataset.dtype, dataset.dtype.itemsize)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
