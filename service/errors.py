"""TODO: service.errors."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

MAX_SHOWN_CHARACTERS = 80
"""Characters of a caller's text that a message or a place shows."""
UNPARSEABLE = 400
TOO_LARGE = 413
WRONG_FOR_THIS_MODEL = 422


class BadInput(ValueError):
    """A body that cannot be used.

    Attributes:
        status: 400 when it cannot be parsed, 413 when it is too much, 422 when it does not fit this model.
        where: the place in the body, such as instances[3][17], or None for the whole of it.
    """

    def __init__(
        self, detail: str, *, where: str | None = None, status: int = WRONG_FOR_THIS_MODEL
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.where = where


def describe_value(value: Any) -> str:
    """Name a JSON value for a message: its type, and itself where that is short."""
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, str):
        value = value[:MAX_SHOWN_CHARACTERS]  # as JSON it may be six times as long
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:40] + " ..."


def first_duplicate(names: Iterable[str]) -> str | None:
    """Return the first name that stands twice; looked for pair by pair, a body full of names takes hours."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def shorten(text: str) -> str:
    """Return a caller's text for a message or a place, where it may be as long as the body."""
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[:MAX_SHOWN_CHARACTERS] + " ..."


class Refused(Exception):
    """A request that is not answered, for a reason that is not in its payload.

    Attributes:
        status: of the reply.
        reason: one word for the metrics.
        headers: of the reply, beside the usual.
    """

    def __init__(
        self, status: int, detail: str, *, reason: str, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(detail)
        self.status, self.reason, self.headers = status, reason, headers
