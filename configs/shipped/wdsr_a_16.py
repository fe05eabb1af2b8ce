"""WDSR-A of 16 blocks and 32 filters, as shipped: x2 first, x3 and x4 from its head and blocks.

python -m wdsr_jax.main --config=configs/shipped/wdsr_a_16.py:2 --workdir=runs/a-16-x2 \
    --config.data.root=PHOTOS/train --config.data.val_root=PHOTOS/val
python -m wdsr_jax.main --config=configs/shipped/wdsr_a_16.py:3 --workdir=runs/a-16-x3 \
    --config.data.root=PHOTOS/train --config.data.val_root=PHOTOS/val --config.train.init_from=runs/a-16-x2
"""

from ml_collections import ConfigDict

from configs.default import with_variant


def get_config(scale: str) -> ConfigDict:
    """Batches of 128 in bfloat16, for a GPU: about 10 minutes a scale on an H100."""
    config = with_variant(int(scale), "wdsr_a")
    config.model.dtype = "bfloat16"
    config.data.update(source="folder", batch_size=128, workers=8)
    config.train.update(steps=34_000, learning_rate=2e-3, warmup_steps=500, schedule="cosine")
    config.train.update(eval_every=8_500, checkpoint_every=4_250)
    return config
