"""Fine-tuning with a discriminator: SRGAN (arXiv:1609.04802), and relativistic (ESRGAN, arXiv:1809.00219).

A step of the discriminator and one of the network alternate within `train_step`, the counterpart of
`step.train_step`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from wdsr_jax.models import has_batch_norm, replace_fields
from wdsr_jax.models.convolution import convolve_in_training
from wdsr_jax.models.discriminator import Discriminator
from wdsr_jax.training import step
from wdsr_jax.training.losses import Loss
from wdsr_jax.training.perceptual import load_vgg, perceptual_loss

ADVERSARIAL = ("standard", "relativistic")


@flax.struct.dataclass
class GanState(step.TrainState):
    """A `TrainState` and the discriminator's share.

    Attributes:
        d_params: of the discriminator.
        d_ema_params: their exponential moving average, or None where there is none.
        d_opt_state: of its optimiser.
    """

    d_params: Any
    d_ema_params: Any
    d_opt_state: optax.OptState


class LossWeights(NamedTuple):
    """Factors of the three parts of the network's loss (SRGAN, eq. 3; ESRGAN, eq. 3)."""

    adversarial: float
    perceptual: float
    pixel: float


def create_state(
    params: Any,
    optimizer: optax.GradientTransformation,
    ema: bool,
    *,
    discriminator: Discriminator,
    size: int,
    seed: int,
) -> GanState:
    """The state at step 0: of the network as it is given, of the discriminator drawn from `seed`.

    Args:
        params: of the network, trained without a discriminator before.
        optimizer: of both.
        ema: whether to average the parameters of both.
        discriminator: for HR patches.
        size: their side.
        seed: any integer.
    """
    key = jax.random.fold_in(jax.random.key(seed), 1)  # not that of the network, see `step.init_params`
    d_params = discriminator.init(key, jnp.zeros((1, size, size, 3)))["params"]
    own = step.create_state(d_params, optimizer, ema)
    d_state = dict(d_params=own.params, d_ema_params=own.ema_params, d_opt_state=own.opt_state)
    return GanState(**vars(step.create_state(params, optimizer, ema)), **d_state)


def adversarial_losses(
    real: jax.Array, fake: jax.Array, kind: str, axis_name: str | None = None
) -> tuple[jax.Array, jax.Array]:
    """The discriminator's loss and the network's.

    Args:
        real: logits of originals, (B,).
        fake: logits of what the network has made, (B,).
        kind: `standard`: -log D(real) - log(1 - D(fake)) and -log D(fake) (SRGAN, eq. 2 and 6);
            `relativistic`: the same with the mean logit of the other kind taken off each, and for the network
            with the kinds in each other's place (ESRGAN, eq. 1 and 2).
        axis_name: of the devices over which these means are taken.

    Returns:
        Two scalars, means over B.
    """
    if kind == "standard":
        return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake)), jnp.mean(
            jax.nn.softplus(-fake)
        )
    means = jnp.mean(real), jnp.mean(fake)
    if axis_name:
        means = jax.lax.pmean(means, axis_name)
    real, fake = real - means[1], fake - means[0]
    d_loss = jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))
    g_loss = jnp.mean(jax.nn.softplus(real)) + jnp.mean(jax.nn.softplus(-fake))
    return d_loss, g_loss


