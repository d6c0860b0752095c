"""Errors that a user can fix: `main.py` and the tools print them without a traceback."""


class UserError(ValueError):
    """An input from outside is wrong; the message says what, where, and what would be right."""


class DatasetError(UserError):
    """A dataset that is unknown, missing or not of the form it should have."""


class ImageError(UserError):
    """An image that cannot be read."""


class Interrupted(Exception):
    """A run that was asked to end and has saved its state.

    Attributes:
      code: The process's exit code, 143 after SIGTERM, 130 after Ctrl-C.
    """

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code
