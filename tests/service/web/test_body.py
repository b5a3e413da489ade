"""Tests of service.web.body: bodies are limited, decompressed, and drained after an error."""

import gzip
import io
import re
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadInput, Refused
from service.web.body import (
    BODY_STARTED,
    MAX_DRAINED_BYTES,
    MAX_GZIP_MEMBERS,
    PIECE_BYTES,
    Receiver,
    drain_body,
    is_drainable,
    read_request,
)
from tests.service.protocols.refusal import refusal


def sized(body: bytes = b"", length: str | None = None, **headers: str) -> dict[str, Any]:
    """Return the environ of a request; Content-Length is by default the true length."""
    header = str(len(body)) if length is None else length
    return {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": header, **headers}


def chunked(body: bytes, **headers: str) -> dict[str, Any]:
    """Return the environ of a request without Content-Length; the host detects the body's end."""
    return {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True, **headers}


def gzipped(body: bytes, length: int | None = None, tail: bytes = b"") -> dict[str, Any]:
    """Return the environ of a gzip request, cut to `length` bytes and followed by a tail."""
    return sized(gzip.compress(body)[:length] + tail, HTTP_CONTENT_ENCODING="gzip")


SECOND = gzip.compress(b"abc")


class Trickle(io.BytesIO):
    """A body that arrives one byte at a time until the connection is reset."""

    def read(self, size: int | None = -1) -> bytes:
        """Return one byte, or raise ConnectionResetError at the end."""
        if content := super().read(min(1, size or 0)):
            return content
        raise ConnectionResetError


@given(
    st.binary(max_size=300),
    st.sampled_from(["", "identity", "gzip", "deflate", "raw deflate"]),
    st.sampled_from([sized, chunked]),
)
def test_bodies_are_read_to_their_end(
    body: bytes, encoding: str, environ: Callable[[bytes], dict[str, Any]]
) -> None:
    """Every encoding gives the same bytes; a Content-Length or compression proves completeness."""
    raw = zlib.compressobj(wbits=-15)
    encoded = {
        "gzip": gzip.compress(body),
        "deflate": zlib.compress(body),
        "raw deflate": raw.compress(body) + raw.flush(),
    }.get(encoding, body)
    headers = {"HTTP_CONTENT_ENCODING": encoding.removeprefix("raw ")}
    request = read_request(environ(encoded) | headers, 1000)
    compressed = encoding not in ("", "identity")
    assert (body, compressed or environ is sized) == (request.body, request.is_complete)


def test_end_of_a_body() -> None:
    """Reading stops at Content-Length; a request without a declared end has no body."""
    environ = {"wsgi.input": Trickle(b"abcd"), "CONTENT_LENGTH": "3"}
    assert b"abc" == read_request(environ, 10).body
    assert b"" == read_request({"wsgi.input": io.BytesIO(b"GET / HTTP/1.1")}, 10).body


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_members_of_gzip(members: list[bytes]) -> None:
    """A body of several joined gzip files is decompressed as one body."""
    body, encoded = b"".join(members), b"".join(map(gzip.compress, members))
    assert body == read_request(sized(encoded, HTTP_CONTENT_ENCODING="gzip"), 2000).body


def test_number_of_gzip_members_is_limited() -> None:
    """A body of empty members, which decompresses to nothing, is refused instead of read."""
    body = gzip.compress(b"") * (MAX_GZIP_MEMBERS + 2)
    with pytest.raises(BadInput, match="expected at most 1001 gzip members, found more"):
        read_request(sized(body, HTTP_CONTENT_ENCODING="gzip"), len(body))


def test_limit_covers_the_members_of_gzip() -> None:
    """The limit applies to all members of a gzip body together."""
    for count, limit in ((2, 99), (300, 14_999)):
        environ = sized(gzip.compress(bytes(50)) * count, HTTP_CONTENT_ENCODING="gzip")
        assert 413 == refusal(read_request, environ, limit)[0]


@pytest.mark.parametrize("environ", [sized, chunked, gzipped])
def test_limit_is_exact(environ: Callable[[bytes], dict[str, Any]]) -> None:
    """A body one byte above the limit gives status 413, compressed or not."""
    assert 100 == len(read_request(environ(b"x" * 100), 100).body)
    with pytest.raises(Refused, match="expected a body of at most 100 bytes, found more") as error:
        read_request(environ(b"x" * 101), 100)
    assert 413 == error.value.status


@pytest.mark.parametrize(
    ("environ", "detail"),
    [
        (sized(b"abc", "4"), "expected a body of 4 bytes, found 3"),
        (sized(b"", "٣"), "Content-Length: expected a number of bytes, found '٣'"),
        (sized(b"", "9" * 5000), "Content-Length: expected a number of bytes, found '9999999999"),
        (sized(b"abc", HTTP_CONTENT_ENCODING="gzip"), "not gzip: "),
        (gzipped(b"abc", length=20), "not gzip: it is truncated"),
        (gzipped(b"abc", tail=b"x"), "not gzip: it is truncated, or data follows its end"),
        (gzipped(b"abc", tail=SECOND[:20]), "not gzip: it is truncated, or data follows its end"),
        (gzipped(b"abc", tail=SECOND[:-8] + bytes(8)), "not gzip: it is truncated, or data fol"),
        (sized(b"abc", HTTP_CONTENT_ENCODING="deflate"), "not deflate: "),
        (sized(HTTP_INFERENCE_HEADER_CONTENT_LENGTH="x"), "Inference-Header-Content-Length: "),
    ],
)
def test_corrupt_bodies(environ: dict[str, Any], detail: str) -> None:
    """A malformed header, or one that contradicts the body, gives status 400 and the reason."""
    with pytest.raises(BadInput, match=f"^{re.escape(detail)}") as error:
        read_request(environ, 10_000)
    assert 400 == error.value.status


def test_headers_of_a_body() -> None:
    """The error 415 lists the known encodings; a media type is split from its parameters."""
    with pytest.raises(Refused, match="expected gzip or deflate, found br") as error:
        read_request(sized(HTTP_CONTENT_ENCODING="br"), 10)
    headers = (("Accept-Encoding", "gzip, deflate, identity"),)
    assert (415, headers) == (error.value.status, error.value.headers)
    request = read_request(sized(CONTENT_TYPE='Text/CSV; Header="x" ;rows=2; a'), 10)
    assert ("text/csv", {"header": "x", "rows": "2"}) == (request.content_type, request.parameters)
    request = read_request(sized(CONTENT_TYPE="application/json"), 10)
    assert ("application/json", {}) == (request.content_type, request.parameters)


@pytest.mark.parametrize(
    ("environ", "size"),
    [
        (sized(b"abc"), 3),
        (sized(b""), None),
        (sized(b"abcdef", "3"), 3),
        (sized(b"abc") | {"HTTP_EXPECT": "100-continue"}, None),
        (sized(b"abc") | {BODY_STARTED: True}, None),
        (sized(b"abc", str(MAX_DRAINED_BYTES + 1)), None),
        (chunked(b"abc"), None),
        (chunked(b"abc", HTTP_TRANSFER_ENCODING="chunked"), 3),
        (sized(b"abc", "x"), None),
        ({"wsgi.input": Trickle(), "CONTENT_LENGTH": "1"}, 0),
    ],
)
def test_rejected_bodies_are_drained(environ: dict[str, Any], size: int | None) -> None:
    """A small body is read to its end if the client has sent it and no parser has read it."""
    assert is_drainable(environ) == (size is not None)
    if size is not None:
        drain_body(environ)
        assert size == environ["wsgi.input"].tell()


class Memory(Receiver):
    """Records the sizes of the pieces, and refuses the first one above a limit."""

    def __init__(self, limit: int = 1 << 30) -> None:
        self.limit = limit
        self.pieces: list[int] = []
        self.size: int | None = None

    def expect(self, count: int) -> None:
        """Record a piece."""
        if sum(self.pieces) + count > self.limit:
            raise Refused(503, "full", reason="memory")
        self.pieces.append(count)

    def shrink(self, count: int) -> None:
        """Record the size of the complete body."""
        self.size = count


@pytest.mark.parametrize("environ", [sized, chunked])
def test_memory_is_reserved_before_a_piece_is_read(
    environ: Callable[[bytes], dict[str, Any]],
) -> None:
    """A large body is read in pieces; without memory for one, reading stops before it."""
    request, memory = environ(bytes(9 * PIECE_BYTES)), Memory()
    assert 9 * PIECE_BYTES == len(read_request(request, 9 * PIECE_BYTES, memory).body)
    assert [PIECE_BYTES] * 8 == memory.pieces[:8]
    request = environ(bytes(9 * PIECE_BYTES))
    with pytest.raises(Refused, match="full"):
        read_request(request, 9 * PIECE_BYTES, Memory(3 * PIECE_BYTES))
    assert 4 * PIECE_BYTES == request["wsgi.input"].tell()
    memory = Memory()
    read_request(environ(bytes(PIECE_BYTES)), PIECE_BYTES, memory)
    assert sum(memory.pieces) <= 1  # only a chunked body needs another read to find its end


def test_memory_of_a_compressed_body() -> None:
    """Memory for the largest possible content is reserved first, then reduced to its true size."""
    memory = Memory()
    read_request(gzipped(bytes(5000)), 9000, memory)
    assert ([9000], 5000) == (memory.pieces, memory.size)
    with pytest.raises(Refused, match="full"):
        read_request(gzipped(bytes(5000)), 9000, Memory(8999))
