"""Compressed bodies, bodies that are too large, and bodies that contradict their headers."""

import gzip
import zlib
from functools import cache

from tests.conformance.draw import Case, Draw, compress, kind
from tests.conformance.kinds.row_protocols import v1_path
from tests.conformance.kinds.v2 import v2_path
from tests.conformance.outcomes import BYTES, CSV, JSON, ErrorReply

BOMB_BYTES = 64 << 20
"""Number of zeros that gzip compresses to 65 kB."""
FRAMINGS = ("length", "chunked")
UNSUPPORTED_ENCODINGS = (
    *("br", "zstd", "compress", "gzip, gzip", "gzip, deflate", "deflate, gzip"),
    *("identity, gzip", "aes128gcm", "*", "gzip;q=1"),
)


def predict_path(draw: Draw) -> str:
    """Return the path of a prediction in one of the protocols."""
    return str(draw.choice(("/predict", v1_path(draw), v2_path(draw))))


@cache
def bomb(encoding: str) -> bytes:
    """Return many zeros, compressed."""
    engine = zlib.compressobj(9, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    zeros = bytes(1 << 20)
    return b"".join([engine.compress(zeros) for _ in range(BOMB_BYTES >> 20)]) + engine.flush()


@kind("hostile", 2)
def decompression_bomb(draw: Draw) -> Case:
    """64 MiB in 65 kB, or just over the limit in few bytes; Triton's DecompressionSizeLimitGzip."""
    encoding, limit = draw.choice(("gzip", "deflate")), draw.model.limits.body_bytes
    if draw.chance(0.2):
        # The beginning suffices, because the limit is reached long before the end.
        body = bomb(encoding)[:limit]
    else:
        zeros = bytes(limit + draw.choice((1, 2, 1000, 10**6)))
        body = gzip.compress(zeros, 9) if encoding == "gzip" else zlib.compress(zeros, 9)
    headers, framing = [("Content-Encoding", encoding)], draw.choice(FRAMINGS)
    outcome = ErrorReply(413, None, str(limit))
    return draw.post(predict_path(draw), body, outcome, headers=headers, framing=framing)


@kind("hostile", 6)
def body_too_large(draw: Draw) -> Case:
    """One byte over the limit, or a megabyte; test_default_limit_rejection of Triton's L0_http."""
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
    """415, with the supported encodings in Accept-Encoding (RFC 9110, 15.5.16)."""
    headers = [("Content-Encoding", draw.choice(UNSUPPORTED_ENCODINGS))]
    outcome = ErrorReply(415, None, "Content-Encoding", {"accept-encoding": "gzip"})
    path = predict_path(draw)
    return draw.post(path, b'{"instances": []}', outcome, headers=headers, framing="length")


@kind("hostile", 4)
def invalid_compressed_stream(draw: Draw) -> Case:
    """Plain text declared as gzip, a truncated stream, trailing bytes, a wrong checksum."""
    encoding = draw.choice(("gzip", "deflate"))
    plain = draw.json({"instances": draw.cells(draw.index(at_least=2, at_most=33))})
    good = compress("gzip" if encoding == "gzip" else "zlib", plain)
    checksum = bytearray(good)
    checksum[-1 if encoding == "deflate" else -5] ^= 0x55
    truncated = (b"", good[:-1], good[: len(good) // 2], good[:1])
    body = draw.choice((plain, *truncated, good + b"\0", good + plain, bytes(checksum)))
    headers, outcome = [("Content-Encoding", encoding)], ErrorReply(400, None, encoding)
    return draw.post(predict_path(draw), body, outcome, headers=headers, framing="length")
