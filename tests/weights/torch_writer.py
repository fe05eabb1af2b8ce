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
    def __init__(self, file):
        super().__init__(file, 2)
        self.arrays = []

    def persistent_id(self, value):
        return tuple(value) if isinstance(value, _Storage) else None

    def save(self, value, **options):
        if isinstance(value, _Global):
            self.write(f"c{value.module}\n{value.name}\n".encode())
        elif isinstance(value, np.ndarray):
            self.arrays.append(value)
            kind, key = _Global("torch", "FloatStorage"), str(len(self.arrays) - 1)
            storage = _Storage(("storage", kind, key, "cpu", value.size))
            steps = tuple(math.prod(value.shape[i + 1 :]) for i in range(value.ndim))
            view = (storage, 0, tuple(value.shape), steps, False, collections.OrderedDict())
            self.save_reduce(_Global("torch._utils", "_rebuild_tensor_v2"), view)
        else:
            super().save(value, **options)


def torch_bytes(content):
    """The file that `torch.save(content)` writes, with float32 arrays as tensors."""
    pickled, buffer = io.BytesIO(), io.BytesIO()
    pickler = _Pickler(pickled)
    pickler.dump(content)
    with zipfile.ZipFile(buffer, "w") as archive:  # stored, not compressed
        archive.writestr("archive/data.pkl", pickled.getvalue())
        archive.writestr("archive/byteorder", b"little")
        for i, array in enumerate(pickler.arrays):
            archive.writestr(f"archive/data/{i}", array.astype("<f4").tobytes())
        archive.writestr("archive/version", b"3\n")
    return buffer.getvalue()
