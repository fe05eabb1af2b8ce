"""WDSR image super-resolution in JAX and Flax.

model, params = wdsr_jax.load_pretrained("wdsr-a-16-x4")
sr = model.apply({"params": params}, lr)  # lr (B, H, W, 3) in [0, 1]; a pure function
image = wdsr_jax.upscale(model, params, image)  # uint8 in, uint8 out
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wdsr_jax.image.metrics import psnr, ssim
    from wdsr_jax.image.resize import imresize
    from wdsr_jax.image.resize_jax import imresize_jax
    from wdsr_jax.inference.tiles import upscale
    from wdsr_jax.models import create_model, fold_weight_norm
    from wdsr_jax.weights.files import list_pretrained
    from wdsr_jax.weights.store import load_pretrained

__version__ = "0.2.0"

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

# Imported when they are first used: the commands answer `--help` and mistakes before they import JAX.
_MODULES = {
    "wdsr_jax.image.metrics": ("psnr", "ssim"),
    "wdsr_jax.image.resize": ("imresize",),
    "wdsr_jax.image.resize_jax": ("imresize_jax",),
    "wdsr_jax.inference.tiles": ("upscale",),
    "wdsr_jax.models": ("create_model", "fold_weight_norm"),
    "wdsr_jax.weights.files": ("list_pretrained",),
    "wdsr_jax.weights.store": ("load_pretrained",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
