"""The networks: `create_model` makes one from the model section of a config.

A network is one file, which states what `config.model` may say about it, and one row of `_NETWORKS`. It is a
Flax module from LR (B, H, W, 3) in [0, 1] to SR (B, H * scale, W * scale, 3), and has

- fields with types and defaults, `scale` among them. Those of a type in `_KINDS`, or a `Literal` of text, are
  keys of `config.model`; others, such as `axis_name`, are for the code alone. Values that do not go together
  are refused in `__post_init__` by a `UserError` that starts with `model.KEY`.
- `radius`: by how many LR pixels its receptive field reaches beyond an output pixel's own LR pixel, a
  property of its fields; or None where an output pixel depends on the whole image.
- where it has batch norm, `has_batch_norm`, a property, and a field `axis_name` (see `batch_norm`).
- a field `convolve`, passed on to its convolutions (see `Conv`), for the training step to set.
"""

import dataclasses
import importlib
import math
import reprlib
import typing
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from wdsr_jax.errors import UserError
from wdsr_jax.models.edrn import EDRN
from wdsr_jax.models.edsr import EDSR
from wdsr_jax.models.flow import FlowWDSR
from wdsr_jax.models.layers import count_params, fold_weight_norm
from wdsr_jax.models.msrresnet import MSRResNet
from wdsr_jax.models.rdn import RDN
from wdsr_jax.models.srcnn import SRCNN
from wdsr_jax.models.srdensenet import SRDenseNet
from wdsr_jax.models.srresnet import SRResNet
from wdsr_jax.models.wdsr import WDSR

__all__ = [
    "count_params",
    "create_model",
    "fold_weight_norm",
    "has_batch_norm",
    "model_keys",
    "replace_fields",
]

# By name: the network, and the fields that the name stands for, which are no keys.
_NETWORKS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "wdsr_a": (WDSR, {"block": "a"}),
    "wdsr_b": (WDSR, {"block": "b"}),
    "edsr": (EDSR, {}),
    "srcnn_915": (SRCNN, {"middle": 1}),
    "srcnn_955": (SRCNN, {"middle": 5}),
    "msrresnet": (MSRResNet, {}),
    "srresnet": (SRResNet, {}),
    "srdensenet": (SRDenseNet, {}),
    "rdn": (RDN, {}),
    "edrn": (EDRN, {}),
    "wdsr_flow": (FlowWDSR, {}),
}
_RGB = tuple[float, float, float]
_DTYPES = Literal["float32", "bfloat16"]
# By type of a field: what a config has for it.
_KINDS: dict[Any, Any] = {int: int, float: float, _RGB: _RGB, DTypeLike: _DTYPES}


def model_keys(name: str = "") -> dict[str, Any]:
    """The keys that `config.model` may have.

    Args:
        name: a network from outside the package, `package.module:Network`, whose keys are to be among them;
            it is imported. Any other name adds nothing.

    Returns:
        By key the type of its value, from the fields of the networks: `str` for `name`, `int` (at least 1),
        `float` (finite), a `Literal` of text, or `tuple[float, float, float]` (RGB).

    Raises:
        UserError: a network from outside that cannot be imported or is none.
    """
    rows = [*_NETWORKS.values()]
    if ":" in name:
        rows.append((_import_network(name), {}))
    keys: dict[str, Any] = {"name": str}
    for network, preset in rows:
        for key, kind in _keys(network, preset).items():
            if typing.get_origin(kind) is Literal:  # of networks that know different ones: all
                kind = Literal[(*typing.get_args(keys.get(key)), *typing.get_args(kind))]
            keys[key] = kind
    return keys


