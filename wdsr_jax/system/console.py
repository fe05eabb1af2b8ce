"""What the commands have in common: log lines for people, progress, one line on a mistake, exit codes."""

import argparse
import logging
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, Self

from absl import logging as absl_logging
from tqdm import tqdm

import wdsr_jax
from wdsr_jax.errors import UserError
from wdsr_jax.system.devices import refused_platforms
from wdsr_jax.system.text import printable

_LONG_NUMBER = re.compile(r"(\d{20})\d{20,}")  # is shortened in messages
_PACKAGE = str(Path(__file__).parents[1]) + os.sep


class ArgumentParser(argparse.ArgumentParser):
    """Has `--version`; a mistake in the arguments is a `UserError`, one line, as all mistakes are."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.add_argument("--version", action="version", version=f"wdsr_jax {wdsr_jax.__version__}")

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """As argparse does; what looks like an option but is a file is said to be one."""
        namespace, unknown = self.parse_known_args(*args, **kwargs)
        for name in filter(os.path.lexists, unknown):
            self.error(f"{name}: no option has that name; if the file is meant, type ./{name}")
        if unknown:
            self.error("unrecognized arguments: " + " ".join(unknown))
        return namespace

    def error(self, message: str) -> NoReturn:
        """Raises UserError."""
        raise UserError(f"{message}; --help says more")


LARGEST_SEED = 2**63 - 1
DEFAULT_TEMPERATURE = 0.8  # of samples


def temperature(text: str) -> float:
    """A parser of the temperature that samples are drawn at, for argparse; it raises ArgumentTypeError."""
    value = float(text)
    if not 0 <= value <= 10:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 10")
    return value


def number_from(least: int, most: int) -> Callable[[str], int]:
    """A parser of whole numbers from `least` to `most`, for argparse; it raises ArgumentTypeError."""

    def parse(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}, not {text}")
        return value

    parse.__name__ = "int"  # as argparse names the type in its own messages
    return parse


def _expand_home(argument: str) -> str:
    """An argument with `~` as the home directory also where shells leave it alone: in `--out=~/big`."""
    option, equals, value = argument.partition("=") if argument.startswith("-") else ("", "", argument)
    return option + equals + (os.path.expanduser(value) if value.startswith("~") else value)


class Progress:
    """How far some work is: a bar where stderr is a terminal, else a line in the log now and then.

    The first line comes after 10 seconds, the next ones after 10 seconds to a minute, the more seldom the
    longer the work takes. Both say what is done, the rate and the time left. For a `with` statement.

    Attributes:
        total: how much there is to do.
        done: how much is done.
        name: of the work.
        note: is shown behind all, such as a loss.
    """

    def __init__(
        self,
        total: float | None,
        unit: str,
        name: str = "",
        *,
        digits: int = 0,
        initial: float = 0,
        keep: bool = False,
    ):
        """Starts the clock.

        Args:
            total: how much there is to do; None where that is not known, 0 to show nothing.
            unit: what is counted, in the plural.
            name: of the work, such as a file.
            digits: of numbers after the point.
            initial: how much was done before.
            keep: whether the end stays on the terminal and in the log, however short the work was.
        """
        self.total, self.done, self.name, self.note = total, initial, printable(name), ""
        self._unit, self._digits, self._initial, self._keep = unit, digits, initial, keep
        self._start = self._last = time.monotonic()
        self._bar = None
        if sys.stderr.isatty() and total != 0:
            form = f"{{desc}}{{percentage:3.0f}}%|{{bar}}| {{n:.{digits}f}}/{{total:.{digits}f}} {unit} "
            form += "[{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
            self._bar = tqdm(
                total=total,
                initial=initial,
                desc=f"{self.name}: " if name else "",
                unit=" " + unit,
                leave=keep,
                bar_format=form if total else None,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._keep and self.total != 0:
            absl_logging.info("%s", self._line(time.monotonic() - self._start))

    def describe(self, name: str) -> None:
        """Names the work anew, such as by the file that is its turn."""
        self.name = printable(name)
        if self._bar is not None:
            self._bar.set_description(self.name)

    def update(self, count: float = 1) -> None:
        """Notes that so much more is done."""
        self.done += count
        if self._bar is not None:
            self._bar.set_postfix_str(self.note, refresh=False)
            self._bar.total = self.total and max(self.total, self._bar.n + count)  # which may be a guess
            self._bar.update(count)
            return
        now = time.monotonic()
        passed = now - self._start
        if self.total != 0 and now - self._last >= min(60, max(10, passed / 20)):
            self._last = now
            absl_logging.info("%s", self._line(passed))

    def _line(self, passed: float) -> str:
        """Such as `clip.mp4: 120 of 480 frames (25%), 4.0 frames/s, 1:30 left`, and the note."""
        done, rate = f"{self.done:.{self._digits}f}", (self.done - self._initial) / max(passed, 1e-9)
        note = ", " + self.note if self.note else ""
        start = f"{self.name}: " if self.name else ""
        if not self.total:
            return f"{start}{done} {self._unit}, {rate:.3g} {self._unit}/s{note}"
        total = max(self.total, self.done)
        left = tqdm.format_interval((total - self.done) / rate) if rate else "?"
        of = f"{total:.{self._digits}f} {self._unit} ({100 * self.done / total:.0f}%)"
        return f"{start}{done} of {of}, {rate:.3g} {self._unit}/s, {left} left{note}"


class _Lines(logging.Handler):
    """Writes log records as plain lines on stderr, above a progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        message = printable(record.getMessage())
        if record.levelno >= logging.WARNING:
            message = f"{record.levelname.lower()}: {message}"
        tqdm.write(message, file=sys.stderr)


