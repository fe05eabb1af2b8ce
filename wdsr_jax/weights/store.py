"""Weight files: parameters as safetensors, with the network's config in the metadata."""

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict

from wdsr_jax.errors import UserError
from wdsr_jax.models import count_params, create_model, fold_weight_norm
from wdsr_jax.weights.files import BEFORE_GAN_FILE, OLD_BEFORE_GAN_FILE, find_weights, list_pretrained
from wdsr_jax.weights.safetensors_files import open_safetensors, write_safetensors
from wdsr_jax.weights.tensors import Head, check_heads, shown

_MAX_SCALE = 64  # which no tensor of SRCNN tells
_PARTS_WITHOUT_TENSORS = 4

__all__ = [
    "finite_float32",
    "list_pretrained",
    "load_between",
    "load_pretrained",
    "param_shapes",
    "read_safetensors",
    "recorded_psnr",
    "save_weights",
    "start_from",
]


def save_weights(
    path: str | os.PathLike, model_config: Mapping[str, Any], params: Any, psnr_rgb: float | None = None
) -> None:
    """Writes parameters and `config.model` to a safetensors file; it appears whole or not at all.

    Tensors are named by their path in the tree, such as `block_0.expand.kernel`. The same parameters make the
    same file, to the byte.

    Args:
        path: of the file.
        model_config: the section model of a config.
        params: parameters of that network.
        psnr_rgb: validation PSNR (protocol `ntire`), for `recorded_psnr`.

    Raises:
        UserError: the folder is missing, read-only or full.
    """
    tensors = {name: np.asarray(leaf) for name, leaf in flatten_dict(jax.device_get(params), sep=".").items()}
    # In which dtype to compute is the user's choice, not the weights': load_pretrained gives float32.
    fields = {key: value for key, value in model_config.items() if key != "dtype"}
    metadata = {"model": json.dumps(fields, sort_keys=True)}
    metadata |= {} if psnr_rgb is None else {"psnr_rgb": repr(psnr_rgb)}
    write_safetensors(path, tensors, metadata)


def recorded_psnr(path: str | os.PathLike) -> float:
    """The PSNR that `save_weights` was given; -inf where the file is missing, damaged or records none."""
    try:
        with open_safetensors(path) as file:
            return float(file.metadata["psnr_rgb"])
    except (UserError, KeyError, ValueError):
        return -math.inf


def load_pretrained(
    name_or_path: str | os.PathLike, *, module: nn.Module | None = None
) -> tuple[nn.Module, Any]:
    """Loads a network and its parameters.

    Args:
        name_or_path: a shipped name (see `list_pretrained`), a weights file, or the workdir of a
            training run, whose best weights by validation PSNR are taken.
        module: the network that the parameters belong to; None for the one that the file names. A network
            from outside this package has to be given: no file makes anything be imported.

    Returns:
        module and params, for `module.apply({"params": params}, lr)`; lr is (B, H, W, 3) in [0, 1].

    Raises:
        UserError: there is no such file or name, the file names no network of this package and none is given,
            or its tensors are not the finite parameters of the network. What the file says is checked before
            a tensor is read.
    """
    path = find_weights(name_or_path)
    with open_safetensors(path) as file:
        if module is None:
            check_heads(path, file.heads, os.path.getsize(path))
            module, expected = _named_network(path, file.metadata, file.heads)
        else:
            expected = param_shapes(module)
        for name in sorted(expected.keys() | file.heads.keys()):
            if name not in file.heads:
                raise UserError(f"{path}: tensor {name} is missing")
            if name not in expected:
                raise UserError(f"{path}: tensor {shown(name)} does not belong to the network")
            if file.heads[name].shape != expected[name]:
                raise UserError(f"{path}: tensor {name} is {file.heads[name].shape}, not {expected[name]}")
        # Not by `jnp.asarray`, which compiles for each shape.
        flat = {
            name: jax.device_put(finite_float32(path, name, file.read(name))) for name in sorted(expected)
        }
    return module, unflatten_dict(flat, sep=".")


