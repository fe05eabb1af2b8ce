"""WDSR-A of 16 blocks and 32 filters for blurred, noisy or compressed photographs, from the clean weights.

python -m wdsr_jax.main --config=configs/shipped/wdsr_a_16_photo.py:2 --workdir=runs/a-16-photo-x2 \
    --config.data.root=PHOTOS/train --config.data.val_root=PHOTOS/val

Each image is blurred, noisy, compressed or none of it, anew at every step; docs/degradations.md has what and
why. The variant is the scale, 2, 3 or 4.
"""

from ml_collections import ConfigDict

from configs.shipped.wdsr_a_16 import get_config as clean


def get_config(scale: str) -> ConfigDict:
    """The recipe of the clean weights, begun with them, at half its learning rate."""
    config = clean(scale)
    config.data.degradation = "online"
    config.train.update(init_from=f"wdsr-a-16-x{scale}", learning_rate=1e-3)
    return config
