"""WDSR-A, 16 blocks of 32 filters, on NTIRE 2018's realistic tracks: DIV2K mild, difficult or wild, x4.

python -m wdsr_jax.main --config=configs/realistic.py:mild --workdir=runs/mild

LR of these tracks is blurred, noisy and moved against HR. So loss and validation score are those of the best
shift of up to `train.shift_window` HR pixels. How far the pairs lie apart is not known here, and 8 is a
guess: where shifts in the workdir's evaluation.json reach it, raise it. How long this takes and how good it
gets has not been measured. docs/realistic.md has more, and how to make such pairs of your own photographs.
Variants: `configs/realistic.py:mild`, the default, `configs/realistic.py:difficult` and
`configs/realistic.py:wild`, which has four LR of each HR.
"""

from ml_collections import ConfigDict

from configs.default import with_variant


def get_config(variant: str = "mild") -> ConfigDict:
    """The default recipe at x4, tolerant of shifts."""
    if variant not in ("mild", "difficult", "wild"):
        raise ValueError(f"variant {variant!r}: there are mild, difficult and wild")
    config = with_variant(4, "wdsr_a")
    config.data.update(track=variant)
    config.train.update(shift_window=8)
    return config
