"""Reading of request bodies within limits; the only module that uses wsgi.input."""

import contextlib
import gzip
import io
import zlib
from typing import Any

from werkzeug.http import parse_options_header

from service.errors import UNPARSEABLE, BadInput, Refused
from service.protocols.messages import JSON, Request

Environ = dict[str, Any]
"""The environ of a WSGI request (PEP 3333)."""
PIECE_BYTES = 1 << 14
"""Size in bytes of the pieces in which a body is read; the time of each of them is limited."""
MAX_DEFLATE_RATIO = 1032
"""Maximum ratio of the sizes of data before and after deflate (https://zlib.net/zlib_tech.html)."""
MAX_GZIP_MEMBERS = 1000
"""Maximum number of members after the first one in a gzip body; each takes microseconds to read."""
GZIP_MEMBER_START = b"\x1f\x8b\x08"
"""First bytes of a gzip member (RFC 1952, 2.3.1)."""
MAX_DRAINED_BYTES = 1 << 20
"""Maximum number of bytes to drain from the body of a rejected request."""
BODY_STARTED = "service.body_started"
"""Key that is set in the environ when reading of the body begins."""
MAX_LENGTH_DIGITS = 15
"""Maximum number of digits of a length in a header; such numbers are exact even as float64."""


class Receiver:
    """Accounts for the memory and the progress of one body; this class accepts every body."""

    __slots__ = ()

    def expect(self, count: int) -> None:
        """Reserve memory for `count` further bytes, or raise Refused."""

    def note_progress(self) -> None:
        """Note that a piece has arrived, for which no memory is reserved."""

    def shrink(self, count: int) -> None:
        """Reduce the reserved memory to that of a complete body of `count` bytes."""


UNLIMITED = Receiver()


def read_request(environ: Environ, max_bytes: int, receiver: Receiver = UNLIMITED) -> Request:
    """Read and decompress a request; max_bytes limits its body before and after decompression.

    The memory for the body is reserved before it is read, except for the first PIECE_BYTES.

    Raise Refused: 413 for a larger body, 415 for an unknown Content-Encoding, 503 without memory;
    or BadInput (400) for a truncated or corrupt body, or a length that is not a number.
    """
    stream, header = environ["wsgi.input"], environ.get("CONTENT_LENGTH")
    environ[BODY_STARTED] = True
    if header:
        length = _parse_length(header, "Content-Length")
        if length > max_bytes:
            raise _too_large(max_bytes)
        body, is_complete = stream.read(min(length, PIECE_BYTES)), True
        if len(body) < length:
            body = _read_remaining(stream, body, length, receiver)
            if len(body) < length:
                detail = f"expected a body of {length} bytes, found {len(body)}"
                raise BadInput(detail, status=UNPARSEABLE)
    elif environ.get("wsgi.input_terminated"):
        body, is_complete = stream.read(PIECE_BYTES), False
        if body:
            body = _read_remaining(stream, body, max_bytes + 1, receiver)
            if len(body) > max_bytes:
                raise _too_large(max_bytes)
    else:  # a request with neither a length nor chunks has no body
        body, is_complete = b"", False
    encoding = environ.get("HTTP_CONTENT_ENCODING")
    if encoding and (encoding := encoding.strip().lower()) != "identity":
        receiver.expect(min(max_bytes, MAX_DEFLATE_RATIO * len(body)))
        body, is_complete = _decompress(body, encoding, max_bytes), True
        receiver.shrink(len(body))
    json_length = environ.get("HTTP_INFERENCE_HEADER_CONTENT_LENGTH")
    if json_length is not None:
        json_length = _parse_length(json_length, "Inference-Header-Content-Length")
    content_type, accept = environ.get("CONTENT_TYPE", ""), environ.get("HTTP_ACCEPT", "")
    if content_type == JSON:
        return Request(body, content_type, accept, json_length, is_complete)
    content_type, parameters = parse_options_header(content_type)
    return Request(body, content_type.lower(), accept, json_length, is_complete, parameters)


