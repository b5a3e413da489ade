"""service.protocols.messages: negotiation of a media type, and bodies that may be truncated."""

import pytest

from service.protocols.messages import BYTES, CSV, JSON, Request, complete_body, negotiate
from tests.service.protocols.refusal import refusal

OFFERED = (JSON, CSV, BYTES)


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
    """RFC 9110 ranks the offered types; the first of equals wins."""
    assert expected == negotiate(accept, OFFERED)


@pytest.mark.parametrize("accept", ["text/html", "image/*", "application/json;q=0"])
def test_no_acceptable_type(accept: str) -> None:
    """The error lists the offered types."""
    detail = f"Accept: expected one of {', '.join(OFFERED)}, found {accept}"
    assert (406, None, detail) == refusal(negotiate, accept, OFFERED)


def test_body_without_length_may_be_truncated() -> None:
    """Only an empty body needs no proof of its end."""
    assert b"1,2" == complete_body(Request(b"1,2"))
    assert b"" == complete_body(Request(b"", is_complete=False))
    status, _, detail = refusal(complete_body, Request(b"1,2", is_complete=False))
    assert (411, "expected Content-Length") == (status, detail[:23])
