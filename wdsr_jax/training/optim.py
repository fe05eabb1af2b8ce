"""Learning-rate schedules and the optimiser."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

SCHEDULES = ("piecewise", "cosine")


def learning_rate_schedule(
    schedule: str,
    *,
    learning_rate: float,
    steps: int,
    warmup_steps: int = 0,
    boundaries: Sequence[int] = (),
    decay: float = 0.1,
) -> optax.Schedule:
    """The learning rate as a function of the step, counted from 0.

    Args:
        schedule: `piecewise`: multiplied by `decay` at each of `boundaries`; `cosine`: half a cosine from
            `learning_rate` at step 0 to 0 at `steps` (arXiv:1608.03983, eq. 5, without restarts).
        learning_rate: the highest rate.
        steps: length of the run.
        warmup_steps: over these the rate is multiplied by (step + 1) / warmup_steps.
        boundaries: of `piecewise`, in steps.
        decay: of `piecewise`.

    Raises:
        ValueError: an unknown schedule.
    """
    if schedule == "piecewise":
        rate = optax.piecewise_constant_schedule(learning_rate, {b: decay for b in boundaries})
    elif schedule == "cosine":
        rate = optax.cosine_decay_schedule(learning_rate, steps)
    else:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, not {schedule!r}")

    @jax.jit  # op by op it would compile 13 times at the first log
    def warmed_up(step: ArrayLike) -> Array:
        step = jnp.asarray(step, jnp.float32)  # exact up to 2**24 steps
        return rate(step) * jnp.minimum(1.0, (step + 1) / max(1, warmup_steps))

    return warmed_up


def create_optimizer(schedule: optax.Schedule, grad_clip: float = 0.0) -> optax.GradientTransformation:
    """Adam (beta 0.9 and 0.999, epsilon 1e-8) after clipping by the global norm, if `grad_clip` > 0."""
    adam = optax.adam(schedule)
    chain = optax.chain(optax.clip_by_global_norm(grad_clip), adam) if grad_clip > 0 else adam

    def update(grads: Any, state: optax.OptState, params: Any = None) -> tuple[Any, optax.OptState]:
        with jax.numpy_dtype_promotion("standard"):  # Adam raises a float to the power of an integer count
            return chain.update(grads, state, params)

    return optax.GradientTransformation(chain.init, update)
