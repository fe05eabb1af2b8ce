"""From a config to what a run needs: its images, and its task."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import optax
from absl import logging
from ml_collections import ConfigDict

from wdsr_jax.data import load_data
from wdsr_jax.data.dataset import PairedDataset
from wdsr_jax.data.online import degrade_share, margin_of
from wdsr_jax.data.settings import Online, parse_degradation
from wdsr_jax.evaluation.examples import Example, examples_of_pairs
from wdsr_jax.models import count_params, create_model
from wdsr_jax.models.discriminator import Discriminator
from wdsr_jax.models.flow import FlowWDSR, sampler_of
from wdsr_jax.system import distributed
from wdsr_jax.system.compilation import call_once
from wdsr_jax.training import adversarial, flow, optim, step
from wdsr_jax.training.losses import LOSSES
from wdsr_jax.training.stacks import stack_for_backend
from wdsr_jax.weights.store import start_from


class RunData(NamedTuple):
    """The images of a run: pairs to train on, and examples to validate on."""

    train: PairedDataset
    val: list[Example]


@dataclasses.dataclass(frozen=True)
class Task:
    """What is trained and how: all in which one kind of training differs from another.

    Attributes:
        module: the network, as it is validated.
        schedule: the learning rate as a function of the step.
        init_state: the state at step 0, from the weights named or, where that is empty, from the seed alone.
        shapes: of the state.
        train_step: (state, batch, whether this host is to stop) to (state, metrics), see `step.parallel`.
        keeps_best: whether the weights of the best validation PSNR are kept, or the latest ones.
        keeps_start: whether those that training began with are kept beside them: a discriminator costs PSNR.
    """

    module: nn.Module
    schedule: optax.Schedule
    init_state: Callable[[str], step.TrainState]
    shapes: step.TrainState
    train_step: Callable[..., tuple[Any, step.Metrics]]
    keeps_best: bool = True
    keeps_start: bool = False


def load_run_data(config: ConfigDict) -> RunData:
    """The images of `config.data`, the same on all processes; see `load_data`.

    Raises:
        UserError: as `load_data`, on all processes where it does on one.
    """
    data = config.data
    with distributed.raise_on_all_processes():
        train, val = load_data(
            data.source,
            scale=config.model.scale,
            root=data.root,
            val_root=data.val_root,
            lr_root=data.lr_root,
            val_lr_root=data.val_lr_root,
            track=data.track,
            cache_dir=data.cache_dir,
            patch_size=data.patch_size,
            degradation=data.degradation,
        )
    logging.info("%d training images, %d for validation", len(train), len(val))
    return RunData(train, examples_of_pairs(val))


def batch_options(config: ConfigDict) -> dict[str, int]:
    """The arguments of `training_batches` that a config and the processes of the run decide."""
    return dict(
        patch_size=config.data.patch_size,
        margin=margin_of(config.model.scale, online) if (online := _online(config)) else 0,
        batch_size=config.data.batch_size,
        seed=config.train.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        workers=config.data.workers,
    )


def create_task(config: ConfigDict) -> Task:
    """The task of a config: pixels alone, a discriminator beside them (section `gan`), or a flow.

    Raises:
        UserError: the network does not exist, or the weights of VGG19 are not there.
    """
    module = create_model(config.model, allow_import=True)
    if isinstance(module, FlowWDSR):
        return _flow_task(config, module)
    return _adversarial_task(config, module) if "gan" in config else _pixel_task(config, module)


def _pixel_task(config: ConfigDict, module: nn.Module) -> Task:
    train = config.train
    share = config.data.batch_size // (jax.device_count() * train.grad_accum)
    schedule, options = _common_options(config, module)
    train_step = step.parallel_train_step(
        loss=LOSSES[train.loss],
        shift=train.shift_window,
        grad_accum=train.grad_accum,
        micro_batches=step.count_micro_batches(module, share),
        **options,
    )
    start = _start(train, module, options["optimizer"], step.create_state, start_from)
    return Task(module, schedule, *start, train_step)


def _flow_task(config: ConfigDict, module: FlowWDSR) -> Task:
    train = config.train
    schedule, options = _common_options(config, module)
    share = config.data.batch_size // jax.device_count()
    train_step = flow.parallel_train_step(micro_batches=step.count_micro_batches(module, share), **options)
    start = _start(train, module, options["optimizer"], step.create_state, flow.start_from_trained)
    # Of samples the PSNR falls while they get livelier, so the latest weights are kept.
    return Task(sampler_of(module), schedule, *start, train_step, keeps_best=False)


def _adversarial_task(config: ConfigDict, module: nn.Module) -> Task:
    train, gan = config.train, config.gan
    discriminator, hr_patch_size = Discriminator(gan.filters), config.data.patch_size * config.model.scale
    schedule, options = _common_options(config, module)
    train_step = adversarial.parallel_train_step(
        vgg_file=gan.vgg,
        loss=LOSSES[train.loss],
        discriminator=discriminator,
        adversarial=gan.adversarial,
        perceptual=gan.perceptual,
        weights=adversarial.LossWeights(gan.adversarial_weight, gan.perceptual_weight, gan.pixel_weight),
        **options,
    )
    create_state = functools.partial(
        adversarial.create_state, discriminator=discriminator, size=hr_patch_size, seed=train.seed
    )
    whole = functools.partial(start_from, whole=True)
    start = _start(train, module, options["optimizer"], create_state, whole)
    return Task(module, schedule, *start, train_step, keeps_best=False, keeps_start=True)


def _common_options(config: ConfigDict, module: nn.Module) -> tuple[optax.Schedule, dict[str, Any]]:
    """The schedule, and the options that the steps of all tasks have."""
    train = config.train
    schedule = optim.learning_rate_schedule(
        train.schedule,
        learning_rate=train.learning_rate,
        steps=train.steps,
        warmup_steps=train.warmup_steps,
        boundaries=train.lr_boundaries,
        decay=train.lr_decay,
    )
    optimizer = optim.create_optimizer(schedule, train.grad_clip)
    options = dict(module=module, optimizer=optimizer, degrade=_degrade(config))
    return schedule, options | dict(seed=train.seed, ema_decay=train.ema_decay)


def _online(config: ConfigDict) -> Online | None:
    """The settings of a degradation that is made on the devices; None where there is none."""
    settings = parse_degradation(config.data.degradation) if config.data.degradation else None
    return settings if isinstance(settings, Online) else None


def _degrade(config: ConfigDict) -> step.Degrade | None:
    """What makes the LR of a step's batch on the devices; None where LR is there before."""
    settings = _online(config)
    if settings is None:
        return None
    return functools.partial(
        degrade_share, seed=config.train.seed, scale=config.model.scale, settings=settings
    )


def _start(
    train: ConfigDict,
    module: nn.Module,
    optimizer: optax.GradientTransformation,
    create_state: Callable[..., step.TrainState],
    start_from: Callable[[Any, str], Any],
) -> tuple[Callable[[str], step.TrainState], step.TrainState]:
    """A task's `init_state` and `shapes`; logs how many parameters its network has.

    Args:
        train: the section of the config.
        module: the network, whose parameters `train.seed` draws.
        optimizer: of `_common_options`.
        create_state: (parameters, optimizer=, ema=) to the state at step 0.
        start_from: (parameters, weights) to the parameters to begin with.
    """
    draw = functools.partial(step.init_params, module, train.seed)

    def create(params: Any) -> step.TrainState:
        return create_state(stack_for_backend(params), optimizer=optimizer, ema=train.ema_decay > 0)

    def init_state(init_from: str) -> step.TrainState:
        params = call_once(draw)
        return call_once(create, start_from(params, init_from) if init_from else params)

    shapes: step.TrainState = jax.eval_shape(lambda: create(draw()))
    logging.info("%s parameters", f"{count_params(shapes.params):,}")
    return init_state, shapes
