"""WDSR-A of 4 blocks and 24 filters ("fast"), as shipped: x2 first, x3 and x4 from its head and blocks.

python -m wdsr_jax.main --config=configs/shipped/wdsr_a_4.py:2 --workdir=runs/a-4-x2 \
    --config.data.root=PHOTOS/train --config.data.val_root=PHOTOS/val
python -m wdsr_jax.main --config=configs/shipped/wdsr_a_4.py:4 --workdir=runs/a-4-x4 \
    --config.data.root=PHOTOS/train --config.data.val_root=PHOTOS/val --config.train.init_from=runs/a-4-x2
"""

from ml_collections import ConfigDict

from configs.default import with_variant

_STEPS = {"2": 20_000, "3": 14_000, "4": 16_000}


def get_config(scale: str) -> ConfigDict:
    """Batches of 16, for two CPU cores: 45 minutes for x2, 40 for x3 or x4, while nothing else runs.

    Set5 37.19 dB at x2, 33.23 at x3, 31.00 at x4 (PSNR-Y), from the photographs of docs/models.md.
    """
    config = with_variant(int(scale), "wdsr_a")
    config.model.update(blocks=4, filters=24, expansion=2)
    config.data.update(source="folder", patch_size=32 if scale == "2" else 24)
    config.train.update(steps=_STEPS[scale], learning_rate=2e-3, warmup_steps=200, schedule="cosine")
    config.train.update(eval_every=5_000)
    return config
