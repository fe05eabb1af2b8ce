"""MSRResNet (SRResNet without batch norm, XPixelGroup/BasicSR), 16 blocks of 64 filters, DIV2K bicubic x4.

python -m wdsr_jax.main --config=configs/msrresnet.py --workdir=runs/msrresnet

L1, Adam at 2e-4 and 16 patches of 32x32 LR pixels, as BasicSR trains it; its learning rate is a cosine that
starts anew every 250k of 1M steps, here one cosine over 300k. How long that takes has not been measured. The
network is there for the weights of others (`docs/weights.md`).
"""

from ml_collections import ConfigDict

from configs.default import with_variant


def get_config() -> ConfigDict:
    """BasicSR's network at x4."""
    config = with_variant(4, "wdsr_a")
    config.model.update(name="msrresnet", filters=64, blocks=16)
    config.data.update(patch_size=32)
    config.train.update(learning_rate=2e-4, schedule="cosine")
    return config
