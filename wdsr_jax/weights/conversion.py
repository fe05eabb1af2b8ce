"""Conversion: weights of other projects into this package's files, and back to the official code's names.

`wdsr_jax/convert.py` lists the projects, and says what their files do not.
"""

import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict

from wdsr_jax.errors import UserError
from wdsr_jax.models import create_model, fold_weight_norm
from wdsr_jax.models.layers import DIV2K_MEAN
from wdsr_jax.models.wdsr import WDSR
from wdsr_jax.weights.architectures import architecture, describe, shuffle_factors
from wdsr_jax.weights.families import OFFICIAL_2020, Counts
from wdsr_jax.weights.files import check_conversion
from wdsr_jax.weights.layouts import Layout, layout_of, open_weights, their_shape, to_ours, to_torch
from wdsr_jax.weights.safetensors_files import write_safetensors
from wdsr_jax.weights.store import finite_float32, load_pretrained, param_shapes, save_weights

_WITH_MEAN, _WITH_RES_SCALE = ("wdsr", "edsr"), ("wdsr", "edsr", "msrresnet")


def convert(
    source: str | os.PathLike,
    destination: str | os.PathLike,
    *,
    mean: tuple[float, float, float] | None = None,
    res_scale: float | None = None,
    scale: int | None = None,
) -> None:
    """Converts weights of another project to a safetensors file for `load_pretrained`.

    Args:
        source: a file of one of the projects in `families`, or their state dict as safetensors.
        destination: the file to write; it appears whole or not at all.
        mean: RGB in [0, 1] that the source subtracts from its input; None for its project's default.
        res_scale: factor of a block's output in the source; None for 1, or 0.1 for the paper's large EDSR.
        scale: of an SRCNN, whose tensors do not tell it.

    Raises:
        UserError: the source is damaged, of no known format or network (the tensor that is missing, extra,
            misshapen or not finite is named), or the destination cannot be written.
    """
    check_conversion(source, destination)
    with open_weights(source) as (file, layout):
        config = architecture(source, file.heads, layout, scale)
        taken = _assumptions(config, layout, mean, res_scale)
        config |= taken
        module = create_model(config)
        shapes = param_shapes(module)
        folds = "scale" in layout.leaves and not hasattr(module, "norm")  # a network without weight norm
        expected = dict(shapes)
        if folds:
            expected |= {
                name.replace("kernel", "scale"): shape[3:]
                for name, shape in shapes.items()
                if name.endswith("kernel")
            }
        for name, ours in expected.items():
            theirs = layout.name(name)
            found, shape = file.heads[theirs].shape, their_shape(ours, name, layout)
            if found != shape:
                raise UserError(f"{source}: tensor {theirs} is {found}, not {shape} as in {describe(config)}")
        factors = shuffle_factors(config) if layout.torch else {}

        def read(name: str) -> np.ndarray:
            array = finite_float32(source, layout.name(name), file.read(layout.name(name)))
            array = to_ours(array, name, layout, factors.get(name.rpartition(".")[0], 1))
            return np.ascontiguousarray(array)

        tensors = {}
        for name in shapes:
            tensors[name] = read(name)
            if name.endswith("bias"):
                # A network of convolutions, ReLUs, sums and pixel shuffles is homogeneous in its input and
                # biases: f(gain * x) / gain has the same kernels.
                tensors[name] = tensors[name] / np.float32(layout.gain)
            elif folds and name.endswith("kernel"):
                norm = np.sqrt(np.sum(tensors[name] ** 2, axis=(0, 1, 2)))  # (O,)
                tensors[name] = tensors[name] * (read(name.replace("kernel", "scale")) / norm)
    save_weights(destination, config, unflatten_dict(tensors, sep="."))
    logging.info("%s, from %s", describe(config), layout.project)
    _log_assumptions(layout, taken, mean)


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
    leaves = {"kernel": ".weight_v", "scale": ".weight_g", "bias": ".bias"}
    layout = layout_of(OFFICIAL_2020, Counts(module.blocks), leaves)
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
            factor = module.scale if convolution in ("tail", "skip") else 1
            state[layout.name(name)] = to_torch(array, name, factor)
    write_safetensors(destination, state, {"format": "pt"})
    if module.mean != layout.mean:
        logging.warning("image_mean in the official code must be %s; the file cannot say so", module.mean)


def _assumptions(
    config: Mapping[str, Any],
    layout: Layout,
    mean: tuple[float, float, float] | None,
    res_scale: float | None,
) -> dict[str, Any]:
    """Mean and res_scale, of a network that has them, as given or as is usual.

    Raises:
        UserError: one is given for a network that has none.
    """
    taken: dict[str, Any] = {}
    if layout.network in _WITH_MEAN:
        taken["mean"] = mean or layout.mean
    elif mean:
        raise UserError(f"--mean does not go with {describe(config)}, which subtracts none")
    if layout.network in _WITH_RES_SCALE:
        # The one of 256 filters needs it to train (arXiv:1707.02921, section 3.3).
        usual = 0.1 if layout.network == "edsr" and config["filters"] >= 256 else 1.0
        taken["res_scale"] = usual if res_scale is None else res_scale
    elif res_scale is not None:
        raise UserError(f"--res-scale does not go with {describe(config)}, which has none")
    return taken


def _log_assumptions(
    layout: Layout, taken: Mapping[str, Any], mean: tuple[float, float, float] | None
) -> None:
    """Says what the file does not."""
    options = []
    if "mean" in taken and not layout.told:
        options.append("--mean=" + ",".join(f"{x:g}" for x in taken["mean"]))
    if "res_scale" in taken:
        options.append(f"--res-scale={taken['res_scale']:g}")
    if options:
        logging.info("taken, since the file does not say: %s", " ".join(options))
    if layout.project == "Keras of 2018" and mean is None:
        other = ",".join(f"{x:g}" for x in DIV2K_MEAN)
        logging.warning("the mean is a guess: of such files most subtract DIV2K's, --mean=%s", other)
