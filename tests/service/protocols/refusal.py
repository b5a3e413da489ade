"""An assertion that a call refuses a request."""

from collections.abc import Callable

import pytest

from service.errors import BadInput, Refused

Refusal = tuple[int, str | None, str]
"""HTTP status, location in the body or None, and message."""


def refusal(function: Callable[..., object], *arguments: object) -> Refusal:
    """Return status, location and message of the BadInput or Refused that a call raises."""
    with pytest.raises((BadInput, Refused)) as exception:
        function(*arguments)
    error = exception.value
    assert isinstance(error, BadInput | Refused)
    return error.status, error.where if isinstance(error, BadInput) else None, str(error)
