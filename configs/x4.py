"""WDSR-A, 16 blocks of 32 filters, DIV2K bicubic x4.

python -m wdsr_jax.main --config=configs/x4.py --workdir=runs/x4

About 45 minutes on one H100 (8.5 ms a step). Published for this network on DIV2K validation (RGB,
shave r + 6): 29.04 dB after 1.5M steps.
Variants: `configs/x4.py:wdsr_b`; `configs/x4.py:large`, the paper's 32 blocks of 128 filters (29.33 dB).
"""

from ml_collections import ConfigDict

from configs.default import with_variant


def get_config(variant: str = "wdsr_a") -> ConfigDict:
    """The default recipe at x4."""
    return with_variant(4, variant)
