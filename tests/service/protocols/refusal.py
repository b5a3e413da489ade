"""The assertion that a request is refused."""

from collections.abc import Callable

import pytest

from service.errors import BadInput

Refusal = tuple[int, str | None, str]


def refusal(function: Callable[..., object], *arguments: object) -> Refusal:
    """Return status, place and message of the BadInput that a call raises."""
    with pytest.raises(BadInput) as caught:
        function(*arguments)
    return caught.value.status, caught.value.where, str(caught.value)
