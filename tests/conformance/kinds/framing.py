"""HTTP itself: requests that the host (hyper, under granian) rejects, and unusual valid ones.

The host rejects what is not HTTP/1.1 (RFC 9112), and headers and paths that are too long, with a
bare status and the end of the connection.
"""

from typing import Any

import numpy as np

from tests.conformance.draw import Case, Draw, Headers, kind
from tests.conformance.kinds.routes import ALIVE, EMPTY_BATCH
from tests.conformance.outcomes import BYTES, CSV, JSON, ErrorReply, HostError, Outcome
from tests.conformance.predictions import Predictions
from tests.conformance.served import Index

INVALID_REQUEST_LINES = (
    *("GET /healthz", "GET  /healthz HTTP/1.1", "GET /healthz HTTP/1.2", "GET /healthz HTTP/2.0"),
    *("GET /healthz HTTP/3", "G@T /healthz HTTP/1.1", "GET /heal thz HTTP/1.1", "/healthz"),
    *("GET /\x01 HTTP/1.1", "GET HTTP/1.1", "\x16\x03\x01\x02", "GET /healthz HTTP/1.1 x"),
    *("GET /healthz http/1.1", "GET\t/healthz\tHTTP/1.1", 'GET /a{}<>"^`| HTTP/1.1'),
    "GET /\x7f HTTP/1.1",
)
INVALID_LENGTHS = ("+2", "-1", "0x2", "2e0", "", "9" * 30, "2, 3", "2 2", "two", "1_0")
INVALID_HEADERS = (
    *("no colon", ": no name", "space : x", "X-Y: a\r\n folded", "X-Y: a\x00b", "X-Y: a\rb"),
    *("X(Y): a", "X\x80: a", '"X": a', "Transfer-Encoding: gzip"),
    *("Transfer-Encoding: chunked, gzip", "Transfer-Encoding: xchunked"),
    *("Transfer-Encoding : chunked", "Content-Length: 2\r\nContent-Length: 3"),
    *(f"Content-Length: {value}" for value in INVALID_LENGTHS),
)
INVALID_CHUNKS = (
    *(b"", b"0\r\n", b"5\r\nab", b"z\r\n", b"-1\r\n", b"f" * 20 + b"\r\n"),
    b"1\r\nab\r\n0\r\n\r\n",
)
"""Bytes after a valid chunk that do not complete the body."""
INJECTIONS = ("a\r\nX-Injected: 1", "a\nX-Injected: 1", "a%0d%0aX-Injected:1", "a\\r\\nX: 1")
NEUTRAL_HEADERS = (
    "Connection: Upgrade, HTTP2-Settings | Upgrade: h2c | HTTP2-Settings: AAMAAABkAAQAAP__",
    "Connection: Upgrade | Upgrade: websocket | Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    f"Cookie: session={'a' * 4000} | Authorization: Basic Og== | X-Forwarded-For: 1.2.3.4, ::1",
    "X-Forwarded-Host: evil | X-Original-URL: /model | X-HTTP-Method-Override: DELETE",
    "Range: bytes=0-3 | If-None-Match: * | If-Modified-Since: x | Accept-Encoding: gzip, br",
)
"""Groups of headers that must not change a reply."""


def send_text(text: str, outcome: Outcome, *, half_close: bool = False) -> Case:
    """Send text unchanged, as Latin-1."""
    return Case((text.encode("latin-1"),), outcome, half_close=half_close, may_close=True)


def post(draw: Draw, headers: Headers, body: bytes, outcome: Outcome, **options: bool) -> Case:
    """Post to /predict with the given headers alone, on a connection that may end afterwards."""
    return draw.send("POST", "/predict", headers, body, outcome, may_close=True, **options)


def csv_lines(draw: Draw, index: Index) -> bytes:
    """Return rows as CSV without a header."""
    return "".join(",".join(map(repr, row)) + "\n" for row in draw.numbers(index)).encode()


@kind("hostile", 3)
def invalid_request_line(draw: Draw) -> Case:
    """400 or 414 of the host, and 404 for CONNECT, because the service is no proxy."""
    invalid = (f"{draw.choice(INVALID_REQUEST_LINES)}", HostError(400))
    long = (f"GET /{'a' * 70_000} HTTP/1.1", HostError(414))
    proxy = (f"CONNECT {draw.choice(('x:80', '127.0.0.1:22'))} HTTP/1.1", ErrorReply(404))
    line, outcome = draw.choice((invalid, invalid, invalid, invalid, long, proxy))
    return send_text(f"{line}\r\nHost: x\r\n\r\n", outcome)


@kind("hostile", 4)
def invalid_header(draw: Draw) -> Case:
    """400 of the host, also for lengths that smuggle requests (RFC 9112, 11.2); 431 for many."""
    many, long = "\r\n".join(f"X-{i}: 1" for i in range(150)), f"X-Y: {'a' * 600_000}"
    large = draw.chance(0.1)
    header = draw.choice((many, long) if large else INVALID_HEADERS)
    text = f"POST /predict HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n"
    return send_text(text if large else text + "ab", HostError(431 if large else 400))


