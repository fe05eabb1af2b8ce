"""The networks: `create_model` makes one from the model section of a config."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from wdsr_jax.errors import UserError
from wdsr_jax.models.layers import fold_weight_norm
from wdsr_jax.models.wdsr import WDSR

__all__ = ["WDSR", "create_model", "fold_weight_norm"]


def create_model(config: Mapping[str, Any]) -> nn.Module:
    """Makes the network of `config.model`.

    Args:
        config: a mapping such as a ConfigDict, with `name` (`wdsr_a` or `wdsr_b`) and any fields of
            `WDSR`; `dtype` is given by name.

    Returns:
        A Flax module: `params = module.init(key, lr)["params"]`, `sr = module.apply({"params": params}, lr)`
        with lr (B, H, W, 3) in [0, 1] and sr (B, H * scale, W * scale, 3).

    Raises:
        UserError: a name or value that does not exist.
    """
    fields = dict(config)
    name = fields.pop("name")
    choices = {
        "name": ("wdsr_a", "wdsr_b"),
        "norm": ("weight", "none"),
        "dtype": ("float32", "bfloat16"),
        "g_init": ("official", "norm", "ones"),
    }
    for key, allowed in choices.items():
        if config.get(key, allowed[0]) not in allowed:
            raise UserError(f"model.{key} must be one of {', '.join(allowed)}, not {config[key]!r}")
    for key in ("scale", "filters", "blocks", "expansion"):
        if config.get(key, 1) < 1:
            raise UserError(f"model.{key} must be at least 1, not {config[key]!r}")
    if "mean" in fields:
        fields["mean"] = tuple(fields["mean"])
    fields["dtype"] = jnp.dtype(fields.get("dtype", "float32"))
    return WDSR(block=name.removeprefix("wdsr_"), **fields)
