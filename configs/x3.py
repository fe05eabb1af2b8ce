"""WDSR-A, 16 blocks of 32 filters, DIV2K bicubic x3.

python -m wdsr_jax.main --config=configs/x3.py --workdir=runs/x3

Expect after 300k steps about 30.9 dB PSNR on DIV2K validation (RGB, shave r + 6),
where the paper's 31.03 takes 1.5M.
Variants: `configs/x3.py:wdsr_b`; `configs/x3.py:large`, the paper's 32 blocks of 128 filters (31.34 dB).
"""

from ml_collections import ConfigDict

from configs.default import with_variant


def get_config(variant: str = "wdsr_a") -> ConfigDict:
    """The default recipe at x3."""
    return with_variant(3, variant)