def load_between(
    name_or_path: str | os.PathLike, perceptual: float, *, module: nn.Module | None = None
) -> tuple[nn.Module, Any]:
    """The network between what a fine-tuning with a discriminator began with and what it ended with.

    A parameter is `(1 - perceptual) * before + perceptual * after` (ESRGAN, arXiv:1809.00219, section 3.4).

    Args:
        name_or_path: workdir of the fine-tuning, or its weights file, with `before_gan.safetensors` beside it
            (or `psnr.safetensors`, its name in version 0.1).
        perceptual: from 0, the network trained for PSNR, to 1.
        module: as for `load_pretrained`.

    Raises:
        UserError: as `load_pretrained`, or there is no `before_gan.safetensors` of the same network.
    """
    network, after = load_pretrained(name_or_path, module=module)
    folder = find_weights(name_or_path).parent
    path, old = folder / BEFORE_GAN_FILE, folder / OLD_BEFORE_GAN_FILE
    path = old if old.exists() and not path.exists() else path
    if not path.exists():
        raise UserError(f"--perceptual: {name_or_path} was not fine-tuned with a discriminator (no {path})")
    other, before = load_pretrained(path, module=module)
    if other != network:
        raise UserError(f"{path}: is of another network than {name_or_path}")
    return network, jax.tree.map(lambda x, y: (1 - perceptual) * x + perceptual * y, before, after)


def start_from(params: Any, name_or_path: str | os.PathLike, *, whole: bool = False) -> Any:
    """Parameters for fine-tuning: the layers that another network has in the same shape, from there.

    A network of another scale gives its head and blocks; tail and skip stay as initialised. A layer is taken
    whole or not at all: a kernel would be another filter under a g of its own. Where the new layer has no
    norm, that of the old one is multiplied out. One line of the log says what was taken; another warns where
    it is little.

    Args:
        params: freshly initialised, of the network to train.
        name_or_path: as for `load_pretrained`.
        whole: whether every layer has to be there in the same shape.

    Raises:
        UserError: as `load_pretrained`, or nothing fits, or not all does that has to.
    """
    path = find_weights(name_or_path)
    metadata, tensors = read_safetensors(path)
    # The layers of a network from outside are compared with those of the one to train, which `params` are of.
    outside = _is_outside(_model_config(path, metadata))
    other = _to_params(path, tensors) if outside else load_pretrained(path)[1]
    old: dict[str, Any] = dict(flatten_dict(other, sep=".", is_leaf=_is_layer))
    new: dict[str, Any] = dict(flatten_dict(params, sep=".", is_leaf=_is_layer))
    fitting = _fitting_layers(old, new)
    if not any("kernel" in layer for layer in fitting.values()):
        raise UserError(f"{name_or_path}: has no convolution of the shape and name of this network's")
    if whole and (others := sorted(new.keys() - fitting.keys())):
        raise UserError(
            f"{name_or_path}: is another network than config.model: {others[0]} is not there in the same "
            "shape; this training starts from the whole of a trained network"
        )
    _log_taken(name_or_path, new, fitting)
    return unflatten_dict(new | fitting, sep=".")


def _fitting_layers(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The layers of `old` that `new` has in the same shape, without a norm that it lacks."""
    fitting = {}
    for name in old.keys() & new.keys():
        folded = fold_weight_norm(old[name]) if "kernel" in old[name] else old[name]
        for layer in (old[name], folded):
            if _shapes(layer) == _shapes(new[name]):
                fitting[name] = layer
                break
    return fitting


def _log_taken(source: str | os.PathLike, new: Mapping[str, Any], fitting: Mapping[str, Any]) -> None:
    """Logs what fine-tuning starts from, and warns where that is little."""
    taken, total = (sum(count_params(layer) for layer in layers.values()) for layers in (fitting, new))
    # By the outermost name: `block_0` for its three convolutions, where none of them was taken.
    parts: dict[str, list[bool]] = {}
    for name in new:
        parts.setdefault(name.partition(".")[0], []).append(name in fitting)
    fresh = [name for name, found in parts.items() if not all(found)]
    listed = ", ".join(fresh[:5]) + (f" and {len(fresh) - 5} more" if len(fresh) > 5 else "")
    logging.info("%s of %s scalars from %s; new: %s", f"{taken:,}", f"{total:,}", source, listed or "nothing")
    kinds: dict[str, bool] = {}
    for name, found in parts.items():
        kind = re.sub(r"_?\d+$", "", name)
        kinds[kind] = kinds.get(kind, False) or any(found)
    without = [words for kind, words in (("head", "head"), ("block", "blocks")) if kinds.get(kind) is False]
    if without or (not kinds.keys() & {"head", "block"} and 2 * taken < total):
        logging.warning(
            "%s fits %s of this network: the rest is trained from scratch; config.model should be that of "
            "the weights, but for the scale",
            source,
            f"neither {' nor '.join(without)}"
            if len(without) > 1
            else f"no {without[0]}"
            if without
            else "little",
        )


def _is_layer(_: Any, node: Mapping[str, Any]) -> bool:
    return not any(isinstance(child, Mapping) for child in node.values())


def _shapes(layer: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in layer.items()}


class TooManyParts(Exception):
    """A network has more layers and blocks than it may have."""


def param_shapes(module: nn.Module, most: int | None = None) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter of a network, by the name that `save_weights` gives it.

    Args:
        module: the network.
        most: the number of parts (layers, blocks) beyond which it is not followed any further.

    Raises:
        TooManyParts: it has more than `most`.
    """
    parts = 0

    def count(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        nonlocal parts
        parts += context.method_name == "__call__"
        if most is not None and parts > most:
            raise TooManyParts
        return call(*args, **kwargs)

    with nn.intercept_methods(count):
        init = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3))))
    flat: dict[str, Any] = dict(flatten_dict(init["params"], sep="."))
    return {name: leaf.shape for name, leaf in flat.items()}


