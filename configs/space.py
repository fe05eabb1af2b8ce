"""A space of SR images, many for one LR image: flow matching around a trained WDSR-A, x4 or x8.

python -m wdsr_jax.main --config=configs/space.py:4 --workdir=runs/space-x4 \\
    --config.train.init_from=wdsr-a-16-x4 --config.data.root=PHOTOS/train --config.data.val_root=PHOTOS/val

`upscale PHOTO --model=runs/space-x4 --samples=6` shows what it has learnt, `evaluate --samples=10`
measures it.
"""

from ml_collections import ConfigDict

from configs.default import with_variant


def get_config(scale: str = "4") -> ConfigDict:
    """Batches of 16 patches of 24x24, for two CPU cores. Not measured."""
    config = with_variant(int(scale), "wdsr_a")
    with config.unlocked():
        config.model.update(name="wdsr_flow", flow_filters=48, flow_blocks=4, spread=0.04)
    config.data.update(source="folder", patch_size=24)
    config.train.update(steps=16_000, learning_rate=1e-3, warmup_steps=200, schedule="cosine", loss="l2")
    config.train.update(grad_clip=1.0, eval_every=4_000)
    return config
