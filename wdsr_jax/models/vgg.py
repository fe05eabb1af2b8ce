"""VGG19 (arXiv:1409.1556, configuration E), whose features perceptual losses compare."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from wdsr_jax.models.convolution import AnyArray
from wdsr_jax.models.layers import Conv, relu, shift_mean

_CONVOLUTIONS = (2, 2, 4, 4, 4)  # by block; a 2x2 maximum between blocks
_CHANNELS = (64, 128, 256, 512, 512)
# Of ImageNet; torchvision's network takes images normalised by them.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

LAYERS = tuple(
    f"{kind}{block}_{i}"
    for block, count in enumerate(_CONVOLUTIONS, start=1)
    for i in range(1, count + 1)
    for kind in ("conv", "relu")
)


class VGG19(nn.Module):
    """The network up to one of its features: RGB (B, H, W, 3) in [0, 1] to (B, h, w, C).

    Attributes:
        layer: `convB_I`, the output of convolution I of block B, or `reluB_I`, the same after its ReLU.
    """

    layer: str

    @nn.compact
    def __call__(self, image: Float[AnyArray, "b h w 3"]) -> Float[Array, "b h2 w2 c"]:
        x = shift_mean(image, _MEAN, -1) / jnp.asarray(_DEVIATION, image.dtype)[None, None, None, :]
        for block, (count, channels) in enumerate(zip(_CONVOLUTIONS, _CHANNELS, strict=True), start=1):
            for i in range(1, count + 1):
                x = Conv(channels, 3, "none", name=f"conv{block}_{i}")(x)
                if self.layer == f"conv{block}_{i}":
                    return x
                x = relu(x)
                if self.layer == f"relu{block}_{i}":
                    return x
            x = nn.max_pool(x, (2, 2), (2, 2))  # (B, h, w, C) -> (B, h // 2, w // 2, C)
        raise ValueError(f"layer must be one of {', '.join(LAYERS)}, not {self.layer!r}")


def convolutions() -> list[tuple[str, int, tuple[int, ...]]]:
    """Name, index among torchvision's `features` and shape there, (O, I, 3, 3), of each convolution."""
    found, index, inputs = [], 0, 3
    for block, (count, channels) in enumerate(zip(_CONVOLUTIONS, _CHANNELS, strict=True), start=1):
        for i in range(1, count + 1):
            found.append((f"conv{block}_{i}", index, (channels, inputs, 3, 3)))
            index, inputs = index + 2, channels  # a ReLU behind each
        index += 1  # the maximum
    return found
