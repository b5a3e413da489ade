"""HTTP as the dialects see it: a Request that was read under caps, a Reply, and the one error shape.

A request's body is read here and nowhere else, so every cap on its size stands here.
"""

import random
import re
import threading
import zlib
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson

from service.payload import UNPARSEABLE, BadInput

JSON = "application/json"
PROBLEM = "application/problem+json"
BYTES = "application/octet-stream"
CSV = "text/csv"

Environ = dict[str, Any]
"""PEP 3333's: what a WSGI host says of a request."""

CHUNK = 1 << 16
FINISHED = 1 << 20
"""Bytes of a refused request's body that are read to no purpose, at most."""
FINISHING = 16
"""Bodies that are so read at a time."""
READ = "service.read"
"""Stands in the environ once somebody has begun to read the body."""
MOST_DIGITS = 15
"""Of a length in a header: it stays an exact number everywhere."""
STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}

_finishing = threading.Semaphore(FINISHING)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACE = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class Refused(Exception):
    """A request that is not answered, for a reason that is not in its payload.

    Attributes:
        status: of the reply.
        reason: one word for the metrics.
        headers: of the reply, beside the usual.
    """

    def __init__(self, status: int, detail: str, *, reason: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(detail)
        self.status, self.reason, self.headers = status, reason, headers


class Request(NamedTuple):
    """What a dialect is given."""

    body: bytes
    """Decompressed."""
    content_type: str = ""
    """The media type alone, in lower case."""
    accept: str = ""
    """The header as it came."""
    json_length: int | None = None
    """Bytes of JSON before the tensors, as the Open Inference Protocol's binary extension counts them."""
    whole: bool = True
    """Whether the body is known to be all of it, by Content-Length or by its compression's own end."""


class Reply(NamedTuple):
    """What is answered."""

    body: bytes
    content_type: str = JSON
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


def read(environ: Environ, most_bytes: int) -> Request:
    """Read a request, its body decompressed, and no more than `most_bytes` of it in either form.

    Raises:
        Refused: 413 for a larger body, 415 for an unknown Content-Encoding.
        BadInput: 400 for a body that is cut short or does not decompress, or a length that is no number.
    """
    stream, stated = environ["wsgi.input"], environ.get("CONTENT_LENGTH")
    environ[READ] = True
    if stated:
        length = _length(stated, "Content-Length")
        if length > most_bytes:
            raise _too_large(most_bytes)
        body, whole = stream.read(length), True
        if len(body) < length:
            body = _rest(stream, body, length)
    elif environ.get("wsgi.input_terminated"):
        body, whole = _chunks(stream, most_bytes), False
    else:  # nobody says where a body ends, so there is none
        body, whole = b"", False
    encoding = environ.get("HTTP_CONTENT_ENCODING")
    if encoding and (encoding := encoding.strip().lower()) != "identity":
        body, whole = _decompress(body, encoding, most_bytes), True
    json_length = environ.get("HTTP_INFERENCE_HEADER_CONTENT_LENGTH")
    if json_length is not None:
        json_length = _length(json_length, "Inference-Header-Content-Length")
    content_type = environ.get("CONTENT_TYPE", "")
    if content_type != JSON:
        content_type = content_type.partition(";")[0].strip().lower()
    return Request(body, content_type, environ.get("HTTP_ACCEPT", ""), json_length, whole)


def rows_alone(request: Request) -> bytes:
    """Return a body that is nothing but rows, of which a part would be rows too.

    Raises:
        Refused: 411, nobody can tell whether they are all there: a host says of a chunked body that breaks off what
            it says of one that ends.
    """
    if request.body and not request.whole:
        detail = "expected Content-Length: of rows in chunks nobody can tell whether they are all there"
        raise Refused(411, detail, reason="length_required")
    return request.body


def finish_reading(environ: Environ) -> None:
    """Read the body of a refused request, if nobody has and it is not large.

    A host closes the connection of a caller whose body was not read to its end, and the reply may be lost with it.
    Few at a time, because the rest of the body may never come.
    """
    stated = environ.get("CONTENT_LENGTH") or (str(FINISHED) if environ.get("HTTP_TRANSFER_ENCODING") else "")
    small = len(stated) <= 7 and stated.isdecimal() and int(stated) <= FINISHED
    # Whoever expects a word before sending the body has the refusal for it.
    if environ.get(READ) or not small or "HTTP_EXPECT" in environ or not _finishing.acquire(blocking=False):
        return
    try:
        environ["wsgi.input"].read(int(stated))
    except OSError:  # whoever asked has gone
        pass
    finally:
        _finishing.release()


def request_id(environ: Environ) -> str:
    """Return the caller's X-Request-ID, or a new one where there is none that is fit for a log."""
    given = environ.get("HTTP_X_REQUEST_ID")
    if given and _REQUEST_ID.fullmatch(given):
        return str(given)
    # No secret; uuid4() would ask the system, and give up Python's lock to do so.
    return random.getrandbits(128).to_bytes(16, "big").hex()


def trace_id(environ: Environ) -> str | None:
    """Return the trace that a W3C traceparent header names."""
    given = environ.get("HTTP_TRACEPARENT")
    match = _TRACE.fullmatch(given) if given else None
    return match[1] if match else None


def problem(
    status: int,
    detail: str,
    *,
    request_id: str,
    where: str | None = None,
    accept: str = "",
    headers: tuple[tuple[str, str], ...] = (),
) -> Reply:
    """Make the one error shape: RFC 9457's members, and `error`, which existing clients read.

    Args:
        status: of HTTP.
        detail: the one line that a person should read.
        request_id: stands in the log too.
        where: the place in the payload, such as instances[3][17].
        accept: the caller's Accept; RFC 9457's media type is for those who ask for it first.
        headers: of the reply.
    """
    text = f"{where}: {detail}" if where else detail
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": text,
        "error": text,
        "request_id": request_id,
    }
    if where:
        document["where"] = where
    content_type = PROBLEM if accept.partition(",")[0].partition(";")[0].strip() == PROBLEM else JSON
    return Reply(orjson.dumps(document), content_type, status, headers)


