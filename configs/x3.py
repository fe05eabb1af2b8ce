"""WDSR-A, 16 blocks of 32 filters, DIV2K bicubic x3.

python -m wdsr_jax.main --config=configs/x3.py --workdir=runs/x3

About 45 minutes on one H100 (8.5 ms a step). Published for this network on DIV2K validation (RGB,
shave r + 6): 31.03 dB after 1.5M steps.
Variants: `configs/x3.py:wdsr_b`; `configs/x3.py:large`, the paper's 32 blocks of 128 filters (31.34 dB).
"""

from ml_collections import ConfigDict

from configs.default import with_variant


def get_config(variant: str = "wdsr_a") -> ConfigDict:
    """The default recipe at x3."""
    return with_variant(3, variant)
