"""Flow matching around a trained network: `train_step`, the counterpart of `step.train_step`.

WDSR stays as it is; the velocity of `models.flow` learns. Its data are what SR lacks, in cells of LR pixels.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float

from wdsr_jax.models.convolution import convolve_in_training
from wdsr_jax.models.flow import FlowWDSR, Velocity, path
from wdsr_jax.models.layers import pixel_unshuffle
from wdsr_jax.training import step
from wdsr_jax.weights.store import load_pretrained, start_from


def start_from_trained(params: Any, init_from: str) -> Any:
    """Parameters to start from: WDSR's are the trained ones.

    Args:
        params: as they have been drawn, see `step.init_params`.
        init_from: as for `load_pretrained`: a WDSR-A, or another network of this kind.

    Raises:
        UserError: see `start_from`.
    """
    if "base" in load_pretrained(init_from)[1]:
        return start_from(params, init_from, whole=True)
    return params | {"base": start_from(params["base"], init_from, whole=True)}


def matching_loss(
    velocity: Velocity, x0: Float[Array, "b ..."], x1: Float[Array, "b ..."], t: Float[Array, " b"]
) -> Float[Array, ""]:
    """Mean squared error of a velocity on the straight paths from x_0 to x_1 (arXiv:2210.02747, equation 23).

    Args:
        velocity: (x, t) -> v.
        x0: Gaussian noise.
        x1: data.
        t: a time in [0, 1] for each.
    """
    x, target = map(jnp.asarray, path(x0, x1, t))
    return jnp.mean(jnp.square(velocity(x, t) - target))


def draw(
    key: Array, first: Array, count: int, shape: tuple[int, ...]
) -> tuple[Float[Array, "b ..."], Float[Array, " b"]]:
    """x_0 and t for some of the images of a batch, each by its place in the batch alone.

    Args:
        key: of the step.
        first: place of the first of them; int ().
        count: how many they are.
        shape: of x_0 of one image.
    """

    def of_image(place: Array) -> tuple[Array, Array]:
        noise_key, time_key = jax.random.split(jax.random.fold_in(key, place))
        return jax.random.normal(noise_key, shape), jax.random.uniform(time_key)

    return jax.vmap(of_image)(first + jnp.arange(count))


def train_step(
    state: step.TrainState,
    batch: step.Batch,
    *,
    module: FlowWDSR,
    optimizer: optax.GradientTransformation,
    seed: int,
    ema_decay: float = 0.0,
    micro_batches: int = 1,
    axis_name: str | None = None,
) -> tuple[step.TrainState, step.Metrics]:
    """One step of flow matching; what is not finite is skipped.

    Args:
        state: before the step.
        batch: this device's share.
        module: the network.
        optimizer: from `optim.create_optimizer`.
        seed: of the run. Noise and times of an image are drawn by seed, step and its place in the batch.
        ema_decay: see `step.train_step`.
        micro_batches: see `step.train_step`.
        axis_name: of the devices over which loss and gradients are averaged.

    Returns:
        The next state, and `loss`, `grad_norm` (before clipping) and `skipped_in_row`.
    """
    module = module.clone(convolve=convolve_in_training)
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    count = batch["lr"].shape[0]
    device = jax.lax.axis_index(axis_name) if axis_name else jnp.zeros((), jnp.int32)
    size = (*batch["lr"].shape[1:3], 3 * module.scale**2)

    def mean_loss(params: Any) -> Array:
        network, params = step.folded_for_training(module, params)
        variables = {"params": params}
        losses: list[Array] = []
        for i, (lr, hr) in enumerate(
            zip(*(jnp.split(batch[name], micro_batches) for name in ("lr", "hr")), strict=True)
        ):
            lr, hr = (image.astype(jnp.float32) / 255 for image in (lr, hr))
            sr = jax.lax.stop_gradient(network.apply(variables, lr))
            x0, t = draw(key, device * count + i * len(lr), len(lr), size)
            x1 = pixel_unshuffle(hr - sr, module.scale) / module.spread

            def velocity(x: Array, t: Array, lr=lr, sr=sr) -> Any:
                return network.apply(variables, x, t, lr, sr, method="velocity")

            losses.append(matching_loss(velocity, x0, x1, t))
        return jnp.mean(jnp.stack(losses))

    params = step.each_devices_own(state.params, axis_name)
    value, grads = jax.value_and_grad(mean_loss)(params)
    options: dict[str, Any] = dict(optimizer=optimizer, ema_decay=ema_decay, axis_name=axis_name)
    return step.descend(state, value, grads, **options)


def parallel_train_step(
    degrade: step.Degrade | None = None, **options: Any
) -> Callable[..., tuple[step.TrainState, step.Metrics]]:
    """`train_step` with `options` bound, on all devices of all hosts; see `step.parallel`."""
    return step.parallel(
        lambda state, batch, _, axis_name: train_step(state, batch, axis_name=axis_name, **options),
        degrade=degrade,
    )
