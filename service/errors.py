"""The exceptions that reject a request, and functions that write their messages."""

import json
from collections import Counter
from collections.abc import Iterable

MAX_SHOWN_CHARACTERS = 80
"""Maximum number of characters of a client's text in a message or a location."""
MAX_VALUE_CHARACTERS = 40
"""Maximum number of characters of a client's JSON value in a message."""
UNPARSEABLE = 400
"""HTTP status for a body that cannot be parsed."""
TOO_LARGE = 413
"""HTTP status for a body with too many bytes or rows."""
WRONG_FOR_THIS_MODEL = 422
"""HTTP status for a body that can be parsed but does not fit the model."""


class BadInput(ValueError):
    """An invalid request body.

    Attributes:
        status: UNPARSEABLE, TOO_LARGE or WRONG_FOR_THIS_MODEL.
        where: location of the error, such as instances[3][17], or None for the whole body.
    """

    def __init__(
        self, detail: str, *, where: str | None = None, status: int = WRONG_FOR_THIS_MODEL
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.where = where


class NonFiniteToken(str):
    """NaN, Infinity or -Infinity in a JSON text, which JSON does not have."""

    __slots__ = ()


class Refused(Exception):
    """A request that is rejected for a reason outside its body.

    Attributes:
        status: HTTP status of the reply.
        reason: value of the label `reason` in the metrics.
        headers: additional headers of the reply.
    """

    def __init__(
        self, status: int, detail: str, *, reason: str, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(detail)
        self.status, self.reason, self.headers = status, reason, headers


def describe_value(value: object) -> str:
    """Return "a list" or "an object" for a container, and shortened JSON for any other value."""
    if isinstance(value, NonFiniteToken):
        return f"{value}; replace it with a number or leave out the row"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, str):
        value = value[:MAX_SHOWN_CHARACTERS]  # Encoding a very long string would take too long.
    return shorten(json.dumps(value, ensure_ascii=False), MAX_VALUE_CHARACTERS)


def shorten(text: str, limit: int = MAX_SHOWN_CHARACTERS) -> str:
    """Cut a text to `limit` characters, because a client's text can be very long."""
    return text if len(text) <= limit else text[:limit] + " ..."


def first_duplicate(names: Iterable[str]) -> str | None:
    """Return the first duplicate name, or None if there is none, in linear time."""
    return next((name for name, count in Counter(names).items() if count > 1), None)
