"""SRCNN 9-1-5 or 9-5-5 (arXiv:1501.00092) on RGB, DIV2K bicubic x3.

python -m wdsr_jax.main --config=configs/srcnn.py --workdir=runs/srcnn

MSE as in the paper, but Adam at 1e-4 instead of its gradient descent at rates of 1e-4 and 1e-5, 300k steps
of 16 patches of 32x32 LR pixels, and DIV2K instead of ImageNet. How long that takes has not been measured.
The paper's figure, of networks on luma trained on ImageNet: 32.75 dB on Set5 x3 for 9-5-5 (table 2); on RGB
9-1-5, trained on 91 images, has 32.33 on its Y channel (table 5).
Variants: `configs/srcnn.py:srcnn_915`, the default, and `configs/srcnn.py:srcnn_955`.
"""

from ml_collections import ConfigDict

from configs.default import with_variant


def get_config(variant: str = "srcnn_915") -> ConfigDict:
    """64 and 32 filters."""
    if variant not in ("srcnn_915", "srcnn_955"):
        raise ValueError(f"variant {variant!r}: there are srcnn_915 and srcnn_955")
    config = with_variant(3, "wdsr_a")
    config.model.update(name=variant, filters=64)
    config.data.update(patch_size=32)
    config.train.update(learning_rate=1e-4, loss="l2", lr_boundaries=())
    return config
