"""UserError, the error that is shown to the user as its message alone, without a traceback."""


class UserError(ValueError):
    """An error in the user's data, configuration or files; the message says what, where, and what to do."""