def acceptable(accept: str, offered: tuple[str, ...]) -> str:
    """Return the offered media type that an Accept header ranks highest, the first of equals (RFC 9110, 12.5.1).

    Raises:
        Refused: 406, none of them is accepted.
    """
    if not accept or accept == "*/*":
        return offered[0]
    ranked = [(_quality(accept, media_type), -index) for index, media_type in enumerate(offered)]
    quality, index = max(ranked)
    if quality <= 0:
        raise Refused(
            406, f"Accept: expected one of {', '.join(offered)}, found {accept[:80]}", reason="not_acceptable"
        )
    return offered[-index]


def _quality(accept: str, media_type: str) -> float:
    """Return how much an Accept header wants a media type, by its most specific range; 0 for not at all."""
    best = (-1, 0.0)
    for part in accept.lower().split(","):
        name, _, parameters = part.partition(";")
        name = name.strip()
        if name not in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
            continue
        found = re.search(r"(?:^|;)\s*q=([01](?:\.\d{0,3})?)\s*(?:;|$)", parameters)
        best = max(best, (len(name), min(float(found[1]), 1.0) if found else 1.0))
    return best[1]


def _rest(stream: Any, body: bytes, length: int) -> bytes:
    """Return the whole of a body of which the host gave a part; raise BadInput where it ends early."""
    while len(body) < length:
        if not (more := stream.read(length - len(body))):
            raise BadInput(f"expected a body of {length} bytes, found {len(body)}", status=UNPARSEABLE)
        body += more
    return body


def _chunks(stream: Any, most_bytes: int) -> bytes:
    """Return a body whose length nobody stated."""
    parts, size = [], 0
    while part := stream.read(CHUNK):
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
            415, detail, reason="unsupported_media_type", headers=(("Accept-Encoding", "gzip, deflate, identity"),)
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
        raise BadInput(f"not {encoding}: it is cut short, or goes on after its end", status=UNPARSEABLE)
    return found


def _length(stated: str, name: str) -> int:
    if not (stated.isascii() and stated.isdigit() and len(stated) <= MOST_DIGITS):
        raise BadInput(f"{name}: expected a number of bytes, found {stated[:40]!r}", status=UNPARSEABLE)
    return int(stated)


def _too_large(most_bytes: int) -> Refused:
    return Refused(413, f"expected a body of at most {most_bytes} bytes, found more", reason="too_large")
