"""Training: set-up, the loop, and the report at its end, read from top to bottom."""

import os
import signal
import time
from collections import deque
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import logging
from tensorboardX import SummaryWriter
from tqdm import tqdm

from wdsr_jax import checkpoints, evaluate, optim, pictures, steps
from wdsr_jax.data import load_data
from wdsr_jax.data.pipeline import training_batches
from wdsr_jax.errors import UserError
from wdsr_jax.images import write_image
from wdsr_jax.imresize import imresize
from wdsr_jax.inference import upscale
from wdsr_jax.losses import LOSSES
from wdsr_jax.metrics import psnr
from wdsr_jax.models import create_model
from wdsr_jax.weights import WORKDIR_FILE, load_pretrained, save_weights, start_from
from wdsr_jax.workdir import open_workdir

_IN_FLIGHT = 2  # steps that wait on the device, so that it never waits for the host


def train_and_evaluate(config: ml_collections.ConfigDict, workdir: str | os.PathLike) -> int:
    """Trains the network of `config` in `workdir`, or goes on where an earlier run there stopped.

    Args:
        config: as in `configs/default.py`.
        workdir: gets the config, checkpoints, TensorBoard files, the best weights, and at the end
            `evaluation.json` and `before_after.png`.

    Returns:
        0; or 128 + the number of the signal that stopped it, after saving.

    Raises:
        UserError: a mistake in config, data or workdir, or loss that stays non-finite.
    """
    check_config(config)
    workdir = open_workdir(workdir, config.to_dict())
    train, data, scale = config.train, config.data, config.model.scale
    is_lead = jax.process_index() == 0

    train_pairs, val_pairs = load_data(
        data.source,
        scale=scale,
        root=data.root,
        val_root=data.val_root,
        track=data.track,
        cache_dir=data.cache_dir,
        patch_size=data.patch_size,
    )
    logging.info("%d training images, %d for validation", len(train_pairs), len(val_pairs))
    examples = evaluate.examples_of_pairs(val_pairs)

    module = create_model(config.model)
    schedule = optim.learning_rate_schedule(
        train.schedule,
        learning_rate=train.learning_rate,
        steps=train.steps,
        warmup_steps=train.warmup_steps,
        boundaries=train.lr_boundaries,
        decay=train.lr_decay,
    )
    optimizer = optim.create_optimizer(schedule, train.grad_clip)
    params = steps.init_params(module, train.seed)
    if train.init_from:
        params = start_from(params, train.init_from)
    logging.info("%s parameters", f"{sum(x.size for x in jax.tree.leaves(params)):,}")
    state = steps.create_state(params, optimizer, ema=train.ema_decay > 0)

    # Resuming: the newest whole checkpoint gives state and step; the batches from that step on follow.
    manager = checkpoints.open_checkpoints(workdir, train.keep_checkpoints)
    restored = checkpoints.restore_newest(manager, state)
    best = checkpoints.best_psnr(manager)
    if restored is not None:
        state = restored
        logging.info("resuming at step %d of %d", state.step, train.steps)
    step = int(state.step)

    train_step = steps.parallel_train_step(
        module=module,
        optimizer=optimizer,
        loss=LOSSES[train.loss],
        seed=train.seed,
        ema_decay=train.ema_decay,
        micro_batches=steps.count_micro_batches(data.batch_size // jax.device_count()),
    )
    batches = training_batches(
        train_pairs,
        patch_size=data.patch_size,
        batch_size=data.batch_size,
        seed=train.seed,
        start=step,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        workers=data.workers,
    )
    writer = SummaryWriter(str(workdir), purge_step=step + 1, write_to_disk=is_lead)
    bar = tqdm(
        total=train.steps, initial=step, desc="training", unit="step", disable=not is_lead, smoothing=0.1
    )
    signals = _catch_signals()
    unlogged: list[steps.Metrics] = []
    running: deque[steps.Metrics] = deque()
    since, waited = time.monotonic(), 0.0

    while step < train.steps and not signals:
        asked = time.monotonic()
        batch = steps.shard(next(batches))
        waited += time.monotonic() - asked
        state, metrics = train_step(state, batch)
        step += 1
        unlogged.append(metrics)
        running.append(metrics)
        bar.update()
        if len(running) > _IN_FLIGHT:
            _check_finite(running.popleft(), step, train.max_skipped, manager)

        if step % train.log_every == 0 or step == train.steps:
            values = jax.device_get(unlogged)
            elapsed = time.monotonic() - since
            scalars = {
                "loss": np.mean([value["loss"] for value in values]),
                "grad_norm": np.mean([value["grad_norm"] for value in values]),
                "learning_rate": schedule(step - 1 - int(state.skipped)),
                "skipped": int(state.skipped),
                "images_per_second": len(values) * data.batch_size / elapsed,
                "input_wait": waited / elapsed,
            }
            for name, value in scalars.items():
                writer.add_scalar(f"train/{name}", float(value), step)
            bar.set_postfix_str(f"loss {scalars['loss']:.4f}, {scalars['images_per_second']:.0f} img/s")
            unlogged, since, waited = [], time.monotonic(), 0.0

        psnr_rgb = None
        if step % train.eval_every == 0 or step == train.steps:
            params = state.params if state.ema_params is None else state.ema_params
            scores = evaluate.evaluate(examples, scale, module, params, bicubic=False, label="validation")[
                "model"
            ]
            psnr_rgb = scores["psnr_rgb"] or 0.0
            for name, value in scores.items():
                writer.add_scalar(f"val/{name}", value, step)
            _write_picture(writer, examples[0], module, params, step)
            note = ""
            if psnr_rgb > best and is_lead:
                best, note = psnr_rgb, ", the best so far"
                save_weights(workdir / WORKDIR_FILE, config.model.to_dict(), params)
            logging.info(
                "step %d: validation PSNR %.2f dB (Y %.2f)%s", step, psnr_rgb, scores["psnr_y"], note
            )
        if psnr_rgb is not None or step % train.checkpoint_every == 0:
            checkpoints.save(manager, state, step, psnr_rgb)
        if psnr_rgb is not None:
            since, waited = time.monotonic(), 0.0  # img/s is of training alone

    bar.close()
    while running:
        _check_finite(running.popleft(), step, train.max_skipped, manager)
    checkpoints.save(manager, state, step)
    checkpoints.finish(manager)
    manager.close()
    writer.close()
    if signals:
        name = signal.Signals(signals[0]).name
        logging.info("stopped by %s at step %d; saved: the same command goes on from here", name, step)
        return 128 + signals[0]
    if is_lead:
        _report(workdir, examples, scale)
    return 0


def check_config(config: ml_collections.ConfigDict) -> None:
    """Refuses values that cannot work.

    Raises:
        UserError: names the key and what it may be.
    """
    create_model(config.model)
    train, data = config.train, config.data
    for key, value, choices in (
        ("train.loss", train.loss, tuple(LOSSES)),
        ("train.schedule", train.schedule, optim.SCHEDULES),
    ):
        if value not in choices:
            raise UserError(f"config.{key} must be one of {', '.join(choices)}, not {value!r}")
    for section, keys in {
        "data": ("patch_size", "batch_size"),
        "train": (
            "steps",
            "learning_rate",
            "log_every",
            "eval_every",
            "checkpoint_every",
            "keep_checkpoints",
        ),
    }.items():
        for key in keys:
            if not config[section][key] > 0:
                raise UserError(f"config.{section}.{key} must be above 0, not {config[section][key]}")
    if not 0 <= train.ema_decay < 1:
        raise UserError(f"config.train.ema_decay must be in [0, 1), not {train.ema_decay}")
    if data.batch_size % jax.device_count():
        raise UserError(
            f"config.data.batch_size={data.batch_size} is not divisible by the {jax.device_count()} devices"
        )


def _catch_signals() -> list[int]:
    """A list that gets the first SIGTERM or SIGINT; the second of them interrupts at once."""
    received: list[int] = []

    def handle(number: int, _: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        logging.info("%s: finishing the step and saving", signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    return received


def _check_finite(metrics: steps.Metrics, step: int, limit: int, manager: Any) -> None:
    if int(metrics["skipped_in_row"]) > limit:
        checkpoints.finish(manager)
        raise UserError(
            f"loss or gradient was not finite for {limit + 1} steps in a row before step {step}; the last "
            "good checkpoint is kept; lower --config.train.learning_rate or set --config.train.grad_clip"
        )


def _write_picture(
    writer: SummaryWriter, example: evaluate.Example, module: Any, params: Any, step: int
) -> None:
    """Puts a detail of one validation image beside its HR on TensorBoard."""
    lr, hr = example.load()
    rows, columns = pictures.busiest_crop(hr, 48 * module.scale, module.scale)
    small = lr[*(slice(s.start // module.scale, s.stop // module.scale) for s in (rows, columns))]
    sr = upscale(module, params, small)
    picture = pictures.side_by_side([("WDSR", sr), ("HR", hr[rows, columns])], width=800)
    writer.add_image(f"val/{example.name}", picture, step, dataformats="HWC")


def _report(workdir: Path, examples: list[evaluate.Example], scale: int) -> None:
    """Evaluates the best weights beside bicubic: a table, `evaluation.json` and `before_after.png`."""
    module, params = load_pretrained(workdir)
    results = {"validation": evaluate.evaluate(examples, scale, module, params, label="final evaluation")}
    evaluate.write_json(workdir / "evaluation.json", results)
    print(evaluate.markdown_table(results, scale))

    (_, lr, hr, sr) = next(evaluate.super_resolve(module, params, examples[:1]))
    rows, columns = pictures.busiest_crop(hr, 96 * scale, scale)
    panels = []
    for name, image in {
        f"LR x{scale}, nearest": pictures.nearest(lr, scale),
        "bicubic": imresize(lr, scale),
        "WDSR": sr,
    }.items():
        panels.append((f"{name}\n{psnr(image, hr, scale=scale):.2f} dB", image[rows, columns]))
    panels.append((f"HR\n{examples[0].name}", hr[rows, columns]))
    write_image(workdir / "before_after.png", pictures.side_by_side(panels))
    print(
        f"\nBefore and after: {workdir / 'before_after.png'}\nScores by image:  {workdir / 'evaluation.json'}"
    )
    print(f"Best weights:     {workdir / WORKDIR_FILE}")
