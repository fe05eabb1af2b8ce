"""The one exception that commands show as a single line, without a traceback."""


class UserError(Exception):
    """A mistake the user can mend: the message is one line that says what, where and what to do."""
