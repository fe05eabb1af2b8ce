"""Weight files of other projects: how their tensors are named and laid out.

The projects are listed in `wdsr_jax/convert.py`.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np

from wdsr_jax.errors import UserError
from wdsr_jax.models.layers import DIV2K_MEAN
from wdsr_jax.system.files import open_regular, path_errors
from wdsr_jax.weights.keras_files import HDF5_START, open_keras
from wdsr_jax.weights.safetensors_files import open_safetensors
from wdsr_jax.weights.tensors import Head, TensorFile, check_heads, shown
from wdsr_jax.weights.torch_files import LEGACY_START, ZIP_START, Tensor, open_torch

_HALF = (0.5, 0.5, 0.5)
_T = TypeVar("_T")


class Layout(NamedTuple):
    """How a project names and lays out the weights of a network.

    Attributes:
        project: its name.
        convolutions: what it calls each convolution, by our name.
        leaves: what it appends for our `kernel`, `scale` and `bias`; no `scale` without weight norm.
        torch: kernels are (O, I, kh, kw), g is (O, 1, 1, 1), and the channels that become a cell of pixels
            are in the order c * r * r + i * r + j.
        mean: that it subtracts, unless told otherwise.
        gain: the network sees `gain * (x - mean)`.
    """

    project: str
    convolutions: Mapping[str, str]
    leaves: Mapping[str, str]
    torch: bool
    mean: tuple[float, float, float]
    gain: int

    def name(self, tensor: str) -> str:
        """What the project calls a tensor of ours, such as `head.kernel`."""
        convolution, _, leaf = tensor.rpartition(".")
        return self.convolutions[convolution] + self.leaves[leaf]


def their_shape(shape: tuple[int, ...], name: str, layout: Layout) -> tuple[int, ...]:
    """The shape in a layout of a tensor of ours."""
    if layout.torch and name.endswith("kernel"):
        return (shape[3], shape[2], shape[0], shape[1])
    return (*shape, 1, 1, 1) if layout.torch and name.endswith("scale") else shape


def to_ours(array: np.ndarray, name: str, layout: Layout, scale: int) -> np.ndarray:
    """A tensor of a layout as ours: kernel (kh, kw, I, O), scale (O,), bias (O,).

    Args:
        array: of the shape that `their_shape` gives.
        name: ours, such as `head.kernel`.
        layout: the project's.
        scale: of the network.
    """
    if not layout.torch:
        return array
    array = array.transpose(2, 3, 1, 0) if name.endswith("kernel") else array.reshape(-1)  # (..., O)
    if name.startswith(("tail", "skip")):
        cells = array.reshape(*array.shape[:-1], 3, scale**2)  # (..., c, i * r + j)
        array = cells.swapaxes(-1, -2).reshape(array.shape)  # (..., (i * r + j) * 3 + c)
    return array


def to_torch(array: np.ndarray, name: str, scale: int) -> np.ndarray:
    """The inverse of `to_ours` for a layout of torch."""
    if name.startswith(("tail", "skip")):
        cells = array.reshape(*array.shape[:-1], scale**2, 3)  # (..., i * r + j, c)
        array = cells.swapaxes(-1, -2).reshape(array.shape)  # (..., c * r * r + i * r + j)
    if name.endswith("kernel"):
        return array.transpose(3, 2, 0, 1)  # (O, I, kh, kw)
    return array.reshape(-1, 1, 1, 1) if name.endswith("scale") else array  # g (O, 1, 1, 1), bias (O,)


@contextmanager
def open_weights(path: str | os.PathLike) -> Iterator[tuple[TensorFile, Layout]]:
    """Weights of another project; what kind of file it is shows in its first bytes and its names.

    Gives:
        The file, with the tensors that the layout names, no more and no less, and the layout. No tensor is
        read yet. Shapes are not compared with each other.

    Raises:
        UserError: the file is damaged, of no known format or no WDSR, a tensor is missing or extra, or the
            tensors are more than a file can hold or weights have.
    """
    with path_errors(path, "cannot be read"), open_regular(path) as file:
        start, size = file.read(16), os.fstat(file.fileno()).st_size
    if start.startswith((ZIP_START, LEGACY_START)):
        opened = _open_torch(path)
    elif start.startswith(HDF5_START):
        opened = open_keras(path)
    elif start[8:9] == b"{":
        opened = _open_state_dict(path)
    else:
        what = "of unknown format" if start else "empty"
        raise UserError(
            f"{path}: {what}; files of torch.save and of Keras (.h5) can be converted, "
            "and state dicts in safetensors"
        )
    with opened as file:
        layout = (_keras_layout if start.startswith(HDF5_START) else _torch_layout)(path, file.heads)
        names = [theirs + leaf for theirs in layout.convolutions.values() for leaf in layout.leaves.values()]
        for name in names:
            if name not in file.heads:
                raise UserError(f"{path}: tensor {name} is missing for a network of {layout.project}")
        for name in sorted(file.heads.keys() - set(names)):
            raise UserError(f"{path}: tensor {shown(name)} does not belong to a network of {layout.project}")
        check_heads(path, file.heads, size)
        yield file, layout


_BLOCK = re.compile(r"body\.(\d{1,4})\.(body|module)\.(\d)\.")


@contextmanager
def _open_state_dict(path: str | os.PathLike) -> Iterator[TensorFile]:
    """A state dict as safetensors, such as `convert_to_torch` writes."""
    with open_safetensors(path) as file:
        if "model" in file.metadata:
            raise UserError(f"{path}: a safetensors file of this package, which needs no conversion")
        names = _without_prefix({name: name for name in file.heads})
        heads = {ours: file.heads[theirs] for ours, theirs in names.items()}
        yield TensorFile(heads, lambda name: file.read(names[name]), file.metadata)


@contextmanager
def _open_torch(path: str | os.PathLike) -> Iterator[TensorFile]:
    with open_torch(path) as file:
        state = file.content
        for key in ("model_state_dict", "state_dict"):
            if isinstance(state, dict) and key in state:
                state = state[key]
        if not isinstance(state, dict):
            raise UserError(f"{path}: holds no state dict")
        tensors = {str(name): tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
        tensors = _without_prefix(tensors)
        heads = {name: file.head(tensor) for name, tensor in tensors.items()}
        yield TensorFile(heads, lambda name: file.read(tensors[name]), {})


def _without_prefix(tensors: dict[str, _T]) -> dict[str, _T]:
    """The state dict of a network that was saved within a DataParallel."""
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def _torch_layout(path: str | os.PathLike, tensors: Mapping[str, Any]) -> Layout:
    """The layout of a state dict, which shows in its names."""
    found = [match for name in tensors if (match := _BLOCK.match(name))]
    if not found:
        raise UserError(f"{path}: not a WDSR; no tensor has a name like body.1.body.0.weight_v")
    leaves = {"kernel": ".weight", "bias": ".bias"}
    if any(name.endswith(".weight_g") for name in tensors):
        leaves |= {"kernel": ".weight_v", "scale": ".weight_g"}
    last = min(max(int(match[1]) for match in found), len(tensors))
    if not any(name.startswith(("head.", "tail.")) for name in tensors):
        return official_2020(last, leaves)
    inner = found[0][2]
    places = {"expand": 0, "project": 2}
    if any(match[3] == "3" for match in found):
        places = {"expand": 0, "reduce": 2, "project": 3}
    convolutions = {"head": "head.0"}
    for i in range(last + 1):
        convolutions |= {f"block_{i}.{ours}": f"body.{i}.{inner}.{place}" for ours, place in places.items()}
    convolutions |= {"tail": "tail.0", "skip": "skip.0"}
    project = "WDSR-pytorch" if inner == "module" else "the official code of 2018"
    return Layout(project, convolutions, leaves, torch=True, mean=DIV2K_MEAN, gain=2)


def official_2020(blocks: int, leaves: Mapping[str, str]) -> Layout:
    """The layout of a network of that project."""
    convolutions = {"head": "body.0"}
    for i in range(blocks):
        convolutions[f"block_{i}.expand"] = f"body.{i + 1}.body.0"
        convolutions[f"block_{i}.project"] = f"body.{i + 1}.body.2"
    convolutions |= {"tail": f"body.{blocks + 1}", "skip": "skip.0"}
    return Layout("the official code of 2020", convolutions, leaves, torch=True, mean=_HALF, gain=1)


def _keras_layout(path: str | os.PathLike, heads: Mapping[str, Head]) -> Layout:
    """The layout of a file of Keras, which shows in the shapes and the order of its layers."""
    layers = dict.fromkeys(name.rpartition("/")[0] for name in heads)
    kernels = {layer: heads.get(f"{layer}/kernel") for layer in layers}
    shapes = {layer: () if kernel is None else kernel.shape for layer, kernel in kernels.items()}
    skips = [layer for layer in layers if shapes[layer][:3] == (5, 5, 3)]
    chain = [layer for layer in layers if layer not in skips]  # head, blocks, tail: as data flow
    reduced = any(shape[:2] == (1, 1) for shape in shapes.values())
    parts = ("expand", "reduce", "project") if reduced else ("expand", "project")
    blocks, left_over = divmod(len(chain) - 2, len(parts))
    if len(skips) != 1 or blocks < 1 or left_over:
        raise UserError(
            f"{path}: not a WDSR; it has {len(skips)} convolutions of 5x5 on RGB, {len(chain)} other layers"
        )
    places = ["head", *(f"block_{i}.{part}" for i in range(blocks) for part in parts), "tail"]
    convolutions = dict(zip(places, chain, strict=True)) | {"skip": skips[0]}
    leaves = {"kernel": "/kernel", "bias": "/bias"}
    if not any(name.endswith("/g") for name in heads):
        return Layout("Keras of 2018", convolutions, leaves, torch=False, mean=_HALF, gain=2)
    leaves["scale"] = "/g"
    return Layout("Keras", convolutions, leaves, torch=False, mean=DIV2K_MEAN, gain=2)
