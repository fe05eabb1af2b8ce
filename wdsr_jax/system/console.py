"""What the commands have in common: log lines for people, one line for a mistake, and exit codes."""

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from absl import logging as absl_logging
from tqdm import tqdm

import wdsr_jax
from wdsr_jax.errors import UserError

_PACKAGE = str(Path(__file__).parents[1]) + os.sep


class ArgumentParser(argparse.ArgumentParser):
    """Has `--version`; a mistake in the arguments is a `UserError`, one line, as all mistakes are."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.add_argument("--version", action="version", version=f"wdsr_jax {wdsr_jax.__version__}")

    def error(self, message: str) -> NoReturn:
        """Raises UserError."""
        raise UserError(f"{message}; --help says more")


class _Lines(logging.Handler):
    """Writes log records as plain lines on stderr, above a progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno >= logging.WARNING:
            message = f"{record.levelname.lower()}: {message}"
        tqdm.write(message, file=sys.stderr)


def _concerns_users(record: logging.LogRecord) -> bool:
    # Orbax, Grain and tensorflow-datasets log each of their steps, some as warnings. JAX warns of what users
    # can mend, such as a GPU that it cannot use.
    least = logging.WARNING if record.name.startswith("jax") else logging.ERROR
    return record.pathname.startswith(_PACKAGE) or record.levelno >= least


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
    early, such as `head`, ends the command in silence with 141, as SIGPIPE does in a shell. Other exceptions
    pass, with their traceback.

    Args:
        main: the command; its result is the exit code.
    """
    try:
        set_up_logging()
        code = main() or 0
        sys.stdout.flush()  # at exit Python would report a closed pipe by a traceback
    except UserError as error:
        print("error:", *str(error).splitlines(), file=sys.stderr)
        _leave_others()
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
        _leave_others(traceback.format_exc())
        raise
    sys.exit(code)


def _leave_others(message: str = "") -> None:
    """Exits at once where other processes wait for this one: at a usual exit JAX would wait for them."""
    jax = sys.modules.get("jax")  # not imported for this: a command may end before it needs JAX
    if jax is not None and jax.distributed.is_initialized():
        print(message, end="", file=sys.stderr, flush=True)
        os._exit(1)
