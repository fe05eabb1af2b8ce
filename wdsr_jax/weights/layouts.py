"""Weight files of other projects: which project's a file is, and how its tensors become ours.

`families` has the projects' names in tables, `keras_chains` what files of Keras tell by the order of layers.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np

from wdsr_jax.errors import UserError
from wdsr_jax.system.files import open_regular, path_errors
from wdsr_jax.weights.families import Counts, Family, family_of, what_it_seems
from wdsr_jax.weights.keras_chains import chain_of
from wdsr_jax.weights.keras_files import HDF5_START, open_keras
from wdsr_jax.weights.safetensors_files import open_safetensors
from wdsr_jax.weights.tensors import Head, TensorFile, check_heads, shown
from wdsr_jax.weights.torch_files import LEGACY_START, ZIP_START, Object, Tensor, open_torch

# Where a checkpoint has the state dict of its network; an average of the weights is better than the weights.
_STATES = ("params_ema", "params", "model_state_dict", "state_dict", "model", "net", "generator")
# What stands before every name of a network that was saved as a part of something.
_PREFIXES = ("module.", "model.", "net.", "generator.", "_orig_mod.", "params_ema.", "params.")
# By kind of file and norm: what a project appends for our kernel, scale and bias.
_LEAVES = {
    True: (
        dict(
            kernel=".parametrizations.weight.original1",
            scale=".parametrizations.weight.original0",
            bias=".bias",
        ),
        dict(kernel=".weight_v", scale=".weight_g", bias=".bias"),
        dict(kernel=".weight", bias=".bias"),
    ),
    False: (dict(kernel="/kernel", scale="/g", bias="/bias"), dict(kernel="/kernel", bias="/bias")),
}
_READ = "read are WDSR, EDSR, MSRResNet, SRCNN and RDN (docs/weights.md)"
_LONGEST_PREFIX = 500  # characters: of modules within modules
# Convolutions of one colour each, which subtract and add the mean.
_MEAN_SHIFT = re.compile(r"(sub|add)_mean\.(?:\w+\.)?(weight|bias)")

_T = TypeVar("_T")
RGB = tuple[float, float, float]


class Layout(NamedTuple):
    """How a file names and lays out the weights of a network.

    Attributes:
        project: whose it is.
        network: the class of ours, in small letters.
        convolutions: what it calls each convolution, by our name.
        leaves: what it appends for our `kernel`, `scale` and `bias`; no `scale` without weight norm.
        counts: of blocks, layers and stages.
        torch: kernels are (O, I, kh, kw), g is (O, 1, 1, 1), and the channels that become a cell of pixels
            are in the order c * r * r + i * r + j.
        mean: that it subtracts, unless told otherwise.
        gain: the network sees `gain * (x - mean)`.
        luma: of networks with one channel, which it is.
        told: whether the file itself tells the mean.
    """

    project: str
    network: str
    convolutions: Mapping[str, str]
    leaves: Mapping[str, str]
    counts: Counts
    torch: bool
    mean: RGB
    gain: int
    luma: str = "luma_full"
    told: bool = False

    def name(self, tensor: str) -> str:
        """What the project calls a tensor of ours, such as `head.kernel`."""
        convolution, _, leaf = tensor.rpartition(".")
        return self.convolutions[convolution] + self.leaves[leaf]


def their_shape(shape: tuple[int, ...], name: str, layout: Layout) -> tuple[int, ...]:
    """The shape in a layout of a tensor of ours."""
    if layout.torch and name.endswith("kernel"):
        return (shape[3], shape[2], shape[0], shape[1])
    return (*shape, 1, 1, 1) if layout.torch and name.endswith("scale") else shape


def to_ours(array: np.ndarray, name: str, layout: Layout, factor: int = 1) -> np.ndarray:
    """A tensor of a layout as ours: kernel (kh, kw, I, O), scale (O,), bias (O,).

    Args:
        array: of the shape that `their_shape` gives.
        name: ours, such as `head.kernel`.
        layout: the project's.
        factor: of the pixel shuffle behind the convolution; 1 where there is none.
    """
    if not layout.torch:
        return array
    array = array.transpose(2, 3, 1, 0) if name.endswith("kernel") else array.reshape(-1)  # (..., O)
    cells = array.reshape(*array.shape[:-1], -1, factor**2)  # (..., c, i * r + j)
    return cells.swapaxes(-1, -2).reshape(array.shape)  # (..., (i * r + j) * C + c)


def to_torch(array: np.ndarray, name: str, factor: int = 1) -> np.ndarray:
    """The inverse of `to_ours` for a layout of torch."""
    cells = array.reshape(*array.shape[:-1], factor**2, -1)  # (..., i * r + j, c)
    array = cells.swapaxes(-1, -2).reshape(array.shape)  # (..., c * r * r + i * r + j)
    if name.endswith("kernel"):
        return array.transpose(3, 2, 0, 1)  # (O, I, kh, kw)
    return array.reshape(-1, 1, 1, 1) if name.endswith("scale") else array  # g (O, 1, 1, 1), bias (O,)


def layout_of(family: Family, counts: Counts, leaves: Mapping[str, str]) -> Layout:
    """The layout of a network of a project's."""
    return Layout(
        family.project,
        family.network,
        family.names(counts),
        leaves,
        counts,
        family.torch,
        family.mean,
        family.gain,
        family.luma,
    )


