"""SRResNet (arXiv:1609.04802), 16 blocks of 64 filters with batch norm, DIV2K bicubic x4.

python -m wdsr_jax.main --config=configs/srresnet.py --workdir=runs/srresnet

As in the paper: MSE, Adam at 1e-4, 1M steps of 16 patches of 24x24 LR pixels (section 3.2, which trains on
ImageNet, HR in [-1, 1]). How long that takes has not been measured. The paper's figure, of its own training
set: 32.05 dB on Set5 x4 (table 2).
"""

from ml_collections import ConfigDict

from configs.default import with_variant


def get_config() -> ConfigDict:
    """The paper's network and recipe at x4."""
    config = with_variant(4, "wdsr_a")
    config.model.update(name="srresnet", filters=64, blocks=16, norm="batch")
    config.data.update(patch_size=24)
    config.train.update(steps=1_000_000, learning_rate=1e-4, loss="l2", lr_boundaries=())
    return config
