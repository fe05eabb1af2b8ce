"""Converts weights of other projects to this package's files, and back to the official code.

python -m wdsr_jax.convert SRC DST.safetensors [--mean=R,G,B] [--res-scale=X]
python -m wdsr_jax.convert SRC DST.safetensors --to=torch

SRC is a file of torch.save, of Keras (.h5), or a state dict in safetensors, and holds a WDSR, EDSR,
MSRResNet, SRCNN or RDN of one of the projects that docs/weights.md lists, with or without weight norm.

The architecture is read off names and shapes. What no file says is an option, and the command says what it
took: the mean that is subtracted, the factor of a block's output, and the scale of an SRCNN. Networks that
compute with 255 (x - mean) or 2 (x - mean) are converted exactly, by their biases.

Way back (--to=torch): SRC is whatever `load_pretrained` takes, a WDSR-A. DST has the tensors of the official
code of 2020 under its names:

    network.load_state_dict(safetensors.torch.load_file(DST))

DST lacks the optimiser's state. It can be SRC again, as can any safetensors of the projects above.
"""

import math

from wdsr_jax.errors import UserError
from wdsr_jax.system.console import ArgumentParser, run_command
from wdsr_jax.weights.files import check_conversion


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
    parser.add_argument("source", metavar="SRC", help="file of torch.save, Keras (.h5) or safetensors")
    parser.add_argument("destination", metavar="DST", help="file to write, .safetensors")
    mean = "what SRC subtracts from its input, in [0, 1]"
    parser.add_argument("--mean", type=_parse_mean, metavar="R,G,B", help=mean)
    parser.add_argument("--res-scale", type=float, metavar="X", help="factor of a block's output in SRC")
    parser.add_argument("--scale", type=int, metavar="N", help="of an SRCNN, whose file does not say it")
    parser.add_argument("--to", choices=["torch"], help="write the names of the official code of 2020")
    args = parser.parse_args()
    if not args.destination.endswith(".safetensors"):
        raise UserError(f"{args.destination}: DST ends in .safetensors")
    hints = {"mean": args.mean, "res_scale": args.res_scale, "scale": args.scale}
    hints = {name: value for name, value in hints.items() if value is not None}
    if args.to and hints:
        raise UserError("--mean, --res-scale and --scale do not go with --to=torch: SRC says them")
    check_conversion(args.source, args.destination, to_torch=bool(args.to))

    from wdsr_jax.weights.conversion import convert, convert_to_torch  # now that the arguments are right: JAX

    if args.to:
        convert_to_torch(args.source, args.destination)
    else:
        convert(args.source, args.destination, **hints)


def run() -> None:
    """The command `wdsr-convert`."""
    run_command(main)


if __name__ == "__main__":
    run()
