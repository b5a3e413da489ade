"""service.wire: a body is read under caps or refused, whoever sends it; ids and traces are taken or replaced."""

import gzip
import io
import json
import re
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadInput, Refused
from service.protocols import messages
from service.web import body as bodies
from service.web import replies


def environ(body: bytes = b"", length: str | None = None, **headers: str) -> dict[str, Any]:
    """Return a WSGI host's description of a request; length is Content-Length, by default the true one."""
    stated = str(len(body)) if length is None else length
    return {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": stated, **headers}


def chunked(body: bytes) -> dict[str, Any]:
    """Return a request without a length, as a host describes one that ends by itself."""
    return {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True}


class Trickle(io.BytesIO):
    """A body that comes a byte at a time."""

    def read(self, size: int | None = -1) -> bytes:
        """Return one byte at most."""
        return super().read(min(1, size or 0))


@given(
    st.binary(max_size=300),
    st.sampled_from(["", "identity", "gzip", "deflate", "raw deflate"]),
    st.booleans(),
)
def test_every_body_is_read_whole(body: bytes, encoding: str, sized: bool) -> None:
    """Compressed or not, with a length or without: the same bytes."""
    raw = zlib.compressobj(wbits=-15)
    sent = {
        "gzip": gzip.compress(body),
        "deflate": zlib.compress(body),
        "raw deflate": raw.compress(body) + raw.flush(),
    }.get(encoding, body)
    request = environ(sent) if sized else chunked(sent)
    request["HTTP_CONTENT_ENCODING"] = encoding.removeprefix("raw ")
    assert body == bodies.read_request(request, 1000).body


def test_a_host_may_give_less_at_a_time() -> None:
    """The body is read until its length."""
    assert (
        b"abc"
        == bodies.read_request({"wsgi.input": Trickle(b"abcd"), "CONTENT_LENGTH": "3"}, 10).body
    )


def test_without_an_end_there_is_no_body() -> None:
    """Where neither a length nor the host says where a body ends, none is read."""
    assert b"" == bodies.read_request({"wsgi.input": io.BytesIO(b"GET / HTTP/1.1")}, 10).body


@pytest.mark.parametrize(
    "request_of",
    [environ, chunked, lambda body: environ(gzip.compress(body), HTTP_CONTENT_ENCODING="gzip")],
)
def test_the_cap_is_exact(request_of: Any) -> None:
    """As many bytes as are allowed are read; one more is 413 and names the limit, decompressed ones too."""
    assert 100 == len(bodies.read_request(request_of(b"x" * 100), 100).body)
    with pytest.raises(Refused, match="expected a body of at most 100 bytes, found more") as caught:
        bodies.read_request(request_of(b"x" * 101), 100)
    assert 413 == caught.value.status


def test_a_bomb_is_never_unpacked() -> None:
    """64 MiB of zeros in 65 KB: no more than the cap and a byte is ever decompressed."""
    bomb = gzip.compress(bytes(64 << 20))
    with pytest.raises(Refused, match="at most 1000000 bytes"):
        bodies.read_request(environ(bomb, HTTP_CONTENT_ENCODING="gzip"), 10**6)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (environ(b"abc", "4"), "expected a body of 4 bytes, found 3"),
        (environ(b"", "-1"), "Content-Length: expected a number of bytes, found '-1'"),
        (environ(b"", "1_0"), "Content-Length: expected a number of bytes, found '1_0'"),
        (environ(b"", "٣"), "Content-Length: expected a number of bytes, found '٣'"),
        (environ(b"", "9" * 5000), "Content-Length: expected a number of bytes, found '9999999999"),
        (environ(b"abc", HTTP_CONTENT_ENCODING="gzip"), "not gzip: "),
        (
            environ(gzip.compress(b"abc")[:-1], HTTP_CONTENT_ENCODING="gzip"),
            "not gzip: it is cut short",
        ),
        (
            environ(gzip.compress(b"abc") + b"x", HTTP_CONTENT_ENCODING="gzip"),
            "not gzip: it is cut short, or goes on",
        ),
        (environ(b"abc", HTTP_CONTENT_ENCODING="deflate"), "not deflate: "),
        (
            environ(b"", HTTP_INFERENCE_HEADER_CONTENT_LENGTH="x"),
            "Inference-Header-Content-Length: expected a number of bytes, found 'x'",
        ),
    ],
)
def test_bodies_that_lie(request_: dict[str, Any], message: str) -> None:
    """A body that is not what its headers say is 400, and the line says which header."""
    with pytest.raises(BadInput, match=f"^{re.escape(message)}") as caught:
        bodies.read_request(request_, 10_000)
    assert 400 == caught.value.status


