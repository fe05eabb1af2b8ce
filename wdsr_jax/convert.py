"""Converts weights of other projects to this package's files, and back to the official code.

python -m wdsr_jax.convert SRC DST.safetensors [--mean=R,G,B] [--res-scale=X]
python -m wdsr_jax.convert SRC DST.safetensors --to=torch

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
    parser.add_argument("--to", choices=["torch"], help="write the names of the official code of 2020")
    args = parser.parse_args()
    if not args.destination.endswith(".safetensors"):
        raise UserError(f"{args.destination}: DST ends in .safetensors")
    hints = {"mean": args.mean, "res_scale": args.res_scale}
    hints = {name: value for name, value in hints.items() if value is not None}
    if args.to and hints:
        raise UserError("--mean and --res-scale do not go with --to=torch: SRC says both")
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
