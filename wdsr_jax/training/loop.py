"""Training: set-up, the loop, and the report at its end, read from top to bottom."""

import functools
import os
import signal
import sys
import time
from collections import deque
from contextlib import ExitStack, closing
from pathlib import Path

import jax
import ml_collections
import numpy as np
from absl import logging
from tqdm import tqdm

from wdsr_jax.data import load_data
from wdsr_jax.data.pipeline import training_batches
from wdsr_jax.errors import UserError
from wdsr_jax.evaluation import benchmark as evaluate
from wdsr_jax.evaluation.examples import examples_of_pairs
from wdsr_jax.models import count_params, create_model
from wdsr_jax.models.discriminator import Discriminator
from wdsr_jax.system import distributed
from wdsr_jax.training import adversarial as gan
from wdsr_jax.training import checkpoints, optim
from wdsr_jax.training import step as steps
from wdsr_jax.training.config import check_config
from wdsr_jax.training.event_files import open_board, write_board
from wdsr_jax.training.losses import LOSSES
from wdsr_jax.training.profile import trace_steps
from wdsr_jax.training.report import detail, is_reported, print_report, write_report
from wdsr_jax.training.signals import Stopped, catch_signals, until_signal
from wdsr_jax.training.workdir import check_workdir, start_workdir
from wdsr_jax.weights.store import PSNR_FILE, WORKDIR_FILE, recorded_psnr, save_weights, start_from


class DivergedError(UserError):
    """Loss or gradient stayed non-finite.

    Attributes:
        step: up to which it did.
    """

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


_IN_FLIGHT = 2  # steps that wait on the device, so that it never waits for the host


