"""A space of SR images, many for one LR image: flow matching around a trained WDSR-A, x4 or x8.

python -m wdsr_jax.main --config=configs/space.py:4 --workdir=runs/space-x4 \\
    --config.data.root=PHOTOS/train --config.data.val_root=PHOTOS/val
python -m wdsr_jax.main --config=configs/space.py:8 --workdir=runs/space-x8 \\
    --config.data.root=PHOTOS/train --config.data.val_root=PHOTOS/val --config.train.init_from=runs/wdsr_a_x8

`upscale PHOTO --model=runs/space-x4 --samples=6` shows what it has learnt, `evaluate --samples=10`
measures it.
"""

from ml_collections import ConfigDict

from configs.default import with_variant


def get_config(variant: str = "4") -> ConfigDict:
    """Batches of 16 patches of 24x24, for two CPU cores; x4 starts from the shipped network.

    67 minutes for x4, while other programs ran. Set14, PSNR-Y, at a temperature of 0.8: 28.22 dB for a
    sample, 28.39 for the mean of 32.
    """
    if variant not in ("4", "8"):
        raise ValueError(f"variant {variant!r}: there are 4 and 8")
    config = with_variant(int(variant), "wdsr_a")
    with config.unlocked():
        config.model.update(name="wdsr_flow", flow_filters=48, flow_blocks=4, spread=0.04)
    config.data.update(source="folder", patch_size=24)
    config.train.update(steps=10_000, learning_rate=1e-3, warmup_steps=200, schedule="cosine", loss="l2")
    config.train.update(grad_clip=1.0, eval_every=2_500, init_from="wdsr-a-16-x4" if variant == "4" else "")
    return config
