"""Tests of service.protocols.messages: content negotiation and incomplete bodies."""

import pytest

from service.protocols.messages import BYTES, CSV, JSON, Request, complete_body, negotiate
from tests.service.protocols.refusal import refusal

MEDIA_TYPES = (JSON, CSV, BYTES)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", JSON),
        ("text/csv", CSV),
        ("text/*", CSV),
        ("application/json;q=0.5, text/csv;q=0.9", CSV),
        ("text/html, application/octet-stream", BYTES),
        ("application/json;q=0, */*", CSV),
        ("TEXT/CSV", CSV),
    ],
)
def test_negotiation(accept: str, expected: str) -> None:
    """The offered types are ranked as in RFC 9110; of equally ranked types, the first is chosen."""
    assert expected == negotiate(accept, MEDIA_TYPES)


@pytest.mark.parametrize("accept", ["text/html", "image/*", "application/json;q=0"])
def test_no_acceptable_type(accept: str) -> None:
    """The error lists the offered types."""
    detail = f"Accept: expected one of {', '.join(MEDIA_TYPES)}, found {accept}"
    assert (406, None, detail) == refusal(negotiate, accept, MEDIA_TYPES)


def test_body_without_length_may_be_truncated() -> None:
    """An incomplete body is refused with status 411, unless it is empty."""
    assert b"1,2" == complete_body(Request(b"1,2"))
    assert b"" == complete_body(Request(b"", is_complete=False))
    status, _, detail = refusal(complete_body, Request(b"1,2", is_complete=False))
    assert (411, "expected Content-Length") == (status, detail[:23])
