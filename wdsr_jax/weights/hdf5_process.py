"""Reads a file of Keras with the HDF5 library, in a process of its own; `keras_files` starts it.

The library is a large program that does what a file says: on damaged files it may go round in circles, ask
for gigabytes, or crash. Here it has a bounded time and memory. Besides, HDF5 can say that data lie in other
files, of any name (external storage, external links, virtual data sets), name one data set a thousand times,
and compress zeros to nothing. None of that is read.

This file is run by itself, with the number of an open file as its argument, and imports nothing of the
package. It writes a line of JSON: `layers`, the names of all layers, and `tensors`, a list of name, shape and
dtype; or `error`. For each line with the index of a tensor it then writes its bytes.
"""

import json
import math
import os
import resource
import sys
from typing import Any

CPU_SECONDS = 6
MEMORY = 1 << 29  # bytes; a tensor is read as a whole
_MOST_TENSORS, _MOST_DIMENSIONS, _MOST_CHUNKS = 2048, 8, 4096


def main() -> None:
    """See the module's docstring."""
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, CPU_SECONDS)
    import h5py
    import numpy as np

    _limit(resource.RLIMIT_DATA, MEMORY)
    out = sys.stdout.buffer
    datasets: dict[str, Any] = {}
    heads: list[tuple[str, tuple[int, ...], str]] = []
    try:
        file = h5py.File(os.fdopen(int(sys.argv[1]), "rb"), "r")
        layers, datasets = _find_weights(file)
        heads = [(name, *_head(name, dataset)) for name, dataset in datasets.items()]
        answer = {"layers": layers, "tensors": heads}
    except Exception as error:  # whatever h5py raises, and what comes of names and types that are not Keras'
        answer = {"error": " ".join(str(error).split())[:200] or type(error).__name__}
    out.write(json.dumps(answer).encode() + b"\n")
    out.flush()
    for line in sys.stdin.buffer:
        name, shape, dtype = heads[int(line)]
        array = np.empty(shape, dtype)
        if array.size:
            datasets[name].read_direct(array)
        out.write(array.data)
        out.flush()


def _limit(kind: int, most: int) -> None:
    """Lowers what this process may have of something, unless it may have less already."""
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most if soft == resource.RLIM_INFINITY else min(most, soft), hard))


def _find_weights(file: Any) -> tuple[list[str], dict[str, Any]]:
    """The names of all layers, and the data sets of the weights in their order, as `layer/weight`."""
    root = _find(file, "model_weights") if "model_weights" in list(file) else file
    layers, datasets = _texts(root, "layer_names"), {}
    for layer in layers:
        group = _find(root, layer)
        for weight in _texts(group, "weight_names"):
            name = f"{layer}/{weight.rpartition('/')[2].partition(':')[0]}"
            if name.endswith("/initialized"):  # of weight norm: whether g has been set
                continue
            if name in datasets or len(datasets) == _MOST_TENSORS:
                raise ValueError(f"weight {name[:100]} is there twice, or one of too many")
            datasets[name] = _find(group, weight)
    return layers, datasets


def _texts(group: Any, attribute: str) -> list[str]:
    """An attribute that lists names."""
    import h5py
    import numpy as np

    kept = group.attrs.get_id(attribute)
    count = math.prod(kept.shape)
    if len(kept.shape) == 1 and not count:  # an empty list has a type of its own
        return []
    is_text = isinstance(kept.get_type(), h5py.h5t.TypeStringID)
    if len(kept.shape) != 1 or count > _MOST_TENSORS or not is_text:
        raise ValueError(f"{attribute} is no list of names")
    names = np.asarray(group.attrs[attribute]).tolist()
    return [name.decode() if isinstance(name, bytes) else name for name in names]


def _find(group: Any, path: str) -> Any:
    """What lies at a path below a group, by links that stay in the file."""
    import h5py

    item = group
    for part in filter(None, path.split("/")):
        if not isinstance(item, h5py.Group):
            raise ValueError(f"{path[:100]} is not there")
        if not isinstance(item.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{path[:100]} is not there, or a link to elsewhere, which is not followed")
        item = item[part]
    return item


def _head(name: str, dataset: Any) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of a data set; ValueError where it is not plain."""
    import h5py

    name = name[:100]
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{name} is a {type(dataset).__name__}, not a data set")
    properties = dataset.id.get_create_plist()
    plain = (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED)
    if properties.get_layout() not in plain or properties.get_external_count():
        raise ValueError(f"{name} lies in other files, which are not read")
    if properties.get_nfilters():
        raise ValueError(f"{name} is compressed or filtered, which is not read")
    if not isinstance(dataset.id.get_type(), h5py.h5t.TypeFloatID):  # before h5py makes a dtype of a compound
        raise ValueError(f"{name} is not of floating-point numbers")
    shape = dataset.shape
    if shape is None or len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"{name} has no shape that a tensor of weights can have")
    chunks = dataset.chunks or shape
    if math.prod(-(-n // max(1, side)) for n, side in zip(shape, chunks, strict=True)) > _MOST_CHUNKS:
        raise ValueError(f"{name} is cut into too many pieces")
    return shape, dataset.dtype.str


if __name__ == "__main__":
    main()
