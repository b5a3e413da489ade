"""HTTP itself: what the host (hyper, under granian) refuses before the application is asked, and what it lets through.

Where the host answers, the outcome is exact too: a status, no body, and the connection ends. It answers so to what is
not HTTP/1.1 (RFC 9112), and to headers and paths that are too long.
"""

import numpy as np

from tests.conformance.probes.answers import Predictions
from tests.conformance.probes.ask import Ask, Headers, Probe, kind
from tests.conformance.probes.replies import (
    BYTES,
    CSV,
    JSON,
    Closed,
    Document,
    Expected,
    HostRefusal,
    Refusal,
)

NO_REQUEST_LINES = (
    *(
        "GET /healthz",
        "GET  /healthz HTTP/1.1",
        "GET /healthz HTTP/1.2",
        "GET /healthz HTTP/2.0",
        "GET /healthz HTTP/3",
    ),
    *(
        "G@T /healthz HTTP/1.1",
        "GET /heal thz HTTP/1.1",
        "GET /\x01 HTTP/1.1",
        "GET HTTP/1.1",
        "/healthz",
        "\x16\x03\x01\x02",
    ),
    *(
        "GET /healthz HTTP/1.1 x",
        "GET /healthz http/1.1",
        "GET\t/healthz\tHTTP/1.1",
        'GET /a{}<>"^`| HTTP/1.1',
        "GET /\x7f HTTP/1.1",
    ),
)
NO_HEADERS = (
    *(
        "no colon",
        ": no name",
        "space : x",
        "X-Y: a\r\n folded",
        "X-Y: a\x00b",
        "X-Y: a\rb",
        "X(Y): a",
        "X\x80: a",
        '"X": a',
    ),
    *(
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
    ),
    *(
        f"Content-Length: {value}"
        for value in ("+2", "-1", "0x2", "2e0", "", "9" * 30, "2, 3", "2 2", "two", "1_0")
    ),
    *("Content-Length: 2\r\nContent-Length: 3", "Content-Length: 2, 3"),
)
GOOD = b'{"instances": []}'
INJECTIONS = (
    "a\r\nX-Injected: 1",
    "a\nX-Injected: 1",
    "a%0d%0aX-Injected:1",
    "a\\r\\nX-Injected: 1",
)


def bare(content: str | bytes, expected: Expected, *, half_close: bool = False) -> Probe:
    """Send bytes as they are."""
    data = content.encode("latin-1") if isinstance(content, str) else content
    return Probe((data,), expected, half_close=half_close, last=True)


def posted(
    ask: Ask, headers: Headers, body: bytes, expected: Expected, *, half_close: bool = False
) -> Probe:
    """Post to /predict with headers of one's own, on a connection that ends with it."""
    return ask.send("POST", "/predict", headers, body, expected, half_close=half_close, last=True)


@kind("hostile", 3)
def no_request_line(ask: Ask) -> Probe:
    """400 of the host."""
    line = ask.choice(NO_REQUEST_LINES)
    return bare(f"{line}\r\nHost: x\r\n\r\n", HostRefusal(400))


@kind("hostile", 4)
def no_header(ask: Ask) -> Probe:
    """400 of the host: among these are the lies about a body's length that smuggle requests (RFC 9112, 11.2)."""
    line = ask.choice(NO_HEADERS)
    return bare(f"POST /predict HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\nab", HostRefusal(400))


@kind("hostile", 1)
def headers_too_many_or_too_long(ask: Ask) -> Probe:
    """431 of the host, and 414 for a path."""
    many = "".join(f"X-{i}: 1\r\n" for i in range(150))
    headers, expected = ask.choice(
        ((many, HostRefusal(431)), (f"X-Y: {'a' * 600_000}\r\n", HostRefusal(431)))
    )
    if ask.random.random() < 0.4:
        return bare(f"GET /{'a' * 70_000} HTTP/1.1\r\nHost: x\r\n\r\n", HostRefusal(414))
    return bare(f"GET /healthz HTTP/1.1\r\nHost: x\r\n{headers}\r\n", expected)


@kind("hostile", 1)
def method_connect(ask: Ask) -> Probe:
    """A proxy this is not: there is no such path."""
    request = f"CONNECT {ask.choice(('x:80', '127.0.0.1:22'))} HTTP/1.1\r\nHost: x\r\n\r\n"
    return bare(request, Refusal(404))


@kind("hostile", 1)
def nothing_at_all(ask: Ask) -> Probe:
    """A connection that is closed before anything, or half of a request line, was said."""
    return bare(ask.choice(("", "G", "GET /healthz HTTP/1.1\r\nHost")), Closed(), half_close=True)