def create_model(config: Mapping[str, Any] | ConfigDict, *, allow_import: bool = False) -> nn.Module:
    """Makes the network of `config.model`.

    Args:
        config: with `name` (see `_NETWORKS`), `scale` and any fields of the
            networks; `dtype` is given by name or as such. A network ignores the keys of other networks, so
            that configs can be variants of one.
        allow_import: whether `name` may be `package.module:Network`, which is imported: only for a config
            of the user's own, never for what a weights file says.

    Returns:
        A Flax module: `params = module.init(key, lr)["params"]`, `sr = module.apply({"params": params}, lr)`
        with lr (B, H, W, 3) in [0, 1] and sr (B, H * scale, W * scale, 3).

    Raises:
        UserError: a key that is missing or unknown, or a value that cannot work; it names key and choices.
    """
    fields = dict(config)
    if "name" not in fields:
        raise UserError("model.name is missing")
    name = fields.pop("name")
    network, preset = _find_network(name, allow_import)
    known = model_keys(name)
    for key in sorted(fields.keys() - known.keys()):
        raise UserError(f"model.{key}: no such key; there are {', '.join(known)}")
    if "scale" not in fields:
        raise UserError("model.scale is missing")
    fields["dtype"] = _dtype_name(fields.get("dtype", "float32"))
    for key, value in fields.items():
        _check_value(key, value, known[key])
    if "mean" in fields:
        fields["mean"] = tuple(fields["mean"])
    own = _keys(network, preset)
    for key, kind in own.items():
        if key in fields and typing.get_origin(kind) is Literal and fields[key] not in typing.get_args(kind):
            choices = " or ".join(typing.get_args(kind))
            raise UserError(f"model.{key} must be {choices} for {name}, not {fields[key]!r}")
    fields["dtype"] = jnp.dtype(fields["dtype"])
    values = preset | {key: value for key, value in fields.items() if key in own}
    for field in dataclasses.fields(network):
        defaults = field.default, field.default_factory
        if field.init and field.name not in values and defaults == (dataclasses.MISSING,) * 2:
            raise UserError(f"model.{field.name} is missing")
    return network(**values)


def has_batch_norm(module: nn.Module) -> bool:
    """Whether training a network moves running statistics (see `batch_norm`)."""
    return getattr(module, "has_batch_norm", False)


def replace_fields(module: nn.Module, **fields: Any) -> nn.Module:
    """The network with other values for those of `fields` that it has."""
    has = {field.name for field in dataclasses.fields(module)}
    return module.clone(**{key: value for key, value in fields.items() if key in has})


def _keys(network: type[nn.Module], preset: Mapping[str, Any]) -> dict[str, Any]:
    """By key the type that a config has for it, see `model_keys`; `preset` fields are none."""
    keys = {}
    hints = typing.get_type_hints(network)
    for field in dataclasses.fields(network):
        kind = hints[field.name]
        if field.init and field.name not in preset:
            if kind in _KINDS:
                keys[field.name] = _KINDS[kind]
            elif typing.get_origin(kind) is Literal:
                keys[field.name] = kind
    return keys


def _find_network(name: Any, allow_import: bool) -> tuple[type[nn.Module], dict[str, Any]]:
    if isinstance(name, str) and name in _NETWORKS:
        return _NETWORKS[name]
    if not (isinstance(name, str) and ":" in name):
        raise UserError(f"model.name must be one of {', '.join(_NETWORKS)}, not {name!r}")
    if not allow_import:
        raise UserError(f"model.name={name}: is no network of wdsr_jax; only a config may import one")
    return _import_network(name), {}


def _import_network(name: str) -> type[nn.Module]:
    """The class `package.module:Network`; UserError where there is none that can be used."""
    module_name, _, class_name = name.partition(":")
    try:
        network = getattr(importlib.import_module(module_name), class_name, None)
    except Exception as error:  # whatever a user's module raises
        cause = " ".join(str(error).split())
        raise UserError(f"model.name={name}: {type(error).__name__}: {cause}") from None
    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        raise UserError(f"model.name={name}: {module_name} has no class {class_name} that is a Flax module")
    if _keys(network, {}).get("scale") is not int:
        raise UserError(f"model.name={name}: has no field `scale: int`")
    if not hasattr(network, "radius"):
        raise UserError(f"model.name={name}: has no `radius`, a number of LR pixels or None")
    return network


def _check_value(key: str, value: Any, kind: Any) -> None:
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            choices = ", ".join(typing.get_args(kind))
            raise UserError(f"model.{key} must be one of {choices}, not {reprlib.repr(value)}")
    elif kind is int and not (isinstance(value, Integral) and int(value) >= 1):
        raise UserError(f"model.{key} must be a whole number and at least 1, not {reprlib.repr(value)}")
    elif kind is float and not _is_finite(value):
        raise UserError(f"model.{key} must be a number, not {reprlib.repr(value)}")
    elif kind is _RGB and not (
        isinstance(value, Sequence) and len(value) == 3 and all(map(_is_finite, value))
    ):
        raise UserError(f"model.{key} must be three numbers, R, G and B in [0, 1], not {reprlib.repr(value)}")


def _dtype_name(dtype: Any) -> Any:
    """The name of a dtype that is not given by name; anything else as it is, to be refused."""
    try:
        return dtype if isinstance(dtype, str) or dtype is None else jnp.dtype(dtype).name
    except TypeError:
        return dtype


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, Real) and math.isfinite(value)
    except OverflowError:  # a whole number beyond any float
        return False
