"""The arguments of the command that evaluates, read and checked without JAX."""

import argparse
import os
from pathlib import Path

from wdsr_jax.errors import UserError
from wdsr_jax.system.console import DEFAULT_TEMPERATURE, ArgumentParser, number_from, temperature
from wdsr_jax.system.files import check_writable
from wdsr_jax.weights.files import find_weights


def parse_arguments() -> argparse.Namespace:
    """The command line, each folder in it once.

    Raises:
        UserError: a mistake in it, or a file or folder that is not there.
    """
    summary = "PSNR and SSIM by the papers' protocols"
    parser = ArgumentParser(prog="python -m wdsr_jax.evaluate", description=summary)
    parser.add_argument("--model", required=True, help="bicubic, a workdir, a weights file or a shipped name")
    parser.add_argument("--scale", required=True, type=int, help="upscaling factor")
    parser.add_argument("--shift", default=0, type=int, metavar="N", help="best of shifts up to N pixels")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--lr", action="append", default=[], metavar="DIR", help="the LR images of DIR")
    several = "for a network with many answers: N of them an image"
    parser.add_argument("--samples", type=number_from(1, 1000), metavar="N", help=several)
    parser.add_argument("--lpips", metavar="FILE", help="measure diversity by LPIPS, of this state dict")
    liveliness = f"of the samples, from 0 up (default: {DEFAULT_TEMPERATURE})"
    parser.add_argument("--temperature", type=temperature, metavar="T", help=liveliness)
    parser.add_argument("folders", nargs="+", metavar="DIR", help="one folder a set")
    args = parser.parse_args()
    for name, value, least in (("scale", args.scale, 1), ("shift", args.shift, 0)):
        if value < least:
            raise UserError(f"--{name} must be a whole number from {least} up, not {value}")
    for name in ("temperature", "lpips"):
        if getattr(args, name) is not None and not args.samples:
            raise UserError(f"--{name} is for --samples=N, which is not there")
    if args.samples and (args.shift or args.model == "bicubic"):
        raise UserError(f"--samples does without {'--shift' if args.shift else '--model=bicubic'}")
    args.temperature = DEFAULT_TEMPERATURE if args.temperature is None else args.temperature
    if args.out:
        check_writable(args.out, f"--out={args.out}")
    args.folders = list(dict.fromkeys(map(os.path.normpath, args.folders)))
    if args.lr and len(args.lr) != len(args.folders):
        raise UserError(f"--lr is for each DIR: there are {len(args.folders)} DIR and {len(args.lr)} --lr")
    if missing := [folder for folder in args.folders + args.lr if not os.path.isdir(folder)]:
        raise UserError(f"{missing[0]}: {'not a' if os.path.exists(missing[0]) else 'no such'} folder")
    if args.lpips and not os.path.isfile(args.lpips):
        raise UserError(f"--lpips={args.lpips}: no such file")
    if args.model != "bicubic":
        find_weights(args.model)
    return args
