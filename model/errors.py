"""TODO: model.errors."""


class DataError(ValueError):
    """What a person gave cannot be used; the message is the one line they should read."""


def first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


class Diverged(DataError):
    """The loss is not a number any more."""