def train_and_evaluate(
    config: ml_collections.ConfigDict, workdir: str | os.PathLike, *, profile: bool = False
) -> int:
    """Trains the network of `config` in `workdir`, or goes on where an earlier run there stopped.

    Args:
        config: as in `configs/default.py`.
        workdir: gets the config, checkpoints, TensorBoard files, the best weights, and at the end
            `evaluation.json` and `before_after.png`. Nothing is written before config and data are good.
        profile: whether to trace 5 steps into the workdir's `profile`, see `profile.trace_steps`.

    Returns:
        0; or 128 + the number of the signal that stopped it, after saving.

    Raises:
        UserError: a mistake in config, data or workdir, or a full disk.
        DivergedError: loss or gradient that stays non-finite.
    """
    check_config(config)
    workdir = Path(workdir).expanduser()
    # The lead's view: other hosts may see what it has just written, or moved away, a moment later.
    resumes = distributed.gather(bool(checkpoints.saved_steps(workdir)))[0]
    check_workdir(workdir, config.to_dict(), resumes=resumes)
    train, data, scale = config.train, config.data, config.model.scale
    is_lead, is_alone = distributed.is_lead(), jax.process_count() == 1
    has_gan = "gan" in config

    with distributed.together():
        train_pairs, val_pairs = load_data(
            data.source,
            scale=scale,
            root=data.root,
            val_root=data.val_root,
            track=data.track,
            cache_dir=data.cache_dir,
            patch_size=data.patch_size,
            degradation=data.degradation,
        )
    logging.info("%d training images, %d for validation", len(train_pairs), len(val_pairs))
    examples = examples_of_pairs(val_pairs)

    module = create_model(config.model, allow_import=True)
    schedule = optim.learning_rate_schedule(
        train.schedule,
        learning_rate=train.learning_rate,
        steps=train.steps,
        warmup_steps=train.warmup_steps,
        boundaries=train.lr_boundaries,
        decay=train.lr_decay,
    )
    optimizer = optim.create_optimizer(schedule, train.grad_clip)
    create_state = steps.create_state
    if has_gan:
        discriminator, hr_patch = Discriminator(config.gan.filters), data.patch_size * scale
        create_state = functools.partial(
            gan.create_state, discriminator=discriminator, size=hr_patch, seed=train.seed
        )
    create_state = functools.partial(create_state, optimizer=optimizer, ema=train.ema_decay > 0)
    shapes = jax.eval_shape(lambda: create_state(steps.init_params(module, train.seed)))
    logging.info("%s parameters", f"{count_params(shapes.params):,}")
    if not resumes:
        params = steps.init_params(module, train.seed)
        state = create_state(
            start_from(params, train.init_from, whole=has_gan) if train.init_from else params
        )
    options = dict(module=module, optimizer=optimizer, loss=LOSSES[train.loss])
    options |= dict(seed=train.seed, ema_decay=train.ema_decay)
    if has_gan:
        train_step = gan.parallel_train_step(
            vgg_file=config.gan.vgg,
            discriminator=discriminator,
            adversarial=config.gan.adversarial,
            perceptual=config.gan.perceptual,
            weights=gan.Weights(
                config.gan.adversarial_weight, config.gan.perceptual_weight, config.gan.pixel_weight
            ),
            **options,
        )
    else:
        share = data.batch_size // (jax.device_count() * train.grad_accum)
        train_step = steps.parallel_train_step(
            shift=train.shift,
            grad_accum=train.grad_accum,
            micro_batches=steps.count_micro_batches(module, share),
            **options,
        )

    with ExitStack() as stack:  # closes in any event what the run has open: threads, processes, files
        stack.enter_context(start_workdir(workdir, config.to_dict()))
        if has_gan and is_lead and not resumes:
            save_weights(workdir / PSNR_FILE, config.model.to_dict(), state.params)
        # Resuming: the newest whole checkpoint gives state and step; the batches from that step on follow.
        manager = stack.enter_context(checkpoints.open_checkpoints(workdir, train.keep_checkpoints))
        best = -np.inf
        if resumes:
            state, trained_on = checkpoints.restore_newest(manager, shapes)
            best = recorded_psnr(workdir / WORKDIR_FILE)
            logging.info("resuming at step %d of %d", state.step, train.steps)
            if trained_on != train_pairs.fingerprint:
                logging.warning("the training images have changed since this run was stopped")
        step = first_step = int(state.step)
        state = steps.replicate(state)

        batches = stack.enter_context(
            closing(
                training_batches(
                    train_pairs,
                    patch_size=data.patch_size,
                    batch_size=data.batch_size,
                    seed=train.seed,
                    start=step,
                    process_index=jax.process_index(),
                    process_count=jax.process_count(),
                    workers=data.workers,
                )
            )
        )
        if is_lead:
            board = stack.enter_context(open_board(workdir, step + 1))
        # Many lines in a file or a batch system's log help nobody.
        interval = 0.1 if sys.stderr.isatty() else 30
        bar = tqdm(
            total=train.steps,
            initial=step,
            desc="training",
            unit="step",
            disable=not is_lead or step >= train.steps,
            smoothing=0.1,
            mininterval=interval,
        )
        stack.enter_context(bar)
        signals = stack.enter_context(catch_signals())
        if profile and is_lead:
            trace = stack.enter_context(trace_steps(workdir / "profile", step))

        def validate() -> float | None:
            """Validation PSNR at this step, None if a signal came first; keeps the best weights."""
            nonlocal best
            params = state.params if state.ema_params is None else state.ema_params
            # Of several processes all or none would have to give up.
            images = until_signal(examples, signals) if is_alone else examples
            try:
                result = evaluate.evaluate(
                    images, scale, module, params, bicubic=False, shift=train.shift, label="validation"
                )
            except Stopped:
                return None
            scores = result["model"]
            # There is none where all images are tiny.
            psnr_rgb = scores["psnr_shift" if train.shift else "psnr_rgb"] or 0.0
            note = ""
            if psnr_rgb >= best or has_gan:  # a discriminator costs PSNR, and is not there for it
                best, note = psnr_rgb, "" if has_gan else ", the best so far"
                if is_lead:
                    save_weights(workdir / WORKDIR_FILE, config.model.to_dict(), params, best)
            logging.info("step %d: validation PSNR %.2f dB%s", step, psnr_rgb, note)
            if is_lead:
                scalars = {f"val/{name}": value for name, value in scores.items() if value is not None}
                picture = {f"val/{examples[0].name}": detail(examples[0], module, params)}
                write_board(board, step, scalars, picture)
            return psnr_rgb

        def is_due(every: int) -> bool:
            return step > 0 and (step % every == 0 or step >= train.steps)

        reported = resumes and step >= train.steps and distributed.gather(is_reported(workdir))[0]
        if reported:
            logging.info("all %d steps have been made; their report:", step)
        elif resumes and is_due(train.eval_every) and not checkpoints.has_psnr(manager, step):
            validate()  # a signal had cut it short
        unlogged: list[steps.Metrics] = []
        running: deque[steps.Metrics] = deque()
        since, counted, waited = time.monotonic(), step, 0.0
        told = False

        def is_stopping() -> bool:
            # A process alone stops after the step at hand; several together, once a step has told them all.
            return bool(signals) if is_alone else told

        while step < train.steps and not is_stopping():
            asked = time.monotonic()
            batch = steps.shard(next(batches))
            waited += time.monotonic() - asked
            state, metrics = train_step(state, batch, bool(signals))
            step += 1
            unlogged.append(metrics)
            running.append(metrics)
            bar.update()
            if profile and is_lead:
                trace(step, metrics)
            if len(running) > _IN_FLIGHT:
                oldest = running.popleft()
                _check_finite(oldest, train.max_skipped, step - _IN_FLIGHT, workdir)
                told = bool(oldest["stop"])
            if step == first_step + 1 and step % train.log_every:
                jax.block_until_ready(metrics)
                since, counted, waited = time.monotonic(), step, 0.0  # img/s without the compilation

            if is_due(train.log_every):
                values = jax.device_get(unlogged)
                elapsed = time.monotonic() - since
                good = [value for value in values if value["skipped_in_row"] == 0] or values
                means = good[0].keys() - {"skipped_in_row", "stop"}
                scalars = {
                    **{name: np.mean([value[name] for value in good], dtype=float) for name in sorted(means)},
                    "learning_rate": schedule(step - 1 - int(state.skipped)),
                    "skipped": int(state.skipped),
                    "images_per_second": (step - counted) * data.batch_size / elapsed,
                    "input_wait": waited / elapsed,
                }
                if is_lead:
                    write_board(board, step, {f"train/{name}": value for name, value in scalars.items()})
                shown = f"loss {scalars['loss']:.4g}, {scalars['images_per_second']:.0f} img/s"
                bar.set_postfix_str(shown, refresh=False)
                unlogged, since, counted, waited = [], time.monotonic(), step, 0.0

            psnr_rgb = validate() if is_due(train.eval_every) else None
            if psnr_rgb is not None or step % train.checkpoint_every == 0:
                checkpoints.save(manager, state, step, train_pairs.fingerprint, psnr_rgb)
            if is_due(train.eval_every):
                since, counted, waited = time.monotonic(), step, 0.0  # img/s is of training alone

        while running:
            _check_finite(running.popleft(), train.max_skipped, step - len(running), workdir)
        if step > first_step:
            checkpoints.save(manager, state, step, train_pairs.fingerprint)
        checkpoints.finish(manager)

    if is_stopping():
        number = signals[0] if signals else signal.SIGTERM  # which another process has got
        name = signal.Signals(number).name
        logging.info("stopped by %s at step %d; saved: the same command goes on from here", name, step)
        return 128 + number
    if not reported:
        write_report(workdir, examples, scale, train.shift)
    if is_lead:
        print_report(workdir, scale)
    return 0


def _check_finite(metrics: steps.Metrics, limit: int, step: int, workdir: Path) -> None:
    if int(metrics["skipped_in_row"]) > limit:
        best = f", from the best weights so far: --config.train.init_from={workdir}"
        raise DivergedError(
            f"loss or gradient was not finite in {limit + 1} steps in a row, up to step {step}; the "
            "checkpoints hold the weights from before; train in another --workdir with a lower "
            "--config.train.learning_rate or with --config.train.grad_clip=1"
            + (best if (workdir / WORKDIR_FILE).exists() else ""),
            step,
        )
