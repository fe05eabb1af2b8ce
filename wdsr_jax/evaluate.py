"""Measures a network and bicubic on benchmark sets: PSNR and SSIM by the papers' protocols.

python -m wdsr_jax.evaluate --model=bicubic|WORKDIR|FILE|NAME --scale=S [--shift=N] [--out=FILE.json]
    DIR [DIR ...] [--lr=DIR ...]

Each DIR is a set: HR images alone (LR is made by bicubic), or HR and LR, told apart by names or sizes
(see `data.names`). --lr, once for each DIR, is the folder of its LR. At scale 1 LR images must be there, and
what is called bicubic is the LR image as it is.

FILE.json gets `{"SET": {"bicubic": SCORES, "model": SCORES, "images": [{"name", "bicubic", "model"}, ...]}}`,
where SCORES are `{"psnr_y", "ssim_y", "psnr_rgb", "ssim_ntire"}`: PSNR and SSIM by protocol `y`, then `ntire`
(see `metrics`). A score that does not exist is null: the image is too small, or PSNR is infinite. With
--model=bicubic "model" repeats "bicubic". Images that could not be read are named in "left_out" alone.

--shift=N is for misaligned pairs, such as NTIRE 2018's realistic tracks. SCORES then have `psnr_shift` and
`ssim_shift`, by protocol `ntire_shift` (see `alignment`): at the best of all shifts of up to N HR pixels,
`shift_y` and `shift_x` (from HR to SR). The table leaves out the SSIM of pairs as they are.
"""

import os
from pathlib import Path

from wdsr_jax.errors import UserError
from wdsr_jax.system.console import ArgumentParser, run_command
from wdsr_jax.system.files import check_writable
from wdsr_jax.weights.files import find_weights


def main() -> None:
    """The command line; see the module's docstring."""
    summary = "PSNR and SSIM by the papers' protocols"
    parser = ArgumentParser(prog="python -m wdsr_jax.evaluate", description=summary)
    parser.add_argument("--model", required=True, help="bicubic, a workdir, a weights file or a shipped name")
    parser.add_argument("--scale", required=True, type=int, help="upscaling factor")
    parser.add_argument("--shift", default=0, type=int, metavar="N", help="best of shifts up to N pixels")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--lr", action="append", default=[], metavar="DIR", help="the LR images of DIR")
    parser.add_argument("folders", nargs="+", metavar="DIR", help="one folder a set")
    args = parser.parse_args()
    for name, value, least in (("scale", args.scale, 1), ("shift", args.shift, 0)):
        if value < least:
            raise UserError(f"--{name} must be a whole number from {least} up, not {value}")
    if args.out:
        check_writable(args.out, f"--out={args.out}")
    folders = list(dict.fromkeys(map(os.path.normpath, args.folders)))
    if args.lr and len(args.lr) != len(folders):
        raise UserError(f"--lr is for each DIR: there are {len(folders)} DIR and {len(args.lr)} --lr")
    if missing := [folder for folder in folders + args.lr if not os.path.isdir(folder)]:
        raise UserError(f"{missing[0]}: {'not a' if os.path.exists(missing[0]) else 'no such'} folder")
    if args.model != "bicubic":
        find_weights(args.model)  # mistakes up to here are answered before JAX is imported
    from wdsr_jax.evaluation.benchmark import bicubic_as_model, evaluate, score_table, write_json
    from wdsr_jax.evaluation.examples import examples_of_folders
    from wdsr_jax.system.compilation import enable_compilation_cache
    from wdsr_jax.weights.store import load_pretrained

    enable_compilation_cache()
    module, params = (None, None) if args.model == "bicubic" else load_pretrained(args.model)
    if module is not None and module.scale != args.scale:
        raise UserError(f"--scale={args.scale}: {args.model} is a model for x{module.scale}")
    sets = examples_of_folders(folders, args.scale, args.lr)
    results = {
        name: evaluate(examples, args.scale, module, params, shift=args.shift, label=name)
        for name, examples in sets.items()
    }
    try:
        if args.out:
            write_json(args.out, bicubic_as_model(results) if module is None else results)
    finally:
        print(score_table(results, args.scale))


def run() -> None:
    """The command `wdsr-evaluate`."""
    run_command(main)


if __name__ == "__main__":
    run()