@kind("hostile", 2)
def body_cut_short(ask: Ask) -> Probe:
    """The sender stops before as many bytes as it announced; half a CSV is a CSV, and must not be answered."""
    index = ask.rows(least=2)
    forms = {
        JSON: ask.text({"instances": ask.texts(index)}),
        CSV: b"".join(
            b",".join(repr(value).encode() for value in row) + b"\n" for row in ask.wide(index)
        ),
        BYTES: ask.subject.wide[index].astype("<f4").tobytes(),
    }
    form = ask.choice(list(forms))
    body = forms[form]
    cut = ask.choice((0, 1, len(body) // 2, 4 * len(ask.subject.features), len(body) - 1))
    headers = [("Content-Type", form), ("Content-Length", str(len(body)))]
    expected = Refusal(
        400, None, f"expected a body of {len(body)} bytes, found {min(cut, len(body) - 1)}"
    )
    return posted(ask, headers, body[: min(cut, len(body) - 1)], expected, half_close=True)


NO_CHUNKS = (
    b"",
    b"0\r\n",
    b"5\r\nab",
    b"z\r\n",
    b"-1\r\n",
    b"f" * 20 + b"\r\n",
    b"1\r\nab\r\n0\r\n\r\n",
)
"""What may follow a chunk, and makes no body of it."""


@kind("hostile", 1)
def chunks_cut_short(ask: Ask) -> Probe:
    """Chunks that end too early, or are none: the body is incomplete (RFC 9112, 8); half a document is no JSON."""
    index = ask.rows(least=2, most=7)
    text = ask.text({"instances": ask.texts(index)}).rstrip()
    return chunked(ask, text[: ask.random.randrange(1, len(text))], JSON)


@kind("hostile", 1)
def chunks_of_rows_cut_short(ask: Ask) -> Probe:
    """Likewise; but some of the rows are rows too, and nobody could tell: without a length they are refused."""
    index = ask.rows(most=7)
    lines = b"".join(
        b",".join(repr(value).encode() for value in row) + b"\n" for row in ask.wide(index)
    )
    content, form = ask.choice(
        ((lines, CSV), (ask.subject.wide[index].astype("<f4").tobytes(), BYTES))
    )
    return chunked(ask, content, form, Refusal(411, None, "Content-Length"))


def chunked(ask: Ask, content: bytes, form: str, expected: Refusal | None = None) -> Probe:
    """Send a chunk, and then no other, and no end."""
    body = b"%x\r\n%b\r\n" % (len(content), content) + ask.choice(NO_CHUNKS)
    headers = [("Content-Type", form), ("Transfer-Encoding", "chunked")]
    return posted(ask, headers, body, expected or Refusal(400), half_close=True)


@kind("hostile", 1)
def length_and_chunks(ask: Ask) -> Probe:
    """Both at once: the chunks count, and the connection ends, as RFC 9112, 6.1, has it against smuggling."""
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD)
    headers = [
        ("Content-Type", JSON),
        ("Content-Length", ask.choice(("3", "0", "99"))),
        ("Transfer-Encoding", "chunked"),
    ]
    return posted(ask, headers, body, Predictions(ask.subject, np.zeros(0, np.intp)))


@kind("hostile", 2)
def header_that_injects(ask: Ask) -> Probe:
    """A caller's id never becomes a header of the reply; a bare line feed ends a line, as RFC 9112, 2.2, lets it."""
    injection = ask.choice(INJECTIONS)
    request = f"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-ID: {injection}\r\n\r\n"
    echoed = "a" if "\n" in injection else None
    return Probe((request.encode(),), Document({"status": "alive"}), echoed)


@kind("hostile", 1)
def id_that_stands_twice(ask: Ask) -> Probe:
    """Two ids are none."""
    ids = ask.choice((("a", "b"), ("a", "a"), ("", "a")))
    request = f"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-ID: {ids[0]}\r\nx-request-id: {ids[1]}\r\n\r\n"
    return Probe((request.encode(),), Document({"status": "alive"}), None)


@kind("valid", 1)
def older_http(ask: Ask) -> Probe:
    """HTTP/1.0, without a Host, is answered, and the connection ends."""
    return Probe((b"GET /healthz HTTP/1.0\r\n\r\n",), Document({"status": "alive"}), last=True)


@kind("valid", 1)
def target_in_absolute_form(ask: Ask) -> Probe:
    """A server takes the absolute form that proxies send (RFC 9112, 3.2.2), and empty lines before a request (2.2)."""
    before = ask.choice(("", "\r\n", "\r\n\r\n"))
    host = ask.choice(("x", "localhost:8000", "example.org", "[::1]"))
    request = f"{before}GET http://{host}/healthz HTTP/1.1\r\nHost: {host}\r\n\r\n"
    return Probe((request.encode(),), Document({"status": "alive"}))


@kind("valid", 1)
def body_that_is_expected(ask: Ask) -> Probe:
    """Expect: 100-continue, as curl sends it before a larger body: the host answers it, and then the reply comes."""
    index = ask.rows()
    return ask.post(
        "/predict",
        ask.text({"instances": ask.texts(index)}),
        Predictions(ask.subject, index),
        headers=[("Expect", "100-continue")],
    )


@kind("hostile", 1)
def body_announced_too_large(ask: Ask) -> Probe:
    """A length far beyond the cap is refused at once; and any, to who waits to be told to go on (RFC 9110, 10.1.1)."""
    most = ask.subject.limits.body_bytes
    wait = [("Expect", "100-continue")]
    length, more = ask.choice(((most + 1, wait), (2**20, wait), (2**31, []), (2**40, [])))
    headers = [("Content-Type", JSON), ("Content-Length", str(length)), *more]
    return posted(ask, headers, b"", Refusal(413, None, str(most)))


@kind("valid", 1)
def header_of_another_kind(ask: Ask) -> Probe:
    """Upgrades and cookies are passed over; a header that says it is HTTP/2 too."""
    more = ask.choice(
        (
            [
                ("Connection", "Upgrade, HTTP2-Settings"),
                ("Upgrade", "h2c"),
                ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
            ],
            [
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ],
            [
                ("Cookie", "session=" + "a" * 4000),
                ("Authorization", "Basic Og=="),
                ("X-Forwarded-For", "1.2.3.4, ::1"),
            ],
            [
                ("X-Forwarded-Host", "evil"),
                ("X-Original-URL", "/model"),
                ("X-HTTP-Method-Override", "DELETE"),
            ],
            [
                ("Range", "bytes=0-3"),
                ("If-None-Match", "*"),
                ("If-Modified-Since", "x"),
                ("Accept-Encoding", "gzip, br"),
            ],
        )
    )
    return ask.send("GET", "/healthz", more, b"", Document({"status": "alive"}))
