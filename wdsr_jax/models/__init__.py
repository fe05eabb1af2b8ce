"""The networks: `create_model` makes one from the model section of a config."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from wdsr_jax.errors import UserError
from wdsr_jax.models.edrn import EDRN
from wdsr_jax.models.edsr import EDSR
from wdsr_jax.models.layers import NORMS, count_trained, fold_weight_norm
from wdsr_jax.models.rdn import RDN
from wdsr_jax.models.srcnn import SRCNN
from wdsr_jax.models.srresnet import SRResNet
from wdsr_jax.models.wdsr import WDSR

__all__ = ["count_trained", "create_model", "fold_weight_norm", "has_batch_norm", "model_keys", "variant"]

# By name: the network, and the fields that the name alone stands for.
_NETWORKS = {
    "wdsr_a": (WDSR, {"block": "a"}),
    "wdsr_b": (WDSR, {"block": "b"}),
    "edsr": (EDSR, {}),
    "srcnn_915": (SRCNN, {"middle": 1}),
    "srcnn_955": (SRCNN, {"middle": 5}),
    "srresnet": (SRResNet, {}),
    "rdn": (RDN, {}),
    "edrn": (EDRN, {}),
}
_CHOICES = {
    "name": tuple(_NETWORKS),
    "norm": NORMS,
    "g_init": ("official", "norm", "ones"),
    "upsampler": ("pixel_shuffle", "deconvolution"),
    "dtype": ("float32", "bfloat16"),
}
_COUNTS = ("scale", "filters", "blocks", "expansion", "layers", "growth")
_NUMBERS = ("low_rank_ratio", "res_scale")


def create_model(config: Mapping[str, Any]) -> nn.Module:
    """Makes the network of `config.model`.

    Args:
        config: a mapping such as a ConfigDict, with `name` (see `_NETWORKS`), `scale` and any fields of the
            networks; `dtype` is given by name. A network ignores the fields that others have and it has not,
            so that configs can be variants of one.

    Returns:
        A Flax module: `params = module.init(key, lr)["params"]`, `sr = module.apply({"params": params}, lr)`
        with lr (B, H, W, 3) in [0, 1] and sr (B, H * scale, W * scale, 3).

    Raises:
        UserError: a key that is missing or unknown, or a value that cannot work; it names key and choices.
    """
    fields = dict(config)
    unknown = sorted(fields.keys() - {*_CHOICES, *_COUNTS, *_NUMBERS, "mean"})
    if unknown:
        known = ", ".join((*_CHOICES, *_COUNTS, *_NUMBERS, "mean"))
        raise UserError(f"model.{unknown[0]}: no such key; there are {known}")
    for key in ("name", "scale"):
        if key not in fields:
            raise UserError(f"model.{key} is missing")
    for key, value in fields.items():
        if key in _CHOICES and value not in _CHOICES[key]:
            raise UserError(f"model.{key} must be one of {', '.join(_CHOICES[key])}, not {value!r}")
        if key in _COUNTS and not (isinstance(value, Integral) and value >= 1):
            raise UserError(f"model.{key} must be a whole number and at least 1, not {value!r}")
        if key in _NUMBERS and not _is_finite(value):
            raise UserError(f"model.{key} must be a number, not {value!r}")
    name = fields.pop("name")
    if "mean" in fields:
        mean = fields["mean"]
        if not (isinstance(mean, Sequence) and len(mean) == 3 and all(map(_is_finite, mean))):
            raise UserError(f"model.mean must be three numbers, R, G and B in [0, 1], not {mean!r}")
        fields["mean"] = tuple(mean)
    fields["dtype"] = jnp.dtype(fields.get("dtype", "float32"))
    network, own = _NETWORKS[name]
    has = {field.name for field in dataclasses.fields(network)}
    module = network(**own, **{key: value for key, value in fields.items() if key in has})
    if name == "wdsr_b" and int(module.low_rank_ratio * module.filters) < 1:
        raise UserError(
            f"model.low_rank_ratio={module.low_rank_ratio} of filters={module.filters} leaves no channel"
        )
    if name.startswith("srcnn") and module.filters < 2:
        raise UserError(f"model.filters must be at least 2 for {name}, not {module.filters}")
    if name == "edrn" and module.scale != 1:
        raise UserError(f"model.scale must be 1 for edrn, whose LR and HR have one size, not {module.scale}")
    if name == "edrn" and module.norm == "batch":
        raise UserError("model.norm must be weight or none for edrn; its batch norm is part of weight")
    return module


def model_keys() -> dict[str, type]:
    """The keys that `config.model` may have, and the types of their values: the fields of all networks."""
    keys: dict[str, type] = {"name": str, "dtype": str, "scale": int}
    for network, _ in _NETWORKS.values():
        for field in dataclasses.fields(network):
            if field.name in {*_CHOICES, *_COUNTS, *_NUMBERS, "mean"} - keys.keys():
                keys[field.name] = type(field.default)
    return keys


def has_batch_norm(module: nn.Module) -> bool:
    """Whether training it moves running statistics (see `batch_norm`)."""
    return getattr(module, "norm", "none") == ("weight" if isinstance(module, EDRN) else "batch")


def variant(module: nn.Module, **fields: Any) -> nn.Module:
    """The network with other values for those of `fields` that it has."""
    has = {field.name for field in dataclasses.fields(module)}
    return module.clone(**{key: value for key, value in fields.items() if key in has})


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)
