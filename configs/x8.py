"""WDSR-A, 16 blocks of 32 filters, DIV2K bicubic x8.

python -m wdsr_jax.main --config=configs/x8.py --workdir=runs/x8

No figure is published: the paper stops at x4.
Variants: `configs/x8.py:wdsr_b`; `configs/x8.py:large`, the paper's 32 blocks of 128 filters.
"""

from ml_collections import ConfigDict

from configs.default import with_variant


def get_config(variant: str = "wdsr_a") -> ConfigDict:
    """The default recipe at x8."""
    return with_variant(8, variant)
