"""A network for programs without this package: StableHLO for JAX, ONNX for ONNX Runtime and others.

python -m wdsr_jax.export --model=WHAT --format=stablehlo OUT
python -m wdsr_jax.export --model=WHAT --format=onnx OUT       needs pip install 'wdsr_jax[onnx]'

WHAT is a shipped name, a workdir or a weights file, as for `load_pretrained`. OUT holds the network and its
weights, in float32 and with its norm multiplied out, for any batch, height and width from 1 up. Input and
output are float32 RGB in [0, 1]; the output is not clipped.

StableHLO goes from (B, H, W, 3) to (B, H * scale, W * scale, 3), on cpu, cuda and tpu. It runs where jax and
flatbuffers are installed:

    network = jax.export.deserialize(open(OUT, "rb").read())
    sr = network.call(lr)

JAX promises that its releases of the six months after the one that wrote it read it, and those of the three
weeks before (https://docs.jax.dev/en/latest/export/export.html#compatibility-guarantees). It refuses older
files: to keep a network, keep its weights, or ONNX.

ONNX goes from `lr`, (B, 3, H, W), to `sr`, (B, 3, H * scale, W * scale). The file's metadata say so: `model`,
`scale`, `channel_order`, `layout`, `range` and `clipped`. It is only written if ONNX Runtime computes with it
what JAX does.
"""

from wdsr_jax.system.console import ArgumentParser, run_command
from wdsr_jax.weights.files import check_export


def main() -> None:
    """The command line; see the module's docstring."""
    parser = ArgumentParser(prog="python -m wdsr_jax.export", description="A network for other programs.")
    parser.add_argument(
        "--model", required=True, metavar="WHAT", help="shipped name, workdir or weights file"
    )
    parser.add_argument("--format", required=True, metavar="FORMAT", help="stablehlo or onnx")
    parser.add_argument("destination", metavar="OUT", help="file to write")
    args = parser.parse_args()
    check_export(args.model, args.format, args.destination)

    from wdsr_jax.weights.exports import export  # now that the arguments are right: it imports JAX

    export(args.model, args.format, args.destination)


def run() -> None:
    """The command `wdsr-export`."""
    run_command(main)


if __name__ == "__main__":
    run()
