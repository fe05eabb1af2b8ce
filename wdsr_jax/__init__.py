"""WDSR image super-resolution in JAX and Flax.

model, params = wdsr_jax.load_pretrained("runs/x4")
sr = model.apply({"params": params}, lr)  # lr (B, H, W, 3) in [0, 1]; a pure function
image = wdsr_jax.upscale(model, params, image)  # uint8 in, uint8 out
"""

from wdsr_jax.image.metrics import psnr, ssim
from wdsr_jax.image.resize import imresize, imresize_jax
from wdsr_jax.inference.tiles import upscale
from wdsr_jax.models import create_model, fold_weight_norm
from wdsr_jax.weights.store import list_pretrained, load_pretrained

__all__ = [
    "create_model",
    "fold_weight_norm",
    "imresize",
    "imresize_jax",
    "list_pretrained",
    "load_pretrained",
    "psnr",
    "ssim",
    "upscale",
]
