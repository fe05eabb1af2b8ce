"""Mistakes of the user."""


class UserError(Exception):
    """A mistake the user can mend: the message is one line that says what, where and what to do."""
