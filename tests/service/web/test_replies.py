"""Tests of service.web.replies: request IDs, trace IDs, and the members of an error."""

import json
import re
from http import HTTPStatus

import pytest

from service.protocols.messages import JSON, PROBLEM
from service.web import replies


def test_request_ids() -> None:
    """The ID of a client is used if it is safe to log; otherwise the ID is 128 random bits."""
    assert "a.b-C_1" == replies.request_id({"HTTP_X_REQUEST_ID": "a.b-C_1"})
    unsafe = ("", "a b", "a\nb", "x" * 129, "é")
    ids = {replies.request_id({"HTTP_X_REQUEST_ID": header}) for header in unsafe * 100}
    assert 500 == len(ids)
    assert all(re.fullmatch(r"[0-9a-f]{32}", value) for value in ids)


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("environ", "trace"),
    [
        ({}, None),
        ({"HTTP_TRACEPARENT": f"00-{TRACE}-00f067aa0ba902b7-01"}, TRACE),
        ({"HTTP_TRACEPARENT": f"00-{'0' * 32}-00f067aa0ba902b7-01"}, None),
        ({"HTTP_TRACEPARENT": f"00-{TRACE}-{'0' * 16}-01"}, None),
        ({"HTTP_TRACEPARENT": f"00-{TRACE.upper()}-00f067aa0ba902b7-01"}, None),
    ],
)
def test_trace_ids(environ: dict[str, str], trace: str | None) -> None:
    """A trace ID is read only from a traceparent header that is valid under W3C Trace Context."""
    assert trace == replies.trace_id(environ)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [("", JSON), (f"{PROBLEM}, */*", PROBLEM), (f"*/*, {PROBLEM}", JSON)],
)
def test_problem(accept: str, content_type: str) -> None:
    """An error has the members of RFC 9457; the first type in Accept selects its media type."""
    reply = replies.problem_reply(
        422, "expected 4 values", request_id="r", where="instances[0]", accept=accept
    )
    text = "instances[0]: expected 4 values"
    assert {
        "type": "about:blank",
        "title": HTTPStatus(422).phrase,
        "status": 422,
        "detail": text,
        "error": text,
        "request_id": "r",
        "where": "instances[0]",
    } == json.loads(reply.body)
    assert (422, content_type) == (reply.status, reply.content_type)
