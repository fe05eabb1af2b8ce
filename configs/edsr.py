"""EDSR's baseline (arXiv:1707.02921), 16 blocks of 64 filters, DIV2K bicubic x2.

python -m wdsr_jax.main --config=configs/edsr.py --workdir=runs/edsr

As in the paper: L1, Adam at 1e-4, halved after 200k steps, batches of 16 patches of 48x48 LR pixels (section
4.2), 300k steps. How long that takes has not been measured. Published for this network on DIV2K validation
(RGB, shave r + 6): 34.61 dB (EDSR-PyTorch).
Variants: `configs/edsr.py:pixel_shuffle`, the default; `configs/edsr.py:deconvolution`, a transposed
convolution in the place of each convolution and pixel shuffle, for which no figure is published.
"""

from ml_collections import ConfigDict

from configs.default import with_variant


def get_config(variant: str = "pixel_shuffle") -> ConfigDict:
    """The paper's recipe at x2."""
    if variant not in ("pixel_shuffle", "deconvolution"):
        raise ValueError(f"variant {variant!r}: there are pixel_shuffle and deconvolution")
    config = with_variant(2, "wdsr_a")
    with config.unlocked():
        config.model.update(name="edsr", filters=64, norm="none", upsampler=variant)
    config.train.update(learning_rate=1e-4, lr_boundaries=(200_000,), lr_decay=0.5)
    return config
