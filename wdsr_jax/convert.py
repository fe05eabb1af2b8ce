"""Weights of other projects: into this package's files, and back to the official code.

python -m wdsr_jax.convert SRC DST.safetensors [--mean=R,G,B] [--res-scale=X]
python -m wdsr_jax.convert SRC DST.pth --to=torch

SRC is one of
- the official code of 2020 (ychfan/wdsr): torch.save, `model_state_dict`; WDSR-A
- the official code of 2018 (JiahuiYu/wdsr_ntire2018), in EDSR-PyTorch: torch.save of a bare state dict
- WDSR-pytorch (yjn870): `.pth.tar`, `state_dict`
- Keras with TensorFlow 2 (krasserm/super-resolution): `.h5`, with weight norm's g
- Keras of 2018 (the same, and KyrinCode/WDSR_Project): `.h5`, without g

The architecture is read off the shapes. What no file says is an option: the mean that is subtracted (by
default 0.5 for the official code of 2020 and Keras of 2018, where krasserm's weights have DIV2K's, as the
others do: --mean=0.4488,0.4371,0.4040) and the factor of a block's output, 1. All but the official code of
2020 compute with 2 (x - mean), which is folded into head, tail and skip, exactly.

Keras of 2018 mirrors two pixels at the edge of an image where this package pads with zeros, and its networks
have not learnt to live with zeros. KyrinCode's lose 0.01 dB on Set5 x4, measured without the border as usual
(30.77 for 30.78 dB), but 7 dB in the 4 pixels of SR at the edge: crop these off. Results agree from 20 LR
pixels inwards.

Way back (--to=torch): SRC is whatever `load_pretrained` takes, DST a checkpoint that the trainer of the
official code of 2020 evaluates and goes on from (--ckpt).
"""

import functools
import math
import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from flax.traverse_util import unflatten_dict

from wdsr_jax.errors import UserError
from wdsr_jax.models import create_model
from wdsr_jax.system.console import ArgumentParser, run_command
from wdsr_jax.system.files import write_whole
from wdsr_jax.weights.layouts import (
    Arrays,
    Layout,
    official_2020,
    read_weights,
    their_shape,
    to_ours,
    to_torch,
)
from wdsr_jax.weights.store import finite_float32, load_pretrained, param_shapes, save_weights
from wdsr_jax.weights.torch_files import torch_bytes


def convert(
    source: str | os.PathLike,
    destination: str | os.PathLike,
    *,
    mean: tuple[float, float, float] | None = None,
    res_scale: float = 1.0,
) -> None:
    """Converts weights of another project to a safetensors file for `load_pretrained`.

    Args:
        source: a file of one of the projects in this module's docstring.
        destination: the file to write; it appears whole or not at all.
        mean: RGB in [0, 1] that the source subtracts from its input; None for its project's default.
        res_scale: factor of a block's output in the source.

    Raises:
        UserError: the source is damaged, of no known format or no WDSR (the tensor that is missing, extra,
            misshapen or not finite is named), or the destination cannot be written.
    """
    _check_destination(source, destination)
    arrays, layout = read_weights(source)
    config = _architecture(source, arrays, layout) | {"res_scale": res_scale, "mean": mean or layout.mean}
    module = create_model(config)
    tensors = {}
    for name, ours in param_shapes(module).items():
        theirs = layout.name(name)
        array, shape = arrays[theirs], their_shape(ours, name, layout)
        if array.shape != shape:
            raise UserError(
                f"{source}: tensor {theirs} is {array.shape}, not {shape} as in {_describe(config)}"
            )
        tensors[name] = to_ours(finite_float32(source, theirs, array), name, layout, module.scale)
    save_weights(destination, config, _fold_gain(unflatten_dict(tensors, sep="."), layout.gain))
    shown = ",".join(f"{x:g}" for x in config["mean"])
    logging.info("%s, from %s", _describe(config), layout.project)
    logging.info("taken, since the file does not say: --mean=%s --res-scale=%g", shown, res_scale)


