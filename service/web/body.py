"""Reading of request bodies within limits; the only module that uses wsgi.input."""

import gzip
import io
import threading
import zlib
from typing import Any

from werkzeug.http import parse_options_header

from service.errors import UNPARSEABLE, BadInput, Refused
from service.protocols.messages import JSON, Request

Environ = dict[str, Any]
"""The environ of a WSGI request (PEP 3333)."""
CHUNK_BYTES = 1 << 16
MAX_DRAINED_BYTES = 1 << 20
"""Maximum number of bytes to drain from the body of a rejected request."""
MAX_CONCURRENT_DRAINS = 16
"""Maximum number of rejected bodies that are drained at the same time."""
BODY_STARTED = "service.body_started"
"""Key that is set in the environ when reading of the body begins."""
MAX_LENGTH_DIGITS = 15
"""Maximum number of digits of a length in a header; such numbers are exact even as float64."""
_drain_slots = threading.Semaphore(MAX_CONCURRENT_DRAINS)


def read_request(environ: Environ, max_bytes: int) -> Request:
    """Read and decompress a request; max_bytes limits its body before and after decompression.

    Raise Refused: 413 for a larger body, 415 for an unknown Content-Encoding; or BadInput (400) for
    a truncated or corrupt body, or a length that is not a number.
    """
    stream, header = environ["wsgi.input"], environ.get("CONTENT_LENGTH")
    environ[BODY_STARTED] = True
    if header:
        length = _parse_length(header, "Content-Length")
        if length > max_bytes:
            raise _too_large(max_bytes)
        body, is_complete = stream.read(length), True
        if len(body) < length:
            body = _read_remaining(stream, body, length)
    elif environ.get("wsgi.input_terminated"):
        body, is_complete = _read_chunked(stream, max_bytes), False
    else:  # a request with neither a length nor chunks has no body
        body, is_complete = b"", False
    encoding = environ.get("HTTP_CONTENT_ENCODING")
    if encoding and (encoding := encoding.strip().lower()) != "identity":
        body, is_complete = _decompress(body, encoding, max_bytes), True
    json_length = environ.get("HTTP_INFERENCE_HEADER_CONTENT_LENGTH")
    if json_length is not None:
        json_length = _parse_length(json_length, "Inference-Header-Content-Length")
    content_type, accept = environ.get("CONTENT_TYPE", ""), environ.get("HTTP_ACCEPT", "")
    if content_type == JSON:
        return Request(body, content_type, accept, json_length, is_complete)
    content_type, parameters = parse_options_header(content_type)
    return Request(body, content_type.lower(), accept, json_length, is_complete, parameters)


def drain_body(environ: Environ) -> None:
    """Read and discard the body of a rejected request, unless it is large or has been read.

    Hosts close a connection with an unread body, and the client may then lose the reply. The number
    of concurrent drains is limited, because the rest of a body may never arrive.
    """
    header = environ.get("CONTENT_LENGTH") or ""
    if not header and environ.get("HTTP_TRANSFER_ENCODING"):
        header = str(MAX_DRAINED_BYTES)
    small = len(header) <= 7 and header.isdecimal() and int(header) <= MAX_DRAINED_BYTES
    # A client that sent Expect: 100-continue receives the rejection before it sends the body.
    if environ.get(BODY_STARTED) or not small or "HTTP_EXPECT" in environ:
        return
    if not _drain_slots.acquire(blocking=False):
        return
    try:
        environ["wsgi.input"].read(int(header))
    except OSError:  # the client closed the connection
        pass
    finally:
        _drain_slots.release()


def _read_remaining(stream: Any, body: bytes, length: int) -> bytes:
    """Read the rest of a body after a short read; raise BadInput if the body ends early."""
    while len(body) < length:
        if not (part := stream.read(length - len(body))):
            detail = f"expected a body of {length} bytes, found {len(body)}"
            raise BadInput(detail, status=UNPARSEABLE)
        body += part
    return body


def _read_chunked(stream: Any, max_bytes: int) -> bytes:
    """Read a body without Content-Length up to its end, which the host marks."""
    parts, size = [], 0
    while part := stream.read(CHUNK_BYTES):
        parts.append(part)
        size += len(part)
        if size > max_bytes:
            raise _too_large(max_bytes)
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
    if encoding == "gzip" and rest and len(content) <= max_bytes:
        try:  # the further members of a file that several gzip files were joined into
            with gzip.GzipFile(fileobj=io.BytesIO(rest)) as members:
                content += members.read(max_bytes + 1 - len(content))
            rest = b""
        except (OSError, EOFError, zlib.error):
            pass  # reported below
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
