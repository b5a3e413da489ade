"""Bodies compressed, bodies too large, and bodies that are not what their headers say, on every dialect's route."""

import gzip
import zlib
from functools import cache

from tests.conformance.probes import v1, v2
from tests.conformance.probes.ask import Ask, Probe, kind, packed
from tests.conformance.probes.replies import BYTES, CSV, JSON, Refusal

BOMB_BYTES = 64 << 20
"""Zeros that gzip to 65 kB."""
UNKNOWN = (
    "br",
    "zstd",
    "compress",
    "gzip, gzip",
    "gzip, deflate",
    "deflate, gzip",
    "identity, gzip",
    "aes128gcm",
    "*",
    "gzip;q=1",
)


def route(ask: Ask) -> str:
    """Draw the path of a prediction."""
    return str(ask.choice(("/predict", v1.path(ask), v2.path(ask))))


@cache
def bomb(encoding: str) -> bytes:
    """Return many zeros, compressed."""
    engine = zlib.compressobj(9, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    zeros = bytes(1 << 20)
    return b"".join([engine.compress(zeros) for _ in range(BOMB_BYTES >> 20)]) + engine.flush()


@kind("hostile", 2)
def bomb_that_unpacks(ask: Ask) -> Probe:
    """64 MiB in 65 kB, and a little more than is allowed in next to nothing; DecompressionSizeLimitGzip of Triton."""
    encoding = ask.choice(("gzip", "deflate"))
    if ask.random.random() < 0.2:
        body = bomb(encoding)[
            : ask.subject.limits.body_bytes
        ]  # the cap on what unpacks is reached long before its end
    else:
        zeros = bytes(ask.subject.limits.body_bytes + ask.choice((1, 2, 1000, 10**6)))
        body = gzip.compress(zeros, 9) if encoding == "gzip" else zlib.compress(zeros, 9)
    headers = [("Content-Encoding", encoding)]
    expected = Refusal(413, None, str(ask.subject.limits.body_bytes))
    return ask.post(
        route(ask), body, expected, headers=headers, framing=ask.choice(("length", "chunked"))
    )


@kind("hostile", 2)
def compressed_form_too_large(ask: Ask) -> Probe:
    """What does not compress is too large before it is unpacked."""
    body = ask.random.randbytes(ask.subject.limits.body_bytes + ask.choice((1, 5000)))
    return ask.post(
        route(ask),
        packed("gzip", body),
        Refusal(413),
        framing="length",
        headers=[("Content-Encoding", "gzip")],
        last=True,
    )


@kind("hostile", 4)
def body_too_large(ask: Ask) -> Probe:
    """A byte more than is allowed, or a megabyte, of whatever; test_default_limit_rejection of Triton's L0_http."""
    most = ask.subject.limits.body_bytes
    body = ask.choice((b" ", b"0", b"[", b"{", b"1,")) * (
        most + ask.choice((1, 2, 100, most, 1 << 20))
    )
    form = ask.choice((JSON, CSV, BYTES, "text/plain", None))
    framing = ask.choice(("length", "chunked"))
    return ask.post(
        route(ask), body, Refusal(413, None, str(most)), form=form, framing=framing, last=True
    )


@kind("hostile", 1)
def body_in_many_chunks(ask: Ask) -> Probe:
    """http_request_many_chunks.py of Triton's L0_http: thousands of tiny chunks, of no JSON, and of too much."""
    headers = [("Content-Type", JSON), ("Transfer-Encoding", "chunked")]
    most = ask.subject.limits.body_bytes
    size, count, status = ask.choice(((1, most // 10, 400), (16, most // 16 + 1, 413)))
    body = b"%x\r\n%b\r\n" % (size, b"A" * size) * count + b"0\r\n\r\n"
    return ask.send("POST", route(ask), headers, body, Refusal(status), last=True)


@kind("nearly valid", 3)
def encoding_unknown(ask: Ask) -> Probe:
    """415, and Accept-Encoding says which are known (RFC 9110, 15.5.16)."""
    headers = [("Content-Encoding", ask.choice(UNKNOWN))]
    expected = Refusal(415, None, "Content-Encoding", {"accept-encoding": "gzip"})
    return ask.post(route(ask), b'{"instances": []}', expected, headers=headers, framing="length")


@kind("hostile", 4)
def not_what_the_encoding_says(ask: Ask) -> Probe:
    """Plain text called gzip, a stream cut short, one with more behind it, one with a byte changed."""
    encoding = ask.choice(("gzip", "deflate"))
    plain = ask.text({"instances": ask.texts(ask.rows(least=2, most=33))})
    good = packed("gzip" if encoding == "gzip" else "zlib", plain)
    checked = bytearray(good)
    checked[-1 if encoding == "deflate" else -5] ^= 0x55  # of the checksum at its end
    broken = (
        plain,
        b"",
        good[:-1],
        good[: len(good) // 2],
        good[:1],
        good + b"\0",
        good + plain,
        bytes(checked),
    )
    headers = [("Content-Encoding", encoding)]
    return ask.post(
        route(ask),
        ask.choice(broken),
        Refusal(400, None, encoding),
        headers=headers,
        framing="length",
    )