@contextmanager
def open_weights(path: str | os.PathLike) -> Iterator[tuple[TensorFile, Layout]]:
    """Weights of another project; what kind of file it is shows in its first bytes and its names.

    Gives:
        The file, with the tensors that the layout names, no more and no less, and the layout. No tensor of
        the network is read yet. Shapes are not compared with each other.

    Raises:
        UserError: the file is damaged, of no known format or of no network that is read, a tensor is missing
            or extra, or the tensors are more than a file can hold or weights have.
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
        heads = {name: head for name, head in file.heads.items() if not name.endswith("num_batches_tracked")}
        shifts = {name: heads.pop(name) for name in file.heads if _MEAN_SHIFT.fullmatch(name)}
        layout = _find_layout(path, heads, file.metadata, torch=not start.startswith(HDF5_START))
        if shifts:
            check_heads(path, shifts, size)
            mean, gain = _read_mean(path, shifts, file)
            layout = layout._replace(mean=mean, gain=gain, told=True)
        names = [theirs + leaf for theirs in layout.convolutions.values() for leaf in layout.leaves.values()]
        for name in names:
            if name not in heads:
                raise UserError(f"{path}: tensor {name} is missing for a network of {layout.project}")
        for name in sorted(heads.keys() - set(names)):
            raise UserError(f"{path}: tensor {shown(name)} does not belong to a network of {layout.project}")
        check_heads(path, heads, size)
        yield file._replace(heads=heads), layout


@contextmanager
def _open_state_dict(path: str | os.PathLike) -> Iterator[TensorFile]:
    """A state dict as safetensors, such as `convert_to_torch` writes."""
    with open_safetensors(path) as file:
        if "model" in file.metadata:
            raise UserError(f"{path}: a safetensors file of this package, which needs no conversion")
        names = _without_prefix({name: name for name in file.heads})
        heads = {ours: file.heads[theirs] for ours, theirs in names.items()}
        yield TensorFile(heads, lambda name: file.read(names[name]), {})


@contextmanager
def _open_torch(path: str | os.PathLike) -> Iterator[TensorFile]:
    """A state dict in a file of torch.save, a checkpoint that has one, or a whole network."""
    with open_torch(path) as file:
        tensors = _without_prefix(_state_dict(file.content))
        if not tensors:
            keys = list(file.content)[:5] if isinstance(file.content, dict) else []
            there = f", but {', '.join(shown(str(key), 30) for key in keys)}" if keys else ""
            raise UserError(f"{path}: holds no state dict{there}; {_READ}")
        heads = {name: file.head(tensor) for name, tensor in tensors.items()}
        yield TensorFile(heads, lambda name: file.read(tensors[name]), {})


def _state_dict(content: Any) -> dict[str, Tensor]:
    """The tensors of what was saved, by name; none where it has no state dict."""
    for _ in range(len(_STATES)):  # a checkpoint within a checkpoint
        found = next((key for key in _STATES if isinstance(content, dict) and key in content), None)
        if found is None or isinstance(content[found], Tensor):
            break
        content = content[found]
    if isinstance(content, Object):
        return _tensors_of_module(content)
    items = content.items() if isinstance(content, dict) else ()
    return {str(name): tensor for name, tensor in items if isinstance(tensor, Tensor)}


def _tensors_of_module(module: Object) -> dict[str, Tensor]:
    """The state dict of a network that was saved as a whole (torch.nn.Module)."""
    tensors, seen = {}, set()
    left: list[tuple[str, Any]] = [("", module)]
    while left:
        prefix, item = left.pop()
        if not isinstance(item, Object) or not isinstance(item.state, dict) or id(item) in seen:
            continue
        if len(prefix) > _LONGEST_PREFIX:
            continue
        seen.add(id(item))
        for kind in ("_parameters", "_buffers"):
            own = item.state.get(kind)
            for name, tensor in own.items() if isinstance(own, dict) else ():
                if isinstance(tensor, Tensor):
                    tensors[f"{prefix}{name}"] = tensor
        children = item.state.get("_modules")
        if isinstance(children, dict):
            left += [(f"{prefix}{name}.", child) for name, child in children.items()]
    return tensors


def _without_prefix(tensors: dict[str, _T]) -> dict[str, _T]:
    """The state dict of a network that was saved within others, such as a DataParallel."""
    for _ in range(len(_PREFIXES)):
        for prefix in _PREFIXES:
            if tensors and all(name.startswith(prefix) for name in tensors):
                tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _find_layout(
    path: str | os.PathLike, heads: Mapping[str, Head], metadata: Mapping[str, str], *, torch: bool
) -> Layout:
    """The layout of a file, which shows in the names of its tensors, or in the order of Keras' layers."""
    leaves = next(
        (kinds for kinds in _LEAVES[torch] if any(name.endswith(kinds.get("scale", "")) for name in heads)),
        _LEAVES[torch][-1],
    )
    endings = tuple(leaves.values())
    layers = {
        name.removesuffix(ending): None for name in heads for ending in endings if name.endswith(ending)
    }
    if found := family_of(layers, torch=torch):
        return layout_of(*found, leaves)
    if not torch:
        shapes = {layer: heads[f"{layer}/kernel"].shape for layer in layers if f"{layer}/kernel" in heads}
        chain = chain_of(shapes, metadata.get("layers", "").split("\n"), normed="scale" in leaves)
        if chain.network:
            found = (chain.project, chain.network, chain.convolutions, leaves, chain.counts)
            return Layout(*found, False, chain.mean, chain.gain)
        raise UserError(f"{path}: {chain.project}; {_READ}")
    some = ", ".join(shown(name, 40) for name in list(heads)[:3])
    seems = what_it_seems(heads)
    seems = f" but, as it seems, {seems}" if seems else ", nor another network that is known"
    raise UserError(f"{path}: not a WDSR{seems}; its {len(heads)} tensors are {some}...; {_READ}")