def _concerns_users(record: logging.LogRecord) -> bool:
    # Orbax, Grain and tensorflow-datasets log each of their steps, some as warnings. JAX warns of what users
    # can mend, such as a GPU that it cannot use.
    least = logging.WARNING if record.name.startswith("jax") else logging.ERROR
    return record.pathname.startswith(_PACKAGE) or record.levelno >= least


def exit_on_signals() -> None:
    """Ends the command on SIGTERM and SIGHUP (a terminal that is closed) as an exit does: temporary files go.

    A SIGHUP that was ignored before, as by nohup, stays ignored.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: sys.exit(128 + number))


def set_up_logging() -> None:
    """Shows this package's log lines, JAX's warnings and other packages' errors on stderr."""
    handler = _Lines()
    handler.addFilter(_concerns_users)
    for logger in (logging.getLogger(), absl_logging.get_absl_logger()):
        logger.handlers = [handler]
    absl_logging.get_absl_logger().propagate = False
    absl_logging.set_verbosity(absl_logging.INFO)


def run_command(main: Callable[[], int | None]) -> None:
    """Runs `main` and exits with its code, None being 0.

    A `UserError` becomes one line on stderr and exit code 1, an interrupt 130. A reader that closes the pipe
    early, such as `head`, ends the command in silence with 141, as SIGPIPE does in a shell. It is a mistake
    to name devices in JAX_PLATFORMS that are not there. Other exceptions pass, with their traceback.

    Args:
        main: the command; its result is the exit code.
    """
    try:
        set_up_logging()
        sys.argv[1:] = map(_expand_home, sys.argv[1:])
        code = main() or 0
        sys.stdout.flush()  # at exit Python would report a closed pipe by a traceback
    except UserError as error:
        _report(error)
        code = 1
    except (KeyboardInterrupt, SystemExit) as stop:  # SystemExit: how SIGTERM is handled, and --help
        code = 130 if isinstance(stop, KeyboardInterrupt) else stop.code
        if not isinstance(code, int) or code < 128:
            raise
        if code == 130:
            print("interrupted", file=sys.stderr)
        sys.stderr.flush()
        os._exit(code)  # a usual exit may wait a minute for what a device computes
    except BrokenPipeError:
        # What is written at exit goes nowhere, and raises nothing.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        code = 141
    except Exception:
        refused = refused_platforms()
        if refused is None:
            _leave_others(traceback.format_exc())
            raise
        _report(refused)
        code = 1
    sys.exit(code)


def _report(error: UserError) -> None:
    message = _LONG_NUMBER.sub(r"\1...", " ".join(str(error).splitlines()))
    print("error:", printable(message), file=sys.stderr)
    _leave_others()


def _leave_others(message: str = "") -> None:
    """Exits at once where other processes wait for this one: at a usual exit JAX would wait for them."""
    jax = sys.modules.get("jax")  # not imported for this: a command may end before it needs JAX
    if jax is not None and jax.distributed.is_initialized():
        print(message, end="", file=sys.stderr, flush=True)
        os._exit(1)
