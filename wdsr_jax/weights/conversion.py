"""Conversion: weights of other projects into this package's files, and back to the official code's names.

`wdsr_jax/convert.py` lists the projects, and says what their files do not.
"""

import math
import os
import statistics
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict

from wdsr_jax.errors import UserError
from wdsr_jax.models import create_model, fold_weight_norm
from wdsr_jax.models.wdsr import WDSR
from wdsr_jax.system.files import write_whole
from wdsr_jax.weights.files import check_conversion
from wdsr_jax.weights.layouts import (
    Layout,
    official_2020,
    open_weights,
    their_shape,
    to_ours,
    to_torch,
)
from wdsr_jax.weights.safetensors_files import safetensors_bytes
from wdsr_jax.weights.store import finite_float32, load_pretrained, param_shapes, save_weights
from wdsr_jax.weights.tensors import Head


def convert(
    source: str | os.PathLike,
    destination: str | os.PathLike,
    *,
    mean: tuple[float, float, float] | None = None,
    res_scale: float = 1.0,
) -> None:
    """Converts weights of another project to a safetensors file for `load_pretrained`.

    Args:
        source: a file of one of the projects, or their state dict as safetensors.
        destination: the file to write; it appears whole or not at all.
        mean: RGB in [0, 1] that the source subtracts from its input; None for its project's default.
        res_scale: factor of a block's output in the source.

    Raises:
        UserError: the source is damaged, of no known format or no WDSR (the tensor that is missing, extra,
            misshapen or not finite is named), or the destination cannot be written.
    """
    check_conversion(source, destination)
    with open_weights(source) as (file, layout):
        config = _architecture(source, file.heads, layout)
        config |= {"res_scale": res_scale, "mean": mean or layout.mean}
        shapes = param_shapes(create_model(config))
        for name, ours in shapes.items():
            theirs = layout.name(name)
            found, shape = file.heads[theirs].shape, their_shape(ours, name, layout)
            if found != shape:
                raise UserError(
                    f"{source}: tensor {theirs} is {found}, not {shape} as in {_describe(config)}"
                )
        tensors = {}
        for name in shapes:
            array = finite_float32(source, layout.name(name), file.read(layout.name(name)))
            tensors[name] = to_ours(array, name, layout, config["scale"])
    save_weights(destination, config, _fold_gain(unflatten_dict(tensors, sep="."), layout.gain))
    shown = ",".join(f"{x:g}" for x in config["mean"])
    logging.info("%s, from %s", _describe(config), layout.project)
    logging.info("taken, since the file does not say: --mean=%s --res-scale=%g", shown, res_scale)


def convert_to_torch(source: str | os.PathLike, destination: str | os.PathLike) -> None:
    """Writes a WDSR-A as safetensors under the names of the official code of 2020.

    Args:
        source: as for `load_pretrained`.
        destination: the file to write; it appears whole or not at all. `safetensors.torch.load_file` gives
            the state dict of that code's network. The optimiser's state is not in it.

    Raises:
        UserError: the source cannot be loaded or is no WDSR-A, or the destination cannot be written.
    """
    check_conversion(source, destination, to_torch=True)
    module, params = load_pretrained(source)
    if type(module) is not WDSR or module.block != "a" or module.scale == 1:
        raise UserError(
            f"{source}: not a WDSR-A for x2 or more, the only network of the official code of 2020"
        )
    layout = official_2020(module.blocks, {"kernel": ".weight_v", "scale": ".weight_g", "bias": ".bias"})
    params = jax.jit(fold_weight_norm)(params) if module.norm == "batch" else params
    flat = flatten_dict(params, sep=".")
    state = {}
    for convolution in layout.convolutions:
        kernel, bias = (np.asarray(flat[f"{convolution}.{leaf}"]) for leaf in ("kernel", "bias"))
        norm = np.sqrt(np.sum(kernel**2, axis=(0, 1, 2)))  # (O,)
        g = np.asarray(flat.get(f"{convolution}.scale", norm))
        v = np.where(norm > 0, kernel, 1)  # a filter of zeros has no direction
        if convolution.endswith("project"):  # the official code has no other place for res_scale
            g, bias = g * np.float32(module.res_scale), bias * np.float32(module.res_scale)
        for leaf, array in (("bias", bias), ("scale", g), ("kernel", v)):
            name = f"{convolution}.{leaf}"
            state[layout.name(name)] = to_torch(array, name, module.scale)
    write_whole(destination, safetensors_bytes(state, {"format": "pt"}))
    if module.mean != layout.mean:
        logging.warning("image_mean in the official code must be %s; the file cannot say so", module.mean)