def is_drainable(environ: Environ) -> bool:
    """Return whether to read and discard the body of a rejected request, unless it has been read.

    Hosts close a connection with an unread body, and the client may then lose the reply. A large
    body is not worth reading.
    """
    # A client that sent Expect: 100-continue receives the rejection before it sends the body.
    if environ.get(BODY_STARTED) or "HTTP_EXPECT" in environ:
        return False
    header = environ.get("CONTENT_LENGTH") or ""
    if not header:
        return "HTTP_TRANSFER_ENCODING" in environ
    return len(header) <= 7 and header.isdecimal() and 0 < int(header) <= MAX_DRAINED_BYTES


def drain_body(environ: Environ, receiver: Receiver = UNLIMITED) -> None:
    """Read and discard a body, up to MAX_DRAINED_BYTES."""
    stream = environ["wsgi.input"]
    remaining = int(environ.get("CONTENT_LENGTH") or MAX_DRAINED_BYTES)
    with contextlib.suppress(OSError):  # the client closed the connection
        while remaining > 0 and (part := stream.read(min(PIECE_BYTES, remaining))):
            remaining -= len(part)
            receiver.note_progress()


def _read_remaining(stream: Any, body: bytes, end: int, receiver: Receiver) -> bytes:
    """Read the rest of a body after its first piece, up to `end` bytes in all, or to its end.

    The body is read in pieces because the host does not tell how much of a piece has arrived.
    """
    parts, size = [body], len(body)
    while size < end:
        count = min(PIECE_BYTES, end - size)
        receiver.expect(count)
        if not (part := stream.read(count)):
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Decompress gzip or deflate; some clients send deflate without zlib's header."""
    if encoding not in ("gzip", "deflate"):
        detail = f"Content-Encoding: expected gzip or deflate, found {encoding[:40]}"
        headers = (("Accept-Encoding", "gzip, deflate, identity"),)
        raise Refused(415, detail, reason="unsupported_media_type", headers=headers)
    for window_bits in (31,) if encoding == "gzip" else (15, -15):
        decompressor = zlib.decompressobj(window_bits)
        try:
            content = decompressor.decompress(body, max_bytes + 1)
            break
        except zlib.error as error:
            reason = str(error)
    else:
        raise BadInput(f"not {encoding}: {reason}", status=UNPARSEABLE)
    rest = decompressor.unused_data
    is_joined = encoding == "gzip" and rest.startswith(GZIP_MEMBER_START)
    if is_joined and len(content) <= max_bytes:
        # These bytes may also occur within compressed data, but only about once in 16 MiB.
        if rest.count(GZIP_MEMBER_START) > MAX_GZIP_MEMBERS:
            detail = f"expected at most {MAX_GZIP_MEMBERS + 1} gzip members, found more"
            raise BadInput(detail, status=UNPARSEABLE)
        # Joined gzip files are one gzip file with several members (RFC 1952, 2.2).
        members = gzip.GzipFile(fileobj=io.BytesIO(rest))
        with contextlib.suppress(OSError, EOFError, zlib.error):
            content += members.read(max_bytes + 1 - len(content))
            rest = b""
    if len(content) > max_bytes:
        raise _too_large(max_bytes)
    if rest or not decompressor.eof:
        detail = f"not {encoding}: it is truncated, or data follows its end"
        raise BadInput(detail, status=UNPARSEABLE)
    return content


def _parse_length(header: str, name: str) -> int:
    if not (header.isascii() and header.isdigit() and len(header) <= MAX_LENGTH_DIGITS):
        detail = f"{name}: expected a number of bytes, found {header[:40]!r}"
        raise BadInput(detail, status=UNPARSEABLE)
    return int(header)


def _too_large(max_bytes: int) -> Refused:
    detail = f"expected a body of at most {max_bytes} bytes, found more"
    return Refused(413, detail, reason="too_large")
