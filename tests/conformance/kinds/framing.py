"""HTTP framing: requests that the HTTP server rejects, unusual requests, and compression.

The host (granian, with the HTTP library hyper) rejects invalid HTTP/1.1 (RFC 9112), and overlong
paths and headers: it replies with a status without a body, and closes the connection.
"""

import gzip
import zlib
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from tests.conformance.draw import Case, Draw, Headers, compress, kind
from tests.conformance.kinds.routes import ALIVE, EMPTY_BATCH
from tests.conformance.kinds.row_protocols import v1_path
from tests.conformance.kinds.v2 import v2_path
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
BOMB_BYTES = 64 << 20
"""Number of zero bytes in a decompression bomb, which gzip compresses to 65 kB."""
FRAMINGS = ("length", "chunked")
UNSUPPORTED_ENCODINGS = (
    *("br", "zstd", "compress", "gzip, gzip", "gzip, deflate", "deflate, gzip"),
    *("identity, gzip", "aes128gcm", "*", "gzip;q=1"),
)
INVALID_CHUNKS = (
    *(b"", b"0\r\n", b"5\r\nab", b"z\r\n", b"-1\r\n", b"f" * 20 + b"\r\n"),
    b"1\r\nab\r\n0\r\n\r\n",
)
"""Bytes after a valid chunk that leave the body incomplete or malformed."""
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
    """Post to /predict with the given headers; the server may close the connection afterwards."""
    return draw.send("POST", "/predict", headers, body, outcome, may_close=True, **options)


def csv_lines(draw: Draw, index: Index) -> bytes:
    """Return rows as CSV without a header."""
    return "".join(",".join(map(repr, row)) + "\n" for row in draw.numbers(index)).encode()


@kind("hostile", 3)
def invalid_request_line(draw: Draw) -> Case:
    """The host replies 400, or 414 to a long path; CONNECT gets 404: the service is no proxy."""
    invalid = (f"{draw.choice(INVALID_REQUEST_LINES)}", HostError(400))
    long = (f"GET /{'a' * 70_000} HTTP/1.1", HostError(414))
    proxy = (f"CONNECT {draw.choice(('x:80', '127.0.0.1:22'))} HTTP/1.1", ErrorReply(404))
    line, outcome = draw.choice((invalid, invalid, invalid, invalid, long, proxy))
    return send_text(f"{line}\r\nHost: x\r\n\r\n", outcome)


@kind("hostile", 4)
def invalid_header(draw: Draw) -> Case:
    """The host replies 400, also to request smuggling (RFC 9112, 11.2), or 431 to large headers."""
    many, long = "\r\n".join(f"X-{i}: 1" for i in range(150)), f"X-Y: {'a' * 600_000}"
    large = draw.chance(0.1)
    header = draw.choice((many, long) if large else INVALID_HEADERS)
    text = f"POST /predict HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n"
    return send_text(text if large else text + "ab", HostError(431 if large else 400))


@kind("hostile", 1)
def connection_without_a_request(draw: Draw) -> Case:
    """A client that closes its connection before or within the first request's headers."""
    text = draw.choice(("", "G", "GET /healthz HTTP/1.1\r\nHost"))
    return send_text(text, HostError(0), half_close=True)


@kind("hostile", 2)
def body_cut_short(draw: Draw) -> Case:
    """A body shorter than Content-Length must not be accepted as a table with fewer rows."""
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
    """An incomplete chunked body (RFC 9112, 8); CSV and bytes need a Content-Length (411)."""
    index = draw.index(at_least=2, at_most=7)
    text = draw.json({"instances": draw.cells(index)}).rstrip()
    rows_error = ErrorReply(411, None, "Content-Length")
    part = text[: draw.random.randrange(1, len(text))]
    raw = draw.float32(index), draw.raw_type(len(index)), rows_error
    rows = ((csv_lines(draw, index), CSV, rows_error), raw)
    content, content_type, outcome = draw.choice(((part, JSON, ErrorReply(400)), *rows))
    body = b"%x\r\n%b\r\n" % (len(content), content) + draw.choice(INVALID_CHUNKS)
    headers = [("Content-Type", content_type), ("Transfer-Encoding", "chunked")]
    return post(draw, headers, body, outcome, half_close=True)


