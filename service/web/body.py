"""HTTP as the dialects see it: a Request that was read under caps, a Reply, and the one error shape.

A request's body is read here and nowhere else, so every cap on its size stands here.
"""

import threading
import zlib
from typing import Any

from service.errors import UNPARSEABLE, BadInput, Refused
from service.protocols.messages import JSON, Request

Environ = dict[str, Any]
"""PEP 3333's: what a WSGI host says of a request."""
CHUNK_BYTES = 1 << 16
MAX_DRAINED_BYTES = 1 << 20
"""Bytes of a refused request's body that are read to no purpose, at most."""
MAX_CONCURRENT_DRAINS = 16
"""Bodies that are so read at a time."""
BODY_STARTED = "service.read"
"""Stands in the environ once somebody has begun to read the body."""
MAX_LENGTH_DIGITS = 15
"""Of a length in a header: it stays an exact number everywhere."""
_drain_slots = threading.Semaphore(MAX_CONCURRENT_DRAINS)


def read_request(environ: Environ, most_bytes: int) -> Request:
    """Read a request, its body decompressed, and no more than `most_bytes` of it in either form.

    Raises:
        Refused: 413 for a larger body, 415 for an unknown Content-Encoding.
        BadInput: 400 for a body that is cut short or does not decompress, or a length that is no number.
    """
    stream, stated = environ["wsgi.input"], environ.get("CONTENT_LENGTH")
    environ[BODY_STARTED] = True
    if stated:
        length = _parse_length(stated, "Content-Length")
        if length > most_bytes:
            raise _too_large(most_bytes)
        body, whole = stream.read(length), True
        if len(body) < length:
            body = _read_remaining(stream, body, length)
    elif environ.get("wsgi.input_terminated"):
        body, whole = _read_chunked(stream, most_bytes), False
    else:  # nobody says where a body ends, so there is none
        body, whole = b"", False
    encoding = environ.get("HTTP_CONTENT_ENCODING")
    if encoding and (encoding := encoding.strip().lower()) != "identity":
        body, whole = _decompress(body, encoding, most_bytes), True
    json_length = environ.get("HTTP_INFERENCE_HEADER_CONTENT_LENGTH")
    if json_length is not None:
        json_length = _parse_length(json_length, "Inference-Header-Content-Length")
    content_type = environ.get("CONTENT_TYPE", "")
    if content_type != JSON:
        content_type = content_type.partition(";")[0].strip().lower()
    return Request(body, content_type, environ.get("HTTP_ACCEPT", ""), json_length, whole)


def drain_body(environ: Environ) -> None:
    """Read the body of a refused request, if nobody has and it is not large.

    A host closes the connection of a caller whose body was not read to its end, and the reply may be lost with it.
    Few at a time, because the rest of the body may never come.
    """
    stated = environ.get("CONTENT_LENGTH") or (
        str(MAX_DRAINED_BYTES) if environ.get("HTTP_TRANSFER_ENCODING") else ""
    )
    small = len(stated) <= 7 and stated.isdecimal() and int(stated) <= MAX_DRAINED_BYTES
    # Whoever expects a word before sending the body has the refusal for it.
    if (
        environ.get(BODY_STARTED)
        or not small
        or "HTTP_EXPECT" in environ
        or not _drain_slots.acquire(blocking=False)
    ):
        return
    try:
        environ["wsgi.input"].read(int(stated))
    except OSError:  # whoever asked has gone
        pass
    finally:
        _drain_slots.release()


def _read_remaining(stream: Any, body: bytes, length: int) -> bytes:
    """Return the whole of a body of which the host gave a part; raise BadInput where it ends early."""
    while len(body) < length:
        if not (more := stream.read(length - len(body))):
            raise BadInput(
                f"expected a body of {length} bytes, found {len(body)}", status=UNPARSEABLE
            )
        body += more
    return body


def _read_chunked(stream: Any, most_bytes: int) -> bytes:
    """Return a body whose length nobody stated."""
    parts, size = [], 0
    while part := stream.read(CHUNK_BYTES):
        parts.append(part)
        size += len(part)
        if size > most_bytes:
            raise _too_large(most_bytes)
    return b"".join(parts)


def _decompress(body: bytes, encoding: str, most_bytes: int) -> bytes:
    """Undo gzip or deflate; the latter is zlib's form, or as some clients have it the bare stream."""
    if encoding not in ("gzip", "deflate"):
        detail = f"Content-Encoding: expected gzip or deflate, found {encoding[:40]}"
        raise Refused(
            415,
            detail,
            reason="unsupported_media_type",
            headers=(("Accept-Encoding", "gzip, deflate, identity"),),
        )
    for window in (31,) if encoding == "gzip" else (15, -15):
        engine = zlib.decompressobj(window)
        try:
            found = engine.decompress(body, most_bytes + 1)
            break
        except zlib.error as error:
            reason = str(error)
    else:
        raise BadInput(f"not {encoding}: {reason}", status=UNPARSEABLE)
    if len(found) > most_bytes:
        raise _too_large(most_bytes)
    if not engine.eof or engine.unused_data:
        raise BadInput(
            f"not {encoding}: it is cut short, or goes on after its end", status=UNPARSEABLE
        )
    return found


def _parse_length(stated: str, name: str) -> int:
    if not (stated.isascii() and stated.isdigit() and len(stated) <= MAX_LENGTH_DIGITS):
        raise BadInput(
            f"{name}: expected a number of bytes, found {stated[:40]!r}", status=UNPARSEABLE
        )
    return int(stated)


def _too_large(most_bytes: int) -> Refused:
    return Refused(
        413, f"expected a body of at most {most_bytes} bytes, found more", reason="too_large"
    )
