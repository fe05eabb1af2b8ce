"""A run at work: what it has open, when what is due, and what it writes.

Of several processes each has a `Run`; the lead's writes, the others' do the same steps and write nothing.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from wdsr_jax.evaluation.benchmark import evaluate
from wdsr_jax.system import distributed
from wdsr_jax.system.console import Progress
from wdsr_jax.training import checkpoints
from wdsr_jax.training.event_files import open_event_file
from wdsr_jax.training.meters import Meter, check_finite
from wdsr_jax.training.profile import trace_steps
from wdsr_jax.training.report import detail, is_reported, print_report, write_report
from wdsr_jax.training.setup import RunData, Task
from wdsr_jax.training.signals import Stopped, catch_signals, until_signal
from wdsr_jax.training.stacks import stack_for_backend, unstack_blocks
from wdsr_jax.training.step import Metrics, TrainState, replicate
from wdsr_jax.training.workdir import start_workdir
from wdsr_jax.weights.files import BEFORE_GAN_FILE, WORKDIR_FILE
from wdsr_jax.weights.store import recorded_psnr, save_weights

T = TypeVar("T")


@contextmanager
def open_run(
    config: ConfigDict, workdir: Path, task: Task, data: RunData, *, profile: bool = False
) -> Iterator["Run"]:
    """Opens the folder of a run, and closes in any event what the run has open: threads, processes, files.

    Args:
        config: of the run, checked.
        workdir: its folder, checked.
        task: of the config.
        data: of the config.
        profile: whether to trace some steps.

    Raises:
        UserError: the folder cannot be made, or another run has it.
    """
    with ExitStack() as stack:
        stack.enter_context(start_workdir(workdir, config.to_dict()))
        manager = stack.enter_context(checkpoints.open_checkpoints(workdir, config.train.keep_checkpoints))
        yield Run(config, workdir, task, data, manager, stack, profile)


class Run:
    """A run between its first step and its last one.

    Begins by `restore` or `start`, which give the state to go on from.

    Attributes:
        meter: counts its steps.
    """

    meter: Meter

    def __init__(
        self,
        config: ConfigDict,
        workdir: Path,
        task: Task,
        data: RunData,
        manager: Any,
        stack: ExitStack,
        profile: bool,
    ):
        self._config, self._workdir, self._task, self._data = config, workdir, task, data
        self._manager, self._stack, self._profile = manager, stack, profile
        self._is_lead, self._is_alone = distributed.is_lead(), jax.process_count() == 1
        self._best = -np.inf
        self._is_reported = self._has_been_told = False

    # How it begins.

    def start(self, state: TrainState) -> TrainState:
        """Begins with the state given, which is put on all devices."""
        if self._task.keeps_start and self._is_lead:
            params = _on_host(state.params)
            save_weights(self._workdir / BEFORE_GAN_FILE, self._config.model.to_dict(), params)
        return self._begin(state)

    def restore(self) -> TrainState:
        """Begins with the newest whole checkpoint, on all devices.

        Raises:
            UserError: not one checkpoint can be read.
        """
        shapes = jax.eval_shape(unstack_blocks, self._task.shapes)
        state, trained_on = checkpoints.restore_newest(self._manager, shapes)
        self._best = recorded_psnr(self._workdir / WORKDIR_FILE)
        logging.info("resuming at step %d of %d", state.step, self._config.train.steps)
        if trained_on != self._data.train.fingerprint:
            logging.warning("the training images have changed since this run was stopped")
        if int(state.step) >= self._config.train.steps:
            self._is_reported = distributed.gather(is_reported(self._workdir))[0]
        if self._is_reported:
            logging.info("all %d steps have been made; their report:", state.step)
        return self._begin(stack_for_backend(state))

    def _begin(self, state: TrainState) -> TrainState:
        step, steps = int(state.step), self._config.train.steps
        self.meter = Meter(step, self._config.data.batch_size)
        self._write = self.enter(open_event_file(self._workdir, step + 1, silent=not self._is_lead))
        self._bar = self.enter(
            Progress(
                steps if self._is_lead and step < steps else 0, "steps", "training", initial=step, keep=True
            )
        )
        self._signals = self.enter(catch_signals())
        is_traced = self._profile and self._is_lead
        self._trace: Callable[[int, Any], None] | None = (
            self.enter(trace_steps(self._workdir / "profile", step)) if is_traced else None
        )
        return replicate(state)

    def enter(self, context: AbstractContextManager[T]) -> T:
        """Enters a context that ends with the run."""
        return self._stack.enter_context(context)

    # What the loop asks.

    @property
    def step(self) -> int:
        """Steps made."""
        return self.meter.step

    @property
    def is_signalled(self) -> bool:
        """Whether this process has got a signal to stop."""
        return bool(self._signals)

    @property
    def is_stopping(self) -> bool:
        """Whether the step at hand was the last one.

        A process alone stops after the step at hand; several together, once a step has told them all.
        """
        return self.is_signalled if self._is_alone else self._has_been_told

    def is_due(self, every: int) -> bool:
        """Whether what is done each `every` steps, and after the last one, is to be done now."""
        return self.step > 0 and (self.step % every == 0 or self.step >= self._config.train.steps)

    def lacks_validation(self) -> bool:
        """Whether the validation of this step, which is due, has not been made: a signal came first."""
        if self._is_reported or not self.is_due(self._config.train.eval_every):
            return False
        return not checkpoints.has_psnr(self._manager, self.step)

    # What the loop does.

    def advance(self, metrics: Metrics) -> None:
        """Counts a step that has been dispatched.

        Raises:
            DivergedError: more steps in a row than `max_skipped` were not finite.
        """
        self.meter.advance(metrics)
        self._bar.update()
        if self._trace:
            self._trace(self.step, metrics)
        self._check(self.meter.landed())
        if self.step == self.meter.first_step + 1 and self.step % self._config.train.log_every:
            jax.block_until_ready(metrics)
            self.meter.restart()  # images a second without the compilation

    def log(self, state: TrainState) -> None:
        """Writes the means of the metrics since the last call to the event file and beside the bar."""
        skipped = int(state.skipped)
        scalars = self.meter.summarise() | {
            "learning_rate": float(self._task.schedule(self.step - 1 - skipped)),
            "skipped": skipped,
        }
        self._write(self.step, {f"train/{name}": value for name, value in scalars.items()})
        self._bar.note = f"loss {scalars['loss']:.4g}, {scalars['images_per_second']:.0f} img/s"

    def validate(self, state: TrainState) -> float | None:
        """Measures the averaged weights on the validation images, and keeps them if they are the best.

        Returns:
            PSNR by protocol `ntire`, in dB; None if a signal came first.
        """
        params = _on_host(state.params if state.ema_params is None else state.ema_params)
        scale, shift = self._config.model.scale, self._config.train.shift_window
        # Of several processes all or none would have to give up.
        images = until_signal(self._data.val, self._signals) if self._is_alone else self._data.val
        try:
            result = evaluate(
                images, scale, self._task.module, params, bicubic=False, shift=shift, label="validation"
            )
        except Stopped:
            return None
        scores = result["model"]
        psnr = scores["psnr_shift" if shift else "psnr_rgb"] or 0.0  # none where all images are tiny
        note = self._keep(params, psnr)
        logging.info("step %d: validation PSNR %.2f dB%s", self.step, psnr, note)
        scalars = {f"val/{name}": value for name, value in scores.items() if value is not None}
        first = self._data.val[0]
        pictures = {f"val/{first.name}": detail(first, self._task.module, params)} if self._is_lead else {}
        self._write(self.step, scalars, pictures)
        return psnr

    def _keep(self, params: Any, psnr: float) -> str:
        """Writes the weights if they are to be kept; what to log about it."""
        if self._task.keeps_best and not psnr >= self._best:
            return ""
        self._best = psnr
        if self._is_lead:
            save_weights(self._workdir / WORKDIR_FILE, self._config.model.to_dict(), params, psnr)
        return ", the best so far" if self._task.keeps_best else ""

    def save(self, state: TrainState, psnr: float | None = None) -> None:
        """Starts to save a checkpoint; `psnr` is that of `validate` at this step, if it was measured.

        Raises:
            UserError: the one before it could not be written.
        """
        checkpoints.save(self._manager, _on_host(state), self.step, self._data.train.fingerprint, psnr)
        if psnr is not None:
            self.meter.restart()  # images a second are those of training alone

    # How it ends.

    def finish(self, state: TrainState) -> None:
        """Waits for the steps in flight and saves the last of them.

        Raises:
            DivergedError: as `advance`.
            UserError: the checkpoint could not be written.
        """
        self._check(self.meter.landed(leave=0))
        if self.step > self.meter.first_step:
            self.save(state)
        checkpoints.finish(self._manager)

    def _check(self, landed: Iterator[tuple[int, Metrics]]) -> None:
        for step, metrics in landed:
            check_finite(metrics, self._config.train.max_skipped, step, self._workdir)
            self._has_been_told = bool(metrics["stop"])

    def stop(self) -> int:
        """Logs what stopped the run; its exit code."""
        number = self._signals[0] if self._signals else signal.SIGTERM  # which another process has got
        name = signal.Signals(number).name
        logging.info("stopped by %s at step %d; saved: the same command goes on from here", name, self.step)
        return 128 + number

    def report(self) -> int:
        """Writes the report, unless it is there, and prints it; the exit code, 0."""
        scale, shift = self._config.model.scale, self._config.train.shift_window
        if not self._is_reported:
            write_report(self._workdir, self._data.val, self._task.module, shift)
        if self._is_lead:
            print_report(self._workdir, scale)
        return 0


def _on_host(tree: Any) -> Any:
    """Parameters, or a state, as files and other commands have them: host arrays, with blocks apart."""
    return unstack_blocks(jax.device_get(tree))
