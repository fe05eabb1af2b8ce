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

--samples=N is for networks with a space of answers (`configs/space.py`): SCORES are those of
`evaluation.space`, of N samples an image; --lpips=FILE measures diversity as the challenge does.
"""

import functools

from wdsr_jax.errors import UserError
from wdsr_jax.evaluation.arguments import parse_arguments
from wdsr_jax.system.console import run_command


def main() -> None:
    """The command line; see the module's docstring."""
    args = parse_arguments()  # mistakes in it are answered before JAX is imported
    from wdsr_jax.evaluation.benchmark import bicubic_as_model, evaluate, score_table, write_json
    from wdsr_jax.evaluation.examples import examples_of_folders
    from wdsr_jax.evaluation.lpips import load_lpips
    from wdsr_jax.evaluation.space import evaluate_space, space_table, squared_error
    from wdsr_jax.system.compilation import enable_compilation_cache
    from wdsr_jax.weights.store import load_pretrained

    enable_compilation_cache()
    module, params = (None, None) if args.model == "bicubic" else load_pretrained(args.model)
    if module is not None and module.scale != args.scale:
        raise UserError(f"--scale={args.scale}: {args.model} is a model for x{module.scale}")
    sets = examples_of_folders(args.folders, args.scale, args.lr)
    if args.samples:
        distance = load_lpips(args.lpips) if args.lpips else squared_error
        options = dict(samples=args.samples, temperature=args.temperature, distance=distance)
        measure, table = functools.partial(evaluate_space, **options), space_table
    else:
        measure, table = functools.partial(evaluate, shift=args.shift), score_table
    results = {
        name: measure(examples, args.scale, module, params, label=name) for name, examples in sets.items()
    }
    try:
        if args.out:
            write_json(args.out, bicubic_as_model(results) if module is None else results)
    finally:
        print(table(results, args.scale))


def run() -> None:
    """The command `wdsr-evaluate`."""
    run_command(main)


if __name__ == "__main__":
    run()
