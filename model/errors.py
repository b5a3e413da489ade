"""Errors of training whose message tells the user what to correct."""


class DataError(ValueError):
    """Data or settings that cannot be used; the message is one line."""


class Diverged(DataError):
    """A loss that became infinite or NaN."""
