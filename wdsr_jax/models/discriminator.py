"""The discriminator of SRGAN (arXiv:1609.04802, figure 4)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from wdsr_jax.models.layers import Conv
from wdsr_jax.models.resampling import StridedConv

_SLOPE = 0.2
# Of each convolution behind the first: channels as a multiple of the first's, and whether its stride is 2.
_CONVOLUTIONS = ((1, True), (2, False), (2, True), (4, False), (4, True), (8, False), (8, True))
_DENSE = 16  # channels of the hidden dense layer, likewise: 1024


class Discriminator(nn.Module):
    """Tells originals from what a network has made: (B, H, W, 3) in [0, 1] to (B,), the logit of "original".

    Eight 3x3 convolutions, every other one of stride 2, with leaky ReLU and, but for the first, batch norm;
    two dense layers. Their shape is of the size of its images: HR patches of one size, 96x96 in the paper.

    Batch norm normalises by the batch, so it is to be applied with `mutable=["batch_stats"]`. As it judges in
    training only, its running statistics are of no use.

    Attributes:
        filters: channels of the first convolution.
        axis_name: of the devices over which batch norm takes its statistics.
    """

    filters: int = 64
    axis_name: str | None = None

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        x = 2 * image.astype(jnp.float32) - 1  # the paper's range
        x = nn.leaky_relu(Conv(self.filters, 3, "none", name="conv_0")(x), _SLOPE)  # (B, H, W, filters)
        for i, (multiple, strided) in enumerate(_CONVOLUTIONS, start=1):
            layer = StridedConv if strided else Conv
            layer = layer(multiple * self.filters, 3, "batch", axis_name=self.axis_name, name=f"conv_{i}")
            x = nn.leaky_relu(layer(x), _SLOPE)
        x = x.reshape(x.shape[0], -1)  # (B, H/16, W/16, 8 filters) -> (B, H/16 * W/16 * 8 filters)
        x = nn.leaky_relu(nn.Dense(_DENSE * self.filters, name="dense_0")(x), _SLOPE)
        return nn.Dense(1, name="dense_1")(x)[:, 0]
