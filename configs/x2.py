"""WDSR-A, 16 blocks of 32 filters, DIV2K bicubic x2.

python -m wdsr_jax.main --config=configs/x2.py --workdir=runs/x2

About 45 minutes on one H100 (8.5 ms a step). Published for this network on DIV2K validation (RGB,
shave r + 6): 34.76 dB after 1.5M steps; 300k of them end near 34.65.
Variants: `configs/x2.py:wdsr_b`; `configs/x2.py:large`, the paper's 32 blocks of 128 filters (35.06 dB).
"""

from ml_collections import ConfigDict

from configs.default import with_variant


def get_config(variant: str = "wdsr_a") -> ConfigDict:
    """The default recipe at x2."""
    return with_variant(2, variant)