@kind("hostile", 1)
def connection_without_a_request(draw: Draw) -> Case:
    """A connection that the client closes before or inside the first head."""
    text = draw.choice(("", "G", "GET /healthz HTTP/1.1\r\nHost"))
    return send_text(text, HostError(0), half_close=True)


@kind("hostile", 2)
def body_cut_short(draw: Draw) -> Case:
    """Fewer bytes than announced, which must not pass for a shorter table."""
    index = draw.index(at_least=2)
    json_body = draw.json({"instances": draw.cells(index)})
    bodies = {JSON: json_body, CSV: csv_lines(draw, index), BYTES: draw.float32(index)}
    content_type = draw.choice(list(bodies))
    body = bodies[content_type]
    cut = draw.choice((0, 1, len(body) // 2, 4 * len(draw.model.features), len(body) - 1))
    cut = min(cut, len(body) - 1)
    headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
    outcome = ErrorReply(400, None, f"expected a body of {len(body)} bytes, found {cut}")
    return post(draw, headers, body[:cut], outcome, half_close=True)


@kind("hostile", 2)
def chunks_cut_short(draw: Draw) -> Case:
    """An incomplete chunked body (RFC 9112, 8): 411 for rows, since fewer would be valid too."""
    index = draw.index(at_least=2, at_most=7)
    text = draw.json({"instances": draw.cells(index)}).rstrip()
    rows_error = ErrorReply(411, None, "Content-Length")
    content, content_type, outcome = draw.choice(
        (
            (text[: draw.random.randrange(1, len(text))], JSON, ErrorReply(400)),
            (csv_lines(draw, index), CSV, rows_error),
            (draw.float32(index), BYTES, rows_error),
        )
    )
    body = b"%x\r\n%b\r\n" % (len(content), content) + draw.choice(INVALID_CHUNKS)
    headers = [("Content-Type", content_type), ("Transfer-Encoding", "chunked")]
    return post(draw, headers, body, outcome, half_close=True)


@kind("hostile", 1)
def length_and_chunks(draw: Draw) -> Case:
    """The chunks override the length, and the connection ends (RFC 9112, 6.1)."""
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(EMPTY_BATCH), EMPTY_BATCH)
    length = draw.choice(("3", "0", "99"))
    headers = [("Content-Type", JSON), ("Content-Length", length), ("Transfer-Encoding", "chunked")]
    return post(draw, headers, body, Predictions(draw.model, np.zeros(0, np.intp)))


@kind("hostile", 3)
def invalid_request_ids(draw: Draw) -> Case:
    """Two ids, or one that would add a header; a bare LF ends a line (RFC 9112, 2.2)."""
    two = draw.choice((("a", "b"), ("a", "a"), ("", "a")))
    value = draw.choice((*INJECTIONS, "{}\r\nx-request-id: {}".format(*two)))
    request = f"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-ID: {value}\r\n\r\n"
    return Case((request.encode(),), ALIVE, "a" if value in INJECTIONS[:2] else None)


@kind("valid", 2)
def unusual_request_line(draw: Draw) -> Case:
    """HTTP/1.0, or a proxy's request (RFC 9112, 3.2.2), after empty lines (2.2)."""
    if draw.chance(0.5):
        return send_text("GET /healthz HTTP/1.0\r\n\r\n", ALIVE)
    empty_lines = draw.choice(("", "\r\n", "\r\n\r\n"))
    host = draw.choice(("x", "localhost:8000", "example.org", "[::1]"))
    request = f"{empty_lines}GET http://{host}/healthz HTTP/1.1\r\nHost: {host}\r\n\r\n"
    return Case((request.encode(),), ALIVE)


@kind("valid", 1)
def expect_continue(draw: Draw) -> Case:
    """Expect: 100-continue, which curl sends before a large body."""
    index = draw.index()
    body, outcome = draw.json({"instances": draw.cells(index)}), Predictions(draw.model, index)
    return draw.post("/predict", body, outcome, headers=[("Expect", "100-continue")])


@kind("hostile", 1)
def announced_body_too_large(draw: Draw) -> Case:
    """413 for a huge length, and for any excess after Expect: 100-continue (RFC 9110, 10.1.1)."""
    limit, expect = draw.model.limits.body_bytes, [("Expect", "100-continue")]
    lengths: Any = ((limit + 1, expect), (2**20, expect), (2**31, []), (2**40, []))
    length, more = draw.choice(lengths)
    headers = [("Content-Type", JSON), ("Content-Length", str(length)), *more]
    return post(draw, headers, b"", ErrorReply(413, None, str(limit)))


@kind("valid", 1)
def neutral_headers(draw: Draw) -> Case:
    """Upgrades, cookies, conditions and overrides, which change nothing."""
    pairs = (header.split(": ", 1) for header in draw.choice(NEUTRAL_HEADERS).split(" | "))
    return draw.send("GET", "/healthz", [(name, value) for name, value in pairs], b"", ALIVE)
