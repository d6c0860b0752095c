"""Errors that a user can mend: `main.py` and the tools print them without a traceback."""


class UserError(ValueError):
    """Something given from outside is wrong; the message says what, where, and what is right."""


class DatasetError(UserError):
    """A dataset that is unknown, missing or not of the form it should have."""


class ImageError(UserError):
    """A picture that cannot be read."""


class Interrupted(Exception):
    """A run that was asked to end and has saved where it stands.

    Attributes:
      code: The process's exit code, 143 after SIGTERM, 130 after Ctrl-C.
    """

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code