@kind("hostile", 1)
def length_and_chunks(draw: Draw) -> Case:
    """Transfer-Encoding overrides Content-Length, and the connection ends (RFC 9112, 6.1)."""
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(EMPTY_BATCH), EMPTY_BATCH)
    length = draw.choice(("3", "0", "99"))
    headers = [("Content-Type", JSON), ("Content-Length", length), ("Transfer-Encoding", "chunked")]
    return post(draw, headers, body, Predictions(draw.model, np.zeros(0, np.intp)))


@kind("hostile", 3)
def invalid_request_ids(draw: Draw) -> Case:
    """Two request ids, or an id that injects a header; a bare LF ends a line (RFC 9112, 2.2)."""
    two = draw.choice((("a", "b"), ("a", "a"), ("", "a")))
    value = draw.choice((*INJECTIONS, "{}\r\nx-request-id: {}".format(*two)))
    request = f"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-ID: {value}\r\n\r\n"
    return Case((request.encode(),), ALIVE, "a" if value in INJECTIONS[:2] else None)


@kind("valid", 2)
def unusual_request_line(draw: Draw) -> Case:
    """HTTP/1.0, or an absolute URL (RFC 9112, 3.2.2), perhaps after empty lines (2.2)."""
    if draw.chance(0.5):
        return send_text("GET /healthz HTTP/1.0\r\n\r\n", ALIVE)
    empty_lines = draw.choice(("", "\r\n", "\r\n\r\n"))
    host = draw.choice(("x", "localhost:8000", "example.org", "[::1]"))
    request = f"{empty_lines}GET http://{host}/healthz HTTP/1.1\r\nHost: {host}\r\n\r\n"
    return Case((request.encode(),), ALIVE)


@kind("hostile", 1)
def announced_body_too_large(draw: Draw) -> Case:
    """413 for a Content-Length over the limit, also with Expect: 100-continue, before any body."""
    limit, expect = draw.model.limits.body_bytes, [("Expect", "100-continue")]
    lengths: Any = ((limit + 1, expect), (2**20, expect), (2**31, []), (2**40, []))
    length, more = draw.choice(lengths)
    headers = [("Content-Type", JSON), ("Content-Length", str(length)), *more]
    return post(draw, headers, b"", ErrorReply(413, None, str(limit)))


@kind("valid", 1)
def neutral_headers(draw: Draw) -> Case:
    """Headers without effect: upgrades, cookies, conditions; curl's Expect: 100-continue."""
    index = draw.index()
    if draw.chance(0.5):
        body, headers = draw.json({"instances": draw.cells(index)}), [("Expect", "100-continue")]
        return draw.post("/predict", body, Predictions(draw.model, index), headers=headers)
    pairs = (header.split(": ", 1) for header in draw.choice(NEUTRAL_HEADERS).split(" | "))
    return draw.send("GET", "/healthz", [(name, value) for name, value in pairs], b"", ALIVE)


def predict_path(draw: Draw) -> str:
    """Return a path that accepts predictions, in a random protocol."""
    return str(draw.choice(("/predict", v1_path(draw), v2_path(draw))))


