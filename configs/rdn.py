"""RDN (arXiv:1802.08797), DIV2K bicubic x2.

python -m wdsr_jax.main --config=configs/rdn.py --workdir=runs/rdn

As in the paper: L1, Adam at 1e-4, halved every 200k steps, batches of 16 patches of 32x32 LR pixels (section
4.1); 1M steps. How long that takes has not been measured. The paper's figure for D16C8G64, trained on DIV2K:
38.24 dB on Set5 x2 (table 2).
Variants: `configs/rdn.py:d16c8g64`, the default, and `configs/rdn.py:d20c6g32`, of its ablation study.
"""

from ml_collections import ConfigDict

from configs.default import with_variant

_VARIANTS = {"d16c8g64": (16, 8, 64), "d20c6g32": (20, 6, 32)}


def get_config(variant: str = "d16c8g64") -> ConfigDict:
    """D blocks of C convolutions of G channels, among 64 channels elsewhere."""
    if variant not in _VARIANTS:
        raise ValueError(f"variant {variant!r}: there are {' and '.join(_VARIANTS)}")
    blocks, layers, growth = _VARIANTS[variant]
    config = with_variant(2, "wdsr_a")
    with config.unlocked():
        config.model.update(name="rdn", filters=64, blocks=blocks, layers=layers, growth=growth)
    config.data.update(patch_size=32)
    config.train.update(steps=1_000_000, learning_rate=1e-4)
    config.train.update(lr_boundaries=(200_000, 400_000, 600_000, 800_000), lr_decay=0.5)
    return config
