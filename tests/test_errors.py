"""The messages that users see."""

import ast
from pathlib import Path

import wdsr_jax
from wdsr_jax.errors import UserError

PACKAGE = Path(wdsr_jax.__file__).parent


def messages():
    """(file and line, the literal parts) of every `UserError(...)` in the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == UserError.__name__:
                parts = [part.value for part in ast.walk(call) if isinstance(part, ast.Constant)]
                yield f"{path.relative_to(PACKAGE)}:{call.lineno}", [p for p in parts if isinstance(p, str)]


def test_no_message_of_the_package_has_a_second_line():
    found = dict(messages())
    assert len(found) > 100
    assert [place for place, parts in found.items() if any("\n" in part for part in parts)] == []


def test_what_catches_errors_of_files_and_values_lets_it_through():
    """Where a damaged file is caught by its OSError or ValueError, a message for the user must not be."""
    assert UserError.__mro__ == (UserError, Exception, BaseException, object)
