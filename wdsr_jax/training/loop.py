"""Training: set-up, the loop, and the report at its end, read from top to bottom."""

import os
from contextlib import closing
from pathlib import Path

import jax
import ml_collections

from wdsr_jax.data.pipeline import training_batches
from wdsr_jax.system import distributed
from wdsr_jax.training.checkpoints import saved_steps
from wdsr_jax.training.config import check_config
from wdsr_jax.training.run import open_run
from wdsr_jax.training.setup import batch_options, create_task, load_run_data
from wdsr_jax.training.step import shard
from wdsr_jax.training.workdir import check_workdir


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
    workdir, train = Path(workdir).expanduser(), config.train
    # The lead's view: other hosts may see what it has just written, or moved away, a moment later.
    resumes = distributed.gather(bool(saved_steps(workdir)))[0]
    check_workdir(workdir, config.to_dict(), resumes=resumes)
    data = load_run_data(config)
    task = create_task(config)
    state = None if resumes else task.init_state(train.init_from)  # a mistake in it must leave nothing behind

    with open_run(config, workdir, task, data, profile=profile) as run:
        # Resuming: the newest whole checkpoint gives state and step; the batches from that step on follow,
        # and the validation that a signal has cut short.
        state = run.restore() if state is None else run.start(state)
        batches = run.enter(closing(training_batches(data.train, start=run.step, **batch_options(config))))
        if resumes and run.lacks_validation():
            run.validate(state)
        while run.step < train.steps and not run.is_stopping:
            with jax.profiler.StepTraceAnnotation("train", step_num=run.step):
                batch = shard(run.meter.next(batches))
                state, metrics = task.train_step(state, batch, run.is_signalled)
                run.advance(metrics)
            if run.is_due(train.log_every):
                run.log(state)
            psnr = run.validate(state) if run.is_due(train.eval_every) else None
            if psnr is not None or run.is_due(train.checkpoint_every):
                run.save(state, psnr)
        run.finish(state)
    return run.stop() if run.is_stopping else run.report()