def train_step(
    state: GanState,
    batch: step.Batch,
    vgg_params: Any,
    *,
    module: nn.Module,
    discriminator: Discriminator,
    optimizer: optax.GradientTransformation,
    loss: Loss,
    adversarial: str,
    perceptual: str,
    weights: LossWeights,
    seed: int,
    ema_decay: float = 0.0,
    axis_name: str | None = None,
) -> tuple[GanState, step.Metrics]:
    """One step of the discriminator, then one of the network against it.

    A step whose losses or gradients are not finite leaves all but the counters as it was.

    Args:
        state: before the step.
        batch: this device's share.
        vgg_params: from `perceptual.load_vgg`, or None.
        module: the network.
        discriminator: for HR patches of this size.
        optimizer: of both.
        loss: of pixels, one of `losses.LOSSES`.
        adversarial: one of `ADVERSARIAL`.
        perceptual: one of `vgg.LAYERS`, or `none`.
        weights: of the parts of the network's loss.
        seed: of the run; whatever is random in the network gets the key `fold_in(seed, step)`.
        ema_decay: as in `step.train_step`.
        axis_name: of the devices over which losses, gradients and batch norms are taken.

    Returns:
        The next state, and `loss` (the network's, whole), its parts `adversarial`, `perceptual` and `pixel`,
        `d_loss`, `d_real` and `d_fake` (the mean probability that the discriminator gives originals and what
        the network has made), `grad_norm` and `skipped_in_row`.
    """
    if has_batch_norm(module):
        module = module.clone(axis_name=axis_name)
    module = replace_fields(module, convolve=convolve_in_training)
    discriminator = discriminator.clone(axis_name=axis_name, convolve=convolve_in_training)
    lr, hr = (batch[name].astype(jnp.float32) / 255 for name in ("lr", "hr"))
    rngs = {"dropout": jax.random.fold_in(jax.random.key(seed), state.step)}

    def generate(params):
        network, params = step.folded_for_training(module, params)
        sr, measured = network.apply({"params": params}, lr, rngs=rngs, mutable=["batch_stats"])
        return sr, measured.get("batch_stats", {})

    def discriminate(d_params, image):
        return discriminator.apply({"params": d_params}, image, mutable=["batch_stats"])[0]

    def mean(tree):
        return jax.lax.pmean(tree, axis_name) if axis_name else tree

    own = functools.partial(step.each_devices_own, axis_name=axis_name)
    sr, vjp_fn, statistics = jax.vjp(generate, own(state.params), has_aux=True)

    def discriminator_loss(d_params):
        real, fake = discriminate(d_params, hr), discriminate(d_params, sr)
        d_loss, _ = adversarial_losses(real, fake, adversarial, axis_name)
        return d_loss, (jnp.mean(jax.nn.sigmoid(real)), jnp.mean(jax.nn.sigmoid(fake)))

    d_values, d_grads = mean(jax.value_and_grad(discriminator_loss, has_aux=True)(own(state.d_params)))
    d_updates, d_opt_state = optimizer.update(d_grads, state.d_opt_state, state.d_params)
    d_params = optax.apply_updates(state.d_params, d_updates)

    def generator_loss(sr):
        own_d_params = own(d_params)
        real = discriminate(own_d_params, hr) if adversarial == "relativistic" else jnp.zeros(())
        _, fooling = adversarial_losses(real, discriminate(own_d_params, sr), adversarial, axis_name)
        likeness = jnp.zeros(()) if perceptual == "none" else perceptual_loss(perceptual, vgg_params, sr, hr)
        parts = dict(adversarial=fooling, perceptual=likeness, pixel=loss(sr, hr))
        return sum(getattr(weights, name) * part for name, part in parts.items()), parts

    (value, parts), sr_grads = jax.value_and_grad(generator_loss, has_aux=True)(sr)
    (grads,) = vjp_fn(sr_grads)
    value, parts, grads = mean((value, parts, grads))

    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = step.put_statistics(optax.apply_updates(state.params, updates), statistics)
    grad_norm = optax.tree.norm(grads)
    finite = jnp.isfinite(value + d_values[0] + grad_norm + optax.tree.norm(d_grads))
    average = functools.partial(step.move_average, step=state.step, ema_decay=ema_decay)
    state = step.advance(
        state,
        finite,
        params=params,
        ema_params=average(state.ema_params, params),
        opt_state=opt_state,
        d_params=d_params,
        d_ema_params=average(state.d_ema_params, d_params),
        d_opt_state=d_opt_state,
    )
    d_loss, (d_real, d_fake) = d_values
    metrics = dict(loss=value, **parts, d_loss=d_loss, d_real=d_real, d_fake=d_fake)
    return state, metrics | dict(grad_norm=grad_norm, skipped_in_row=state.skipped_in_row)


def parallel_train_step(
    *, vgg_file: str, perceptual: str, degrade: step.Degrade | None = None, **options: Any
) -> Callable[..., tuple[Any, step.Metrics]]:
    """`train_step` with `options` bound, on all devices of all hosts; see `step.parallel`.

    Raises:
        UserError: see `load_vgg`.
    """
    vgg_params = None if perceptual == "none" else load_vgg(vgg_file, perceptual)
    stepped = functools.partial(train_step, perceptual=perceptual, **options)
    return step.parallel(stepped, vgg_params, degrade)
