"""What the commands have in common: log lines for people, and exit codes."""

import logging
import sys
from collections.abc import Callable

from absl import logging as absl_logging
from tqdm import tqdm

from wdsr_jax.errors import UserError


class _Lines(logging.Handler):
    """Writes log records as plain lines on stderr, above a progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno >= logging.WARNING:
            message = f"{record.levelname.lower()}: {message}"
        tqdm.write(message, file=sys.stderr)


def _concerns_users(record: logging.LogRecord) -> bool:
    # Orbax, Grain and tensorflow-datasets narrate what they do through absl, warnings included.
    return "wdsr_jax" in record.pathname or record.levelno >= logging.ERROR


def set_up_logging(level: int = logging.INFO) -> None:
    """Shows this package's log lines and other packages' errors on stderr."""
    handler = _Lines()
    handler.addFilter(_concerns_users)
    logger = absl_logging.get_absl_logger()
    logger.handlers = [handler]
    logger.propagate = False
    absl_logging.set_verbosity(absl_logging.INFO if level <= logging.INFO else absl_logging.WARNING)


def run_command(main: Callable[[], int | None]) -> None:
    """Runs `main` and exits with its code; a `UserError` becomes one line on stderr and exit code 1."""
    try:
        set_up_logging()
        code = main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code or 0)
