"""SRDenseNet (Tong et al., ICCV 2017) on RGB, DIV2K bicubic x4.

python -m wdsr_jax.main --config=configs/srdensenet.py --workdir=runs/srdensenet

MSE, Adam at 1e-4 and a tenth of it in the second half, batches of 32 patches of 25x25 LR pixels as in the
paper (section 4.1), but 400k steps, DIV2K and all colours, where the paper has 50,000 images of ImageNet and
luma. How long that takes has not been measured. The paper's figure: 32.02 dB on Set5 x4 (table 3).
"""

from ml_collections import ConfigDict

from configs.default import with_variant


def get_config() -> ConfigDict:
    """8 blocks of 8 layers of growth 16, and 256 channels after the bottleneck."""
    config = with_variant(4, "wdsr_a")
    with config.unlocked():
        config.model.update(name="srdensenet", filters=256, blocks=8, layers=8, growth=16)
    config.data.update(patch_size=25, batch_size=32)
    config.train.update(steps=400_000, learning_rate=1e-4, loss="l2", lr_boundaries=(200_000,), lr_decay=0.1)
    return config
