"""One training step as a pure function, and `pmap` of it over the devices."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array
from jaxtyping import Bool, Int, Shaped, UInt8

from wdsr_jax.image.resize_jax import imresize_jax
from wdsr_jax.models import fold_weight_norm, has_batch_norm, replace_fields
from wdsr_jax.models.batch_norm import STATISTICS
from wdsr_jax.models.convolution import convolve_in_training
from wdsr_jax.system.devices import on_cpu
from wdsr_jax.training.losses import Loss, shift_tolerant
from wdsr_jax.training.stacks import unstack_blocks

Batch = Mapping[str, UInt8[Array | np.ndarray, "b _ _ 3"]]  # "lr": (B, P, P, 3); "hr": (B, P r, P r, 3)
Metrics = dict[str, Shaped[Array, ""]]
Degrade = Callable[[Array, Array, Array], Batch]  # (HR with a margin, step, device) -> batch

# CPU hosts: XLA runs each convolution of a batch of small patches on one thread, so that one device uses
# one core. The independent convolutions of unrolled micro-batches run side by side instead. More than
# this many gain nothing more and compile longer.
MAX_MICRO_BATCHES = 16


@flax.struct.dataclass
class TrainState:
    """All that a step changes; what a checkpoint holds.

    Attributes:
        step: steps made, those skipped included; int32 ().
        params: of the network, running statistics of batch norm included (see `batch_norm`).
        ema_params: their exponential moving average, or None where there is none.
        opt_state: of the optimiser.
        skipped: steps skipped because loss or gradient was not finite; int32 ().
        skipped_in_row: those among them since the last good step.
    """

    step: Any  # leaves of a tree, which may hold shapes or None while JAX maps it
    params: Any
    ema_params: Any
    opt_state: optax.OptState
    skipped: Any
    skipped_in_row: Any


State = TypeVar("State", bound=TrainState)


def init_params(module: nn.Module, seed: int) -> Any:
    """Parameters of the network, drawn from `seed`."""
    return module.init(jax.random.key(seed), jnp.zeros((1, 8, 8, 3)))["params"]


def create_state(params: Any, optimizer: optax.GradientTransformation, ema: bool) -> TrainState:
    """The state at step 0, with or without an average of the parameters."""
    # Buffers of their own: a step donates each of them, and a buffer cannot be donated twice.
    ema_params = jax.tree.map(jnp.copy, params) if ema else None
    zero = functools.partial(jnp.zeros, (), jnp.int32)
    return TrainState(zero(), params, ema_params, optimizer.init(params), zero(), zero())


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    module: nn.Module,
    optimizer: optax.GradientTransformation,
    loss: Loss,
    seed: int,
    shift: int = 0,
    ema_decay: float = 0.0,
    grad_accum: int = 1,
    micro_batches: int = 1,
    axis_name: str | None = None,
) -> tuple[TrainState, Metrics]:
    """One step of gradient descent.

    A step whose loss or gradient is not finite leaves all but the counters as it was.

    Batch norm takes its statistics over all devices, so that their number changes nothing but rounding.
    It cannot do so over parts of a batch that come one after the other, nor over micro-batches, whose
    convolutions would have to wait for each other.

    Args:
        state: before the step.
        batch: this device's share, see `Batch`.
        module: the network.
        optimizer: from `optim.create_optimizer`.
        loss: one of `losses.LOSSES`.
        seed: of the run; whatever is random in the network gets the key `fold_in(seed, step)`.
        shift: HR pixels by which LR and HR may lie apart; above 0 the loss is `shift_tolerant`.
        ema_decay: d of ema = d ema + (1 - d) params, where d = min(ema_decay, (1 + step) / (10 + step));
            unused where the state has no average.
        grad_accum: into how many parts the batch is split that come one after the other, so that the features
            of one part need memory at a time; gradients are averaged, the result is the same but for
            rounding. Divides the batch; 1 for a network with batch norm.
        micro_batches: into how many each part is split that are computed at once, likewise.
        axis_name: of the devices over which loss and gradients are averaged.

    Returns:
        The next state, and `loss`, `grad_norm` (before clipping) and `skipped_in_row`.

    Raises:
        ValueError: a batch in parts, for a network with batch norm.
    """
    if has_batch_norm(module):
        if grad_accum * micro_batches > 1:
            raise ValueError("batch norm is of the whole batch: grad_accum and micro_batches must be 1")
        module = module.clone(axis_name=axis_name)
    module = replace_fields(module, convolve=convolve_in_training)
    key = jax.random.fold_in(jax.random.key(seed), state.step)

    def mean_loss(params, batch, key):
        network, params = folded_for_training(module, params)  # once a step, not once a micro-batch
        # (b, ...) -> micro_batches of (b / micro_batches, ...)
        lrs = jnp.split(batch["lr"], micro_batches)
        hrs = jnp.split(batch["hr"], micro_batches)
        outputs, statistics = [], {}
        for i, (lr, hr) in enumerate(zip(lrs, hrs, strict=True)):
            rngs = {"dropout": jax.random.fold_in(key, i)}
            lr = lr.astype(jnp.float32) / 255
            sr, measured = network.apply({"params": params}, lr, rngs=rngs, mutable=["batch_stats"])
            statistics = measured.get("batch_stats", {})
            outputs.append((sr, hr.astype(jnp.float32) / 255, lr))
        if shift:
            # For all micro-batches together: each of many shifts is a computation to compile.
            sr, hr, lr = map(jnp.concatenate, zip(*outputs, strict=True))
            guide = lr if module.scale == 1 else imresize_jax(lr, module.scale)
            value = shift_tolerant(loss, shift)(sr, hr, guide)
        else:
            value = sum(loss(sr, hr) for sr, hr, _ in outputs) / micro_batches
        return value, statistics

    params = each_devices_own(state.params, axis_name)
    value_and_grads = jax.value_and_grad(mean_loss, has_aux=True)
    if grad_accum == 1:
        (value, statistics), grads = value_and_grads(params, batch, key)
    else:
        # (B, ...) -> (grad_accum, B / grad_accum, ...), the devices of a mesh along the second axis
        parts = jax.tree.map(lambda x: x.reshape(-1, grad_accum, *x.shape[1:]).swapaxes(0, 1), batch)

        def add(total, part):
            (value, _), grads = value_and_grads(params, *part)
            return jax.tree.map(jnp.add, total, (value, grads)), None

        nothing = dict(loss=jnp.zeros(()), grads=jax.tree.map(jnp.zeros_like, state.params))
        nothing = tuple(each_devices_own(nothing, axis_name).values())
        total, _ = jax.lax.scan(add, nothing, (parts, jax.random.split(key, grad_accum)))
        (value, grads), statistics = jax.tree.map(lambda x: x / grad_accum, total), {}
    options: dict[str, Any] = dict(optimizer=optimizer, ema_decay=ema_decay, axis_name=axis_name)
    return descend(state, value, grads, statistics=statistics, **options)


def descend(
    state: TrainState,
    value: Shaped[Array, ""],
    grads: Any,
    *,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
    axis_name: str | None,
    statistics: Any = None,
) -> tuple[TrainState, Metrics]:
    """The state after a step, of the loss and the gradients of this device's share; see `train_step`.

    Args:
        state: before the step.
        value: the loss.
        grads: its gradients, as a tree like the parameters.
        optimizer: see `train_step`.
        ema_decay: see `train_step`.
        axis_name: see `train_step`.
        statistics: of batch norm, as they are after the step; None for none.
    """
    if axis_name:
        value, grads = jax.lax.pmean((value, grads), axis_name)
    grad_norm = optax.tree.norm(grads)
    finite = jnp.isfinite(value) & jnp.isfinite(grad_norm)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = put_statistics(optax.apply_updates(state.params, updates), statistics or {})
    ema_params = move_average(state.ema_params, params, state.step, ema_decay)
    state = advance(state, finite, params=params, ema_params=ema_params, opt_state=opt_state)
    return state, {"loss": value, "grad_norm": grad_norm, "skipped_in_row": state.skipped_in_row}


def each_devices_own(params: Any, axis_name: str | None) -> Any:
    """The parameters as values of each device by itself, so that gradients are those of its share.

    Inside `jax.shard_map`, parameters that are known to be the same on all devices would get the sum of the
    gradients. Running statistics have none, and stay the same.

    Args:
        params: of the network.
        axis_name: see `train_step`; None where there are no devices to tell apart.
    """
    if axis_name is None:
        return params
    own = {
        path: value if path[-1] in STATISTICS else jax.lax.pcast(value, axis_name, to="varying")
        for path, value in flatten_dict(params).items()
    }
    return unflatten_dict(own)


def folded_for_training(module: nn.Module, params: Any) -> tuple[nn.Module, Any]:
    """The network and its parameters as a step applies them, which gradients go through.

    Weight norm is multiplied out, of stacked blocks at once (see `stacks`), and blocks are apart. Batch norm
    stays.
    """
    if getattr(module, "norm", None) == "weight" and not has_batch_norm(module):
        module, params = module.clone(norm="none"), fold_weight_norm(params)
    return module, unstack_blocks(params)


def put_statistics(params: Any, statistics: Any) -> Any:
    """The parameters with running statistics that a step has moved (see `models.batch_norm`)."""
    return unflatten_dict(flatten_dict(params) | flatten_dict(statistics))


def move_average(ema_params: Any, params: Any, step: Int[Array, ""], ema_decay: float) -> Any:
    """The average of the parameters after a step, see `train_step`; None where there is none."""
    if ema_params is None:
        return None
    # A shorter memory at first, or the average would hold on to the initial parameters.
    decay = jnp.minimum(ema_decay, (1 + step) / (10 + step))
    return optax.incremental_update(params, ema_params, 1 - decay)


def advance(state: State, finite: Bool[Array, ""], **new: Any) -> State:
    """The state after a step: with the fields `new`, or, where the step was not finite, those it had."""
    kept = {
        name: jax.tree.map(functools.partial(jnp.where, finite), value, getattr(state, name))
        for name, value in new.items()
    }
    return dataclasses.replace(
        state,
        step=state.step + 1,
        skipped=state.skipped + jnp.where(finite, 0, 1),
        skipped_in_row=jnp.where(finite, 0, state.skipped_in_row + 1),
        **kept,
    )


def parallel_train_step(
    degrade: Degrade | None = None, **options: Any
) -> Callable[..., tuple[TrainState, Metrics]]:
    """`train_step` with `options` bound, on all devices of all hosts; see `parallel`."""
    return parallel(
        lambda state, batch, _, axis_name: train_step(state, batch, axis_name=axis_name, **options),
        degrade=degrade,
    )


def parallel(
    step: Callable[..., tuple[TrainState, Metrics]],
    constants: Any = None,
    degrade: Degrade | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """A training step on all devices of all hosts.

    The state goes in and comes out unstacked (the same on every device) and is donated; the batch, this
    host's share, is stacked by `shard`. A third argument is whether this host has been asked to stop, and the
    metrics' `stop` whether any has, so that all can do so after the same step.

    Args:
        step: (state, batch, constants, axis_name="batch") -> (state, metrics).
        constants: arrays that no step changes; as part of the program they would be compiled into it.
        degrade: makes the batch from its HR, the number of the step and that of the device among all; None
            for batches that have their LR.
    """

    def stepped(state, batch, stop, constants):
        if degrade is not None:
            batch = degrade(batch["hr"], state.step, jax.lax.axis_index("batch"))
        state, metrics = step(state, batch, constants, axis_name="batch")
        return state, metrics | {"stop": jax.lax.pmax(jnp.asarray(stop, jnp.int32), "batch")}

    on_devices = jax.pmap(
        stepped,
        axis_name="batch",
        in_axes=(None, 0, None, None),
        out_axes=(None, None),
        donate_argnums=(0,),
    )
    constants = replicate(constants)
    return lambda state, batch, stop=False: on_devices(state, batch, stop, constants)


def replicate(state: Any) -> Any:
    """Puts a state on all devices of this host, as `parallel_train_step` returns it.

    From anywhere else the first step would be compiled by itself, and the second one again.
    """
    mesh = jax.sharding.Mesh(np.asarray(jax.local_devices()), ("batch",))
    return jax.device_put(state, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


def shard(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Splits arrays (B, ...) over this host's devices: (devices, B / devices, ...)."""
    n = jax.local_device_count()
    return {k: v.reshape(n, v.shape[0] // n, *v.shape[1:]) for k, v in batch.items()}


def count_micro_batches(module: nn.Module, batch_size: int) -> int:
    """How many micro-batches suit a device's share of the batch: 1 but on CPU, see MAX_MICRO_BATCHES."""
    if not on_cpu() or has_batch_norm(module):
        return 1
    return max(n for n in range(1, MAX_MICRO_BATCHES + 1) if batch_size % n == 0)
