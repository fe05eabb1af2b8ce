"""The discriminator of SRGAN (arXiv:1609.04802, figure 4)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from wdsr_jax.models.convolution import AnyArray, Convolution, convolve
from wdsr_jax.models.layers import Conv
from wdsr_jax.models.resampling import StridedConv

_SLOPE = 0.2
# Each convolution after the first: channels as a multiple of the first's, and whether its stride is 2.
_CONVOLUTIONS = ((1, True), (2, False), (2, True), (4, False), (4, True), (8, False), (8, True))
_DENSE = 16  # channels of the hidden dense layer, as such a multiple: 1024


class Discriminator(nn.Module):
    """Tells originals from outputs of a network: (B, H, W, 3) in [0, 1] to (B,), the logit of "original".

    Eight 3x3 convolutions, every other one of stride 2, with leaky ReLU and, except the first, batch norm;
    two dense layers. The shape of the first of these depends on the size of the images: HR patches of one
    size, 96x96 in the paper.

    Batch norm normalises by the batch, so apply it with `mutable=["batch_stats"]`. It works in training only,
    so its running statistics are not used.

    Attributes:
        filters: channels of the first convolution.
        axis_name: axis of the devices over which batch norm takes its statistics.
        convolve: computes the convolutions of stride 1, see `Conv`.
    """

    filters: int = 64
    axis_name: str | None = None
    convolve: Convolution = convolve

    @nn.compact
    def __call__(self, image: Float[AnyArray, "b h w 3"]) -> Float[Array, " b"]:
        x = 2 * image.astype(jnp.float32) - 1  # the paper's range
        conv = Conv(self.filters, 3, "none", convolve=self.convolve, name="conv_0")
        x = nn.leaky_relu(conv(x), _SLOPE)  # (B, H, W, filters)
        for i, (multiple, strided) in enumerate(_CONVOLUTIONS, start=1):
            layer = StridedConv if strided else Conv
            shared: dict[str, Any] = dict(norm="batch", axis_name=self.axis_name, convolve=self.convolve)
            conv = layer(multiple * self.filters, 3, name=f"conv_{i}", **shared)
            x = nn.leaky_relu(conv(x), _SLOPE)
        x = x.reshape(x.shape[0], -1)  # (B, H/16, W/16, 8 filters) -> (B, H/16 * W/16 * 8 filters)
        x = nn.leaky_relu(nn.Dense(_DENSE * self.filters, name="dense_0")(x), _SLOPE)
        return nn.Dense(1, name="dense_1")(x)[:, 0]
