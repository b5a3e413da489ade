"""Errors of training, whose messages tell the user what to correct."""


class DataError(ValueError):
    """Data or settings that cannot be used; the message is one line."""


class SettingError(DataError):
    """A setting of the fit that cannot be used.

    Attributes:
        name: name of the field of TrainConfig.
        problem: what is wrong, without the name.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name, self.problem = name, problem


class Diverged(DataError):
    """The loss became infinite or NaN."""
