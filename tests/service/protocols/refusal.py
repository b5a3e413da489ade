"""The assertion that a request is refused."""

from collections.abc import Callable

import pytest

from service.errors import BadInput, Refused

Refusal = tuple[int, str | None, str]


def refusal(function: Callable[..., object], *arguments: object) -> Refusal:
    """Return status, place and message of the BadInput or Refused that a call raises."""
    with pytest.raises((BadInput, Refused)) as caught:
        function(*arguments)
    error = caught.value
    assert isinstance(error, BadInput | Refused)
    return error.status, error.where if isinstance(error, BadInput) else None, str(error)
