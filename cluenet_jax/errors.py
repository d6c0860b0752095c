"""Errors that a user can mend: `main.py` and the tools print them without a traceback."""


class UserError(ValueError):
    """Something given from outside is wrong; the message says what, where, and what is right."""


class DatasetError(UserError):
    """A dataset that is unknown, missing or not of the form it should have."""


class ImageError(UserError):
    """A picture that cannot be read."""