def test_unknown_encoding() -> None:
    """An encoding that is not understood is 415, and Accept-Encoding says which are."""
    with pytest.raises(Refused, match="expected gzip or deflate, found br") as caught:
        bodies.read_request(environ(HTTP_CONTENT_ENCODING="br"), 10)
    assert (415, (("Accept-Encoding", "gzip, deflate, identity"),)) == (
        caught.value.status,
        caught.value.headers,
    )


def test_content_type_is_the_media_type_alone() -> None:
    """Parameters and case do not matter."""
    assert (
        "text/csv"
        == bodies.read_request(environ(CONTENT_TYPE="Text/CSV; header=present"), 10).content_type
    )


def test_request_ids() -> None:
    """A caller's id is taken when it is fit for a log; others are 128 random bits, never the same twice."""
    assert "a.b-C_1" == replies.request_id({"HTTP_X_REQUEST_ID": "a.b-C_1"})
    made = {
        replies.request_id({"HTTP_X_REQUEST_ID": given})
        for given in ("", "a b", "a\nb", "x" * 129, "é") * 100
    }
    assert 500 == len(made)
    assert all(re.fullmatch(r"[0-9a-f]{32}", name) for name in made)


@pytest.mark.parametrize(
    ("header", "trace"),
    [
        (
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "4bf92f3577b34da6a3ce929d0e0e4736",
        ),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", None),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", None),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", None),
        ("garbage", None),
        (None, None),
    ],
)
def test_traces(header: str | None, trace: str | None) -> None:
    """The examples of the W3C's Trace Context, and what it calls invalid."""
    assert trace == replies.trace_id({} if header is None else {"HTTP_TRACEPARENT": header})


def test_problem() -> None:
    """RFC 9457's members, and `error`; its media type for those who ask for it first."""
    reply = replies.problem_reply(422, "expected 4 values", request_id="r", where="instances[0]")
    assert (422, "application/json") == (reply.status, reply.content_type)
    assert {
        "type": "about:blank",
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "instances[0]: expected 4 values",
        "error": "instances[0]: expected 4 values",
        "request_id": "r",
        "where": "instances[0]",
    } == json.loads(reply.body)
    assert (
        messages.PROBLEM
        == replies.problem_reply(
            400, "", request_id="r", accept="application/problem+json, */*"
        ).content_type
    )


@pytest.mark.parametrize(
    ("request_", "read"),
    [
        (environ(b"abc"), 3),
        (environ(b"abcdef", "3"), 3),
        ({**environ(b"abc"), "HTTP_EXPECT": "100-continue"}, 0),
        ({**environ(b"abc"), bodies.BODY_STARTED: True}, 0),
        (environ(b"abc", str(bodies.MAX_DRAINED_BYTES + 1)), 0),
        (chunked(b"abc"), 0),
        (environ(b"abc", "x"), 0),
    ],
)
def test_a_refused_body_is_read_to_its_end(request_: dict[str, Any], read: int) -> None:
    """As many bytes as it says, where they are few, on their way, and nobody has read them."""
    request_["wsgi.input"].seek(0)
    bodies.drain_body(request_)
    assert read == request_["wsgi.input"].tell()


def test_whoever_has_gone_ends_nothing() -> None:
    """A connection that breaks while a refused body is read is no failure of ours."""

    class Gone(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise ConnectionResetError

    bodies.drain_body({"wsgi.input": Gone(), "CONTENT_LENGTH": "3"})


@pytest.mark.parametrize(
    ("request_", "whole"),
    [
        (environ(b"abc"), True),
        (chunked(b"abc"), False),
        ({**chunked(b"abc"), "HTTP_CONTENT_ENCODING": "identity"}, False),
        ({**chunked(gzip.compress(b"abc")), "HTTP_CONTENT_ENCODING": "gzip"}, True),
    ],
)
def test_whether_a_body_is_whole(request_: dict[str, Any], whole: bool) -> None:
    """A length or a compression says where it ends; the host's word that it has does not."""
    found = bodies.read_request(request_, 1000)
    assert whole == found.whole
    if whole:
        assert b"abc" == messages.complete_body(found)
    else:
        with pytest.raises(Refused, match="expected Content-Length") as caught:
            messages.complete_body(found)
        assert 411 == caught.value.status