def _read_mean(path: str | os.PathLike, shifts: Mapping[str, Head], file: TensorFile) -> tuple[RGB, int]:
    """The mean and the range of a file with EDSR-PyTorch's `MeanShift`, an identity with a bias.

    Raises:
        UserError: the shifts are no such thing, or are not each other's inverse.
    """
    biases = {}
    for name, head in shifts.items():
        kind, leaf = _MEAN_SHIFT.fullmatch(name).groups()  # pyright: ignore[reportOptionalMemberAccess]
        expected = (3, 3, 1, 1) if leaf == "weight" else (3,)
        array = file.read(name) if head.shape == expected else np.full(expected, np.nan)
        if leaf == "bias":
            biases[kind] = array.astype(np.float64)
        elif not np.allclose(array[..., 0, 0], np.eye(3), atol=1e-3):
            raise UserError(f"{path}: {name} does more than to keep the colours, which is not supported")
    mean = biases.get("add", -biases.get("sub", np.full(3, np.nan)))
    gain = 255 if np.abs(mean).max(initial=0) > 1 else 1
    mean = mean / gain
    consistent = "sub" not in biases or np.allclose(biases["sub"], -mean * gain, atol=1e-3)
    if not consistent or not np.all((mean >= 0) & (mean <= 1)):
        raise UserError(f"{path}: sub_mean and add_mean are not a mean in [0, 255] and its inverse")
    r, g, b = (round(float(x), 5) for x in mean)
    return (r, g, b), gain