@cache
def bomb(encoding: str) -> bytes:
    """Return many zeros, compressed."""
    engine = zlib.compressobj(9, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    zeros = bytes(1 << 20)
    return b"".join([engine.compress(zeros) for _ in range(BOMB_BYTES >> 20)]) + engine.flush()


@kind("hostile", 2)
def decompression_bomb(draw: Draw) -> Case:
    """A small body that expands beyond the limit; Triton's test DecompressionSizeLimitGzip."""
    encoding, limit = draw.choice(("gzip", "deflate")), draw.model.limits.body_bytes
    if draw.chance(0.2):
        # The beginning suffices: it already expands beyond the limit.
        body = bomb(encoding)[:limit]
    else:
        zeros = bytes(limit + draw.choice((1, 2, 1000, 10**6)))
        body = gzip.compress(zeros, 9) if encoding == "gzip" else zlib.compress(zeros, 9)
    headers, framing = [("Content-Encoding", encoding)], draw.choice(FRAMINGS)
    outcome = ErrorReply(413, None, str(limit))
    return draw.post(predict_path(draw), body, outcome, headers=headers, framing=framing)


@kind("hostile", 6)
def body_too_large(draw: Draw) -> Case:
    """A body over the limit; test_default_limit_rejection of Triton's L0_http."""
    limit, content_type = draw.model.limits.body_bytes, draw.choice((JSON, CSV, BYTES, "a/b", None))
    size = limit + draw.choice((1, 2, 100, limit, 1 << 20))
    outcome, options = ErrorReply(413, None, str(limit)), {"framing": draw.choice(FRAMINGS)}
    body = draw.choice((b" ", b"0", b"[", b"{", b"1,")) * size
    if draw.chance(0.3):  # Random bytes are too large even when compressed.
        body = compress("gzip", draw.random.randbytes(size))
        options["headers"] = [("Content-Encoding", "gzip")]
    path = predict_path(draw)
    return draw.post(path, body, outcome, content_type=content_type, may_close=True, **options)


@kind("hostile", 1)
def body_in_many_chunks(draw: Draw) -> Case:
    """Thousands of tiny chunks; http_request_many_chunks.py of Triton's L0_http."""
    headers = [("Content-Type", JSON), ("Transfer-Encoding", "chunked")]
    limit = draw.model.limits.body_bytes
    size, count, status = draw.choice(((1, limit // 10, 400), (16, limit // 16 + 1, 413)))
    body = b"%x\r\n%b\r\n" % (size, b"A" * size) * count + b"0\r\n\r\n"
    path, outcome = predict_path(draw), ErrorReply(status)
    return draw.send("POST", path, headers, body, outcome, may_close=True)


@kind("nearly valid", 3)
def unsupported_encoding(draw: Draw) -> Case:
    """415, and Accept-Encoding lists the supported encodings (RFC 9110, 15.5.16)."""
    headers = [("Content-Encoding", draw.choice(UNSUPPORTED_ENCODINGS))]
    outcome = ErrorReply(415, None, "Content-Encoding", {"accept-encoding": "gzip"})
    path = predict_path(draw)
    return draw.post(path, b'{"instances": []}', outcome, headers=headers, framing="length")


@kind("valid", 2)
def joined_gzip_files(draw: Draw) -> Case:
    """A body of several gzip members, as `cat a.gz b.gz` makes them (RFC 1952, 2.2)."""
    index = draw.index()
    plain = draw.json({"instances": draw.cells(index)})
    cuts = sorted(draw.random.randrange(len(plain) + 1) for _ in range(draw.choice((1, 2, 5))))
    parts = [plain[start:end] for start, end in pairwise((0, *cuts, len(plain)))]
    body = b"".join(compress("gzip", part) for part in parts)
    headers, outcome = [("Content-Encoding", "gzip")], Predictions(draw.model, index)
    return draw.post("/predict", body, outcome, headers=headers, framing="length")


@kind("hostile", 4)
def invalid_compressed_stream(draw: Draw) -> Case:
    """Uncompressed text, a truncated stream, trailing bytes, or a wrong checksum."""
    encoding = draw.choice(("gzip", "deflate"))
    plain = draw.json({"instances": draw.cells(draw.index(at_least=2, at_most=33))})
    good = compress("gzip" if encoding == "gzip" else "zlib", plain)
    checksum = bytearray(good)
    checksum[-1 if encoding == "deflate" else -5] ^= 0x55
    second = compress("gzip", b" ")[: draw.random.randrange(1, 20)]
    truncated = (b"", good[:-1], good[: len(good) // 2], good[:1])
    body = draw.choice((plain, *truncated, good + second, good + plain, bytes(checksum)))
    headers, outcome = [("Content-Encoding", encoding)], ErrorReply(400, None, encoding)
    return draw.post(predict_path(draw), body, outcome, headers=headers, framing="length")