def finite_float32(path: str | os.PathLike, name: str, tensor: np.ndarray) -> np.ndarray:
    """A tensor of a weights file as float32.

    Raises:
        UserError: it holds NaN or infinity; names the file and the tensor.
    """
    with np.errstate(over="ignore"):  # a float64 beyond float32 is found as the infinity it becomes
        tensor = tensor.astype(np.float32)
    if not np.isfinite(tensor).all():
        raise UserError(f"{path}: tensor {shown(name)} holds values that are not finite")
    return tensor


def read_safetensors(path: str | os.PathLike) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The metadata and the tensors of a safetensors file, by name, as they are.

    Raises:
        UserError: it is no such file, damaged, or asks for more than weights have (`check_heads`).
    """
    with open_safetensors(path) as file:
        check_heads(path, file.heads, os.path.getsize(path))
        return dict(file.metadata), {name: file.read(name) for name in file.heads}


def _model_config(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The section model of the config that `save_weights` was given."""
    try:
        return dict(json.loads(metadata["model"]))
    except (KeyError, TypeError, ValueError, RecursionError):
        raise UserError(f"{path}: its metadata has no `model` with the config of a network") from None


def _named_network(
    path: Path, metadata: Mapping[str, str], heads: Mapping[str, Head]
) -> tuple[nn.Module, dict[str, tuple[int, ...]]]:
    """The network that a file names, and the shapes of its parameters.

    Each part of a network has a tensor or more, or is one of a few, such as the whole and SRCNN's bicubic. So
    one of more parts than the file has tensors is another network, and is not followed to its end.
    """
    config = _model_config(path, metadata)
    if _is_outside(config):
        name = shown(str(config["name"]))
        raise UserError(
            f"{path}: of {name}, a network from outside wdsr_jax, which no weights file imports; "
            "it loads with load_pretrained(path, module=...)"
        )
    try:
        module = create_model(config)
        if module.scale > _MAX_SCALE:
            raise UserError(f"model.scale is at most {_MAX_SCALE} in a weights file, not {module.scale:.6g}")
        return module, param_shapes(module, len(heads) + _PARTS_WITHOUT_TENSORS)
    except (ArithmeticError, KeyError, TypeError, ValueError, RecursionError):
        raise UserError(f"{path}: its metadata has no `model` with the config of a network") from None
    except TooManyParts:
        what = f"of more layers than its {len(heads)} tensors can be of"
        raise UserError(f"{path}: its metadata name a network {what}") from None
    except UserError as error:
        reason = shown(str(error), 500)
        raise UserError(f"{path}: its metadata name no network of wdsr_jax ({reason})") from None


def _is_outside(config: Mapping[str, Any]) -> bool:
    """Whether a network is named as `package.module:Class`, which would be imported."""
    return ":" in str(config.get("name"))


def _to_params(path: Path, tensors: Mapping[str, np.ndarray]) -> Any:
    flat = {name: jax.device_put(finite_float32(path, name, tensors[name])) for name in sorted(tensors)}
    return unflatten_dict(flat, sep=".")