def _architecture(source: str | os.PathLike, heads: Mapping[str, Head], layout: Layout) -> dict[str, Any]:
    """The section model of a config, without what a file does not say."""

    def width(*names: str) -> int:
        """Output channels of the convolutions of these names."""
        convolutions = [name for name in layout.convolutions if name.endswith(names)]
        kernels = [heads[layout.name(f"{name}.kernel")].shape for name in convolutions]
        biases = [heads[layout.name(f"{name}.bias")].shape for name in convolutions]
        last = 0 if layout.torch else -1
        counts = [shape[last] for shape in kernels if shape] + [shape[0] for shape in biases if shape]
        # The most frequent: the tensor that does not fit the others is the one that is wrong.
        return max(1, statistics.mode(counts or [1]))

    filters, wide, cell = width("head", "project"), width("expand"), width("tail", "skip")
    scale = math.isqrt(cell // 3)
    if cell != 3 * scale**2 or scale < 1:
        raise UserError(f"{source}: {cell} channels at the end are not 3 times the square of a scale")
    if wide % filters:
        raise UserError(f"{source}: blocks of {wide} channels, no multiple of {filters}, are not supported")
    reduced = any(name.endswith("reduce") for name in layout.convolutions)
    config = {
        "name": "wdsr_b" if reduced else "wdsr_a",
        "scale": scale,
        "filters": filters,
        "blocks": sum(name.endswith("expand") for name in layout.convolutions),
        "expansion": wide // filters,
        "norm": "weight" if "scale" in layout.leaves else "none",
    }
    if reduced:
        config["low_rank_ratio"] = _low_rank_ratio(width("reduce"), filters)
    return config


def _low_rank_ratio(rank: int, filters: int) -> float:
    """What `int(ratio * filters)` gives the rank; the paper's 0.8 if that does."""
    ratios = (0.8, rank / filters, (rank + 0.5) / filters)  # the last is safe from rounding
    return next(ratio for ratio in ratios if int(ratio * filters) == rank)


def _describe(config: Mapping[str, Any]) -> str:
    kind = config["name"].replace("wdsr_", "WDSR-").upper()
    rank = f", {int(config['low_rank_ratio'] * config['filters'])} in between" if kind == "WDSR-B" else ""
    return (
        f"{kind} x{config['scale']}, {config['blocks']} blocks, {config['filters']} filters, "
        f"expansion {config['expansion']}{rank}"
    )


def _fold_gain(params: dict[str, Any], gain: int) -> dict[str, Any]:
    """Parameters for `x - mean` of a network that was given `gain * (x - mean)`, a power of 2.

    Its output, `gain * (y - mean)`, is divided by the gain, too. The skip has both; its kernel is the same.
    """
    size = "scale" if "scale" in params["head"] else "kernel"  # what the length of a kernel depends on

    def scaled(name: str, **factors: float) -> dict[str, np.ndarray]:
        return {leaf: array * np.float32(factors.get(leaf, 1)) for leaf, array in params[name].items()}

    head, skip = scaled("head", **{size: gain}), scaled("skip", bias=1 / gain)
    return params | {"head": head, "skip": skip, "tail": scaled("tail", **{size: 1 / gain}, bias=1 / gain)}