def convert_to_torch(source: str | os.PathLike, destination: str | os.PathLike) -> None:
    """Writes a WDSR-A as a checkpoint of the official code of 2020.

    Args:
        source: as for `load_pretrained`.
        destination: the file to write; it appears whole or not at all.

    Raises:
        UserError: the source cannot be loaded or is no WDSR-A, or the destination cannot be written.
    """
    _check_destination(source, destination)
    module, params = load_pretrained(source)
    if getattr(module, "block", None) != "a" or module.scale == 1:
        raise UserError(
            f"{source}: not a WDSR-A for x2 or more, the only network of the official code of 2020"
        )
    layout = official_2020(module.blocks, {"kernel": ".weight_v", "scale": ".weight_g", "bias": ".bias"})
    state = {}
    for convolution in layout.convolutions:
        leaves = functools.reduce(dict.__getitem__, convolution.split("."), params)
        kernel, bias = np.asarray(leaves["kernel"]), np.asarray(leaves["bias"])
        norm = np.sqrt(np.sum(kernel**2, axis=(0, 1, 2)))  # (O,)
        g = np.asarray(leaves.get("scale", norm))
        v = np.where(norm > 0, kernel, 1)  # a filter of zeros has no direction
        if convolution.endswith("project"):  # the official code has no other place for res_scale
            g, bias = g * np.float32(module.res_scale), bias * np.float32(module.res_scale)
        for leaf, array in (("bias", bias), ("scale", g), ("kernel", v)):
            name = f"{convolution}.{leaf}"
            state[layout.name(name)] = to_torch(array, name, module.scale)
    # Its trainer asks for all of these: an optimizer that starts anew.
    adam = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "amsgrad": False}
    checkpoint = {
        "model_state_dict": state,
        "optimizer_state_dict": {"state": {}, "param_groups": [adam | {"params": list(range(len(state)))}]},
        "lr_scheduler_state_dict": {},
        "epoch": 0,
    }
    write_whole(destination, torch_bytes(checkpoint))
    if module.mean != layout.mean:
        logging.warning("image_mean in the official code must be %s; the file cannot say so", module.mean)


def _check_destination(source: str | os.PathLike, destination: str | os.PathLike) -> None:
    if os.path.exists(source) and os.path.exists(destination) and os.path.samefile(source, destination):
        raise UserError(f"{destination}: is the source, which would be overwritten")
    if not Path(destination).absolute().parent.is_dir():
        raise UserError(f"{destination}: no such folder")


def _architecture(source: str | os.PathLike, arrays: Arrays, layout: Layout) -> dict[str, Any]:
    """The section model of a config, without what a file does not say."""

    def width(*names: str) -> int:
        """Output channels of the convolutions of these names."""
        convolutions = [name for name in layout.convolutions if name.endswith(names)]
        kernels = [arrays[layout.name(f"{name}.kernel")].shape for name in convolutions]
        biases = [arrays[layout.name(f"{name}.bias")].shape for name in convolutions]
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


def _parse_mean(text: str) -> tuple[float, float, float]:
    try:
        r, g, b = map(float, text.split(","))
    except ValueError:
        r = g = b = math.nan
    if not all(0 <= x <= 1 for x in (r, g, b)):
        raise UserError(f"--mean={text}: give R,G,B in [0, 1], such as 0.4488,0.4371,0.4040")
    return r, g, b


def main() -> None:
    """The command line; see the module's docstring."""
    parser = ArgumentParser(prog="python -m wdsr_jax.convert", description="Weights of other projects.")
    parser.add_argument("source", metavar="SRC", help="file of torch.save or Keras (.h5)")
    parser.add_argument("destination", metavar="DST", help="file to write, .safetensors")
    parser.add_argument(
        "--mean", type=_parse_mean, metavar="R,G,B", help="what SRC subtracts from its input, in [0, 1]"
    )
    parser.add_argument("--res-scale", type=float, metavar="X", help="factor of a block's output in SRC")
    parser.add_argument("--to", choices=["torch"], help="write a .pth of the official code of 2020")
    args = parser.parse_args()
    if (args.to == "torch") == args.destination.endswith(".safetensors"):
        raise UserError(f"{args.destination}: DST ends in .safetensors, or in .pth with --to=torch")
    hints = {"mean": args.mean, "res_scale": args.res_scale}
    hints = {name: value for name, value in hints.items() if value is not None}
    if args.to != "torch":
        convert(args.source, args.destination, **hints)
    elif hints:
        raise UserError("--mean and --res-scale do not go with --to=torch: SRC says both")
    else:
        convert_to_torch(args.source, args.destination)


if __name__ == "__main__":
    run_command(main)
