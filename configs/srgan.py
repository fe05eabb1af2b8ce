"""Fine-tuning with SRGAN's discriminator (arXiv:1609.04802), DIV2K bicubic x4.

python -m wdsr_jax.main --config=configs/srgan.py:srresnet --workdir=runs/srgan \\
    --config.train.init_from=runs/srresnet --config.gan.vgg=vgg19-dcbb9e9d.pth

The paper's losses: 1e-3 of the adversarial one, and VGG19's features behind the last activation; its 200,000
steps at 1e-4, then 1e-5 (section 3.2). Without VGG19, whose weights are torchvision's:
--config.gan.perceptual=none --config.gan.pixel_weight=1. Relativistic, as ESRGAN (arXiv:1809.00219):
--config.gan.adversarial=relativistic --config.gan.perceptual=conv5_4 --config.gan.adversarial_weight=5e-3
--config.gan.pixel_weight=1e-2. How long it takes has not been measured. PSNR falls: the paper has 29.40 dB on
Set5 after 32.05 (table 2). `upscale --model=runs/srgan --perceptual=0.3` goes part of the way.
Variants: srresnet, edsr, wdsr_a, wdsr_b, each started from a run of its config.
"""

from ml_collections import ConfigDict

from configs import srresnet
from configs.default import with_variant


def get_config(variant: str = "srresnet") -> ConfigDict:
    """The paper's fine-tuning, of its network or another."""
    if variant == "srresnet":
        config = srresnet.get_config()
    elif variant == "edsr":
        config = with_variant(4, "wdsr_a")
        config.model.update(name="edsr", filters=64, norm="none")
    elif variant in ("wdsr_a", "wdsr_b"):
        config = with_variant(4, variant)
    else:
        raise ValueError(f"variant {variant!r}: there are srresnet, edsr, wdsr_a and wdsr_b")
    config.data.update(patch_size=24)
    config.train.update(steps=200_000, learning_rate=1e-4, lr_boundaries=(100_000,), loss="l1")
    with config.unlocked():
        config.gan = ConfigDict(dict(adversarial="standard", perceptual="relu5_4", vgg="", filters=64))
        config.gan.update(adversarial_weight=1e-3, perceptual_weight=1.0, pixel_weight=0.0)
    return config
