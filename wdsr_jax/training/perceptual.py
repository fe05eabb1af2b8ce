"""The perceptual loss: how far features of VGG19 are apart, with the weights that torchvision distributes."""

import hashlib
import os
import re
from typing import Any, cast

import jax.numpy as jnp
from absl import logging
from jax import Array
from jaxtyping import Float

from wdsr_jax.errors import UserError
from wdsr_jax.models.vgg import VGG19, convolutions
from wdsr_jax.system.files import open_regular, path_errors
from wdsr_jax.training.losses import Images
from wdsr_jax.weights.torch_files import Tensor, open_torch

URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
_SHA256 = "dcbb9e9d"  # torchvision names its files by how their hash begins
# By which SRGAN divides features, so that the loss is of the size of a mean squared error of pixels.
_RESCALED = 12.75


def perceptual_loss(layer: str, params: Any, sr: Images, hr: Images) -> Float[Array, ""]:
    """Mean squared error of the features of VGG19, divided by 12.75.

    Source: SRGAN, arXiv:1609.04802, eq. 5 and section 3.2.

    Args:
        layer: one of `vgg.LAYERS`; SRGAN's is relu5_4 (behind the activation), ESRGAN's conv5_4 (before it).
        params: from `load_vgg`.
        sr: in [0, 1].
        hr: likewise.
    """
    network = VGG19(layer)

    def features(image: Images) -> Float[Array, "b _ _ _"]:
        return cast(Array, network.apply({"params": params}, image)) / _RESCALED

    return jnp.mean(jnp.square(features(sr) - features(hr)))


def load_vgg(path: str | os.PathLike, layer: str) -> dict[str, Any]:
    """The parameters of `VGG19(layer)` from torchvision's file.

    Raises:
        UserError: there is no such file, or it does not hold a VGG19; says where to get it.
    """
    where = f"torchvision's is at {URL}"
    if not path or not os.path.isfile(path):
        raise UserError(
            f"config.gan.vgg={path}: no such file; the weights of VGG19 are wanted, {where}; or set "
            "config.gan.perceptual=none"
        )
    with path_errors(path, "cannot be read"), open_regular(path) as file:
        if not hashlib.file_digest(file, "sha256").hexdigest().startswith(_SHA256):
            logging.warning("%s: not the file that torchvision distributes; taken as it is", path)
    with open_torch(path) as file:
        if not isinstance(file.content, dict):
            raise UserError(f"{path}: holds no state dict; {where}")
        params = {}
        for name, index, shape in convolutions():
            weight, bias = (file.content.get(f"features.{index}.{part}") for part in ("weight", "bias"))
            if not (
                isinstance(weight, Tensor)
                and isinstance(bias, Tensor)
                and (weight.shape, bias.shape) == (shape, shape[:1])
            ):
                raise UserError(f"{path}: features.{index} is not there as VGG19 has it, {shape}; {where}")
            kernel = file.read(weight).transpose(2, 3, 1, 0)  # (O, I, kh, kw) -> (kh, kw, I, O)
            params[name] = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(file.read(bias))}
            if re.sub("relu", "conv", layer) == name:
                break
    return params
