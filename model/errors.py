"""Errors of training, whose messages tell the user what to correct."""


class DataError(ValueError):
    """Data or settings that cannot be used; the message is one line."""


class Diverged(DataError):
    """The loss became infinite or NaN."""
