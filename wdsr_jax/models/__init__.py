"""The networks: `create_model` makes one from the model section of a config."""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from wdsr_jax.errors import UserError
from wdsr_jax.models.edsr import EDSR
from wdsr_jax.models.layers import NORMS, count_trained, fold_weight_norm
from wdsr_jax.models.wdsr import WDSR

__all__ = ["EDSR", "WDSR", "count_trained", "create_model", "fold_weight_norm", "has_batch_norm"]

_CHOICES = {
    "name": ("wdsr_a", "wdsr_b", "edsr"),
    "norm": NORMS,
    "g_init": ("official", "norm", "ones"),
    "dtype": ("float32", "bfloat16"),
}
_COUNTS = ("scale", "filters", "blocks", "expansion")
_NUMBERS = ("low_rank_ratio", "res_scale")


def create_model(config: Mapping[str, Any]) -> nn.Module:
    """Makes the network of `config.model`.

    Args:
        config: a mapping such as a ConfigDict, with `name` (`wdsr_a`, `wdsr_b` or `edsr`) and any fields of
            `WDSR` or `EDSR`; `dtype` is given by name. Of WDSR's fields EDSR ignores those it has not.

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
    if name == "edsr":
        return EDSR(
            **{key: value for key, value in fields.items() if key not in ("expansion", "low_rank_ratio")}
        )
    module = WDSR(block=name.removeprefix("wdsr_"), **fields)
    if module.block == "b" and int(module.low_rank_ratio * module.filters) < 1:
        raise UserError(
            f"model.low_rank_ratio={module.low_rank_ratio} of filters={module.filters} leaves no channel"
        )
    return module


def has_batch_norm(module: nn.Module) -> bool:
    """Whether training it moves running statistics (see `layers.Conv`)."""
    return getattr(module, "norm", "none") == "batch"


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)
