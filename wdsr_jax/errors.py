"""Mistakes of the user, and how every command reports them."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake the user can mend: the message is one line that says what, where and what to do."""


def run_command(main: Callable[[], int | None]) -> None:
    """Runs `main` and exits with its code; a `UserError` becomes one line on stderr and exit code 1."""
    try:
        code = main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    sys.exit(code or 0)
