"""Files as `torch.save` writes them, made without PyTorch: what the reader of such files is tested on."""

import collections
import io
import math
import os
import pickle
import zipfile

import numpy as np

NEEDS_TORCH = "torch is not installed (the extra `parity`)"


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class _Global:
    """A name of Python's that is only written; pickle wants what is called to be callable."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __call__(self):
        raise AssertionError


class _Storage(tuple):
    """What PyTorch puts into a pickle for a block of numbers."""


class _Pickler(pickle._Pickler):
    def __init__(self, file, one_storage):
        super().__init__(file, 2)
        self.arrays, self.one_storage = [], one_storage

    def persistent_id(self, value):
        return tuple(value) if isinstance(value, _Storage) else None

    def save(self, value, **options):
        if isinstance(value, _Global):
            self.write(f"c{value.module}\n{value.name}\n".encode())
        elif isinstance(value, np.ndarray):
            size = value.size
            if self.one_storage:
                self.arrays, size = [np.zeros(self.one_storage)], self.one_storage
            else:
                self.arrays.append(value)
            kind, key = _Global("torch", "FloatStorage"), str(len(self.arrays) - 1)
            storage = _Storage(("storage", kind, key, "cpu", size))
            steps = tuple(math.prod(value.shape[i + 1 :]) for i in range(value.ndim))
            view = (storage, 0, tuple(value.shape), steps, False, collections.OrderedDict())
            self.save_reduce(_Global("torch._utils", "_rebuild_tensor_v2"), view)
        else:
            super().save(value, **options)


def torch_bytes(content, one_storage=0):
    """The file that `torch.save(content)` writes, with float32 arrays as tensors.

    Args:
        content: of dicts, lists and so on.
        one_storage: the size of a storage of zeros that all tensors are views of; 0 for one each.
    """
    pickled, buffer = io.BytesIO(), io.BytesIO()
    pickler = _Pickler(pickled, one_storage)
    pickler.dump(content)
    with zipfile.ZipFile(buffer, "w") as archive:  # stored, not compressed
        archive.writestr("archive/data.pkl", pickled.getvalue())
        archive.writestr("archive/byteorder", b"little")
        for i, array in enumerate(pickler.arrays):
            archive.writestr(f"archive/data/{i}", array.astype("<f4").tobytes())
        archive.writestr("archive/version", b"3\n")
    return buffer.getvalue()


def old_torch_bytes(state, whole=""):
    """What PyTorch 0.3 writes of a state dict or, as an object of a class, of a whole network.

    The format before zip: magic number, version, system, pickle, keys, and each storage with its length.
    Tensors are made by `_rebuild_tensor`, and of a class its name and its source are kept.
    """
    out = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        out.write(pickle.dumps(value, 2))

    def text(value):
        return b"X" + len(value).to_bytes(4, "little") + value.encode()

    def number(value):
        return b"J" + value.to_bytes(4, "little")

    def numbers(values):
        return b"(" + b"".join(map(number, values)) + b"t"

    def tensor(key, array):
        storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu")
        storage += number(array.size) + b"NtQ"  # and no view
        steps = [math.prod(array.shape[i + 1 :]) for i in range(array.ndim)]
        view = storage + number(0) + numbers(array.shape) + numbers(steps)
        return b"ctorch._utils\n_rebuild_tensor\n(" + view + b"tR"

    def module(name, contents):
        kind, source = b"c" + name.replace(" ", "\n").encode() + b"\n", "class"
        made = b"(" + text("module") + kind + text(f"{name}.py") + text(source) + b"tQ)\x81"
        return made + b"}(" + b"".join(text(key) + value for key, value in contents.items()) + b"ub"

    def items(pairs):
        return b"ccollections\nOrderedDict\n)R(" + b"".join(text(k) + v for k, v in pairs.items()) + b"u"

    tensors = {name: tensor(str(i), array) for i, (name, array) in enumerate(state.items())}
    if whole:
        layers = {}
        for layer in dict.fromkeys(name.rpartition(".")[0] for name in state):
            own = {n.rpartition(".")[2]: t for n, t in tensors.items() if n.rpartition(".")[0] == layer}
            empty = {"training": b"\x88", "_buffers": items({})}
            layers[layer] = module("torch.nn.modules.conv Conv2d", {"_parameters": items(own), **empty})
        content = module(whole, {"_parameters": items({}), "_modules": items(layers)})
    else:
        content = items(tensors)
    out.write(b"\x80\x02" + content + b"." + pickle.dumps([str(i) for i in range(len(state))], 2))
    for array in state.values():
        out.write(array.size.to_bytes(8, "little") + np.ascontiguousarray(array, "<f4").tobytes())
    return out.getvalue()
