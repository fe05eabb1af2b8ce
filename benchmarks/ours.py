"""This package's side: networks from plain arrays, as their users run them."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

import wdsr_jax
from wdsr_jax.inference.network import apply_padded, compiler_options, fold_for_inference
from wdsr_jax.training.losses import LOSSES
from wdsr_jax.training.optim import create_optimizer, learning_rate_schedule
from wdsr_jax.training.step import (
    Degrade,
    count_micro_batches,
    create_state,
    parallel_train_step,
    replicate,
    shard,
)

Arrays = Mapping[str, np.ndarray]  # parameters by their path, such as `block_0.expand.kernel`
LEARNING_RATE = 1e-3


def _network(model: Mapping[str, Any], params: Arrays) -> tuple[Any, Any]:
    return wdsr_jax.create_model(model), jax.device_put(unflatten_dict(dict(params), sep="."))


def stepping(
    model: Mapping[str, Any],
    params: Arrays,
    batch_size: int,
    micro_batches: int | None = None,
    degrade: Degrade | None = None,
) -> Callable[[Arrays], jax.Array]:
    """The whole training step as `wdsr_jax.main` makes it: from a uint8 batch to the loss."""
    module, params = _network(model, params)
    schedule = learning_rate_schedule("piecewise", learning_rate=LEARNING_RATE, steps=10**6)
    optimizer = create_optimizer(schedule)
    if micro_batches is None:
        micro_batches = count_micro_batches(module, batch_size // jax.local_device_count())
    step = parallel_train_step(
        degrade, module=module, optimizer=optimizer, loss=LOSSES["l1"], seed=0, micro_batches=micro_batches
    )
    state = replicate(create_state(params, optimizer, ema=False))

    def call(batch: Arrays) -> jax.Array:
        nonlocal state
        state, metrics = step(state, shard(batch))
        return jax.block_until_ready(metrics["loss"])

    return call


def training(
    model: Mapping[str, Any], params: Arrays, batch: Arrays, micro_batches: int | None = None
) -> tuple[Callable[[], Any], np.ndarray]:
    """That step on one batch over and over; computes the losses of the first"""
    step = stepping(model, params, len(batch["lr"]), micro_batches)
    return lambda: step(batch), np.asarray([float(step(batch)) for _ in range(3)])


def inference(
    model: Mapping[str, Any], params: Arrays, lr: np.ndarray
) -> tuple[Callable[[], Any], np.ndarray]:
    """The network, jitted as `wdsr_jax.upscale` has it: float (1, H, W, 3) in, float (1, H r, W r, 3) out."""
    module, params = _network(model, params)
    dtype = module.dtype
    module, params = fold_for_inference(module, params)
    module = module.clone(dtype=dtype)
    apply = jax.jit(functools.partial(apply_padded, module), compiler_options=compiler_options())
    lr = jnp.asarray(lr)

    def call() -> jax.Array:
        return apply(params, lr).block_until_ready()

    return call, np.asarray(call())


def upscaling(
    model: Mapping[str, Any], params: Arrays, lr: np.ndarray, engine: str
) -> tuple[Callable[[], Any], np.ndarray]:
    """`wdsr_jax.upscale` by an engine: in tiles, conversions included; float, to be compared."""
    module, params = _network(model, params)
    call = functools.partial(wdsr_jax.upscale, module, params, lr[0], engine=engine)
    return call, call()[None]


def matmul(size: int, dtype: str) -> tuple[Callable[[], Any], np.ndarray]:
    """A plain product of two square matrices."""
    a, b = (jnp.asarray(np.random.default_rng(i).normal(size=(size, size)), dtype) for i in range(2))
    dot = jax.jit(jnp.dot)
    return lambda: dot(a, b).block_until_ready(), np.zeros(())
