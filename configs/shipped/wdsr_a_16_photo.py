"""WDSR-A of 16 blocks and 32 filters for blurred, noisy or compressed photographs, from the clean weights.

python -m wdsr_jax.main --config=configs/shipped/wdsr_a_16_photo.py:4 --workdir=runs/a-16-photo-x4 \
    --config.data.root=PHOTOS/train --config.data.val_root=PHOTOS/val

Each image is blurred, noisy, compressed or none of it, anew at every step; docs/degradations.md has what and
why. The variant is the scale, 2, 3 or 4; 3 does not ship.
"""

from ml_collections import ConfigDict

from configs.shipped.wdsr_a_16 import get_config as clean


def get_config(scale: str) -> ConfigDict:
    """Batches of 16, for two CPU cores: an hour for x4 while nothing else runs there, longer for x2.

    On Set14 in five fixed ways of noise and JPEG: 29.65 dB at x2 and 25.96 at x4, where bicubic has 28.56 and
    25.09 and the clean networks 28.47 and 25.18 (PSNR-Y, docs/models.md).
    """
    config = clean(scale)
    config.data.update(degradation="online", patch_size=24, batch_size=16)
    config.train.update(init_from=f"wdsr-a-16-x{scale}", learning_rate=5e-4, warmup_steps=100)
    config.train.update(steps=2600 if scale == "2" else 4000, eval_every=1000, checkpoint_every=200)
    return config
