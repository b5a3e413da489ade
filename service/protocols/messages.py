"""The types of requests and replies in all protocols, and the negotiation of a media type."""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from service.errors import MAX_SHOWN_CHARACTERS, Refused

JSON = "application/json"
PROBLEM = "application/problem+json"
BYTES = "application/octet-stream"
CSV = "text/csv"
CURL_DEFAULT = "application/x-www-form-urlencoded"
"""Content-Type that curl sends unless the user sets another one."""


class Request(NamedTuple):
    """The parts of an HTTP request that protocols read."""

    body: bytes
    """Decompressed body."""
    content_type: str = ""
    """Media type without parameters, in lower case; empty without the header."""
    accept: str = ""
    """Accept header, unparsed."""
    json_length: int | None = None
    """Number of bytes of JSON before binary tensors (Open Inference Protocol, binary extension)."""
    is_complete: bool = True
    """Whether Content-Length or the end of the compressed data proves that no byte is missing."""
    parameters: Mapping[str, str] = MappingProxyType({})
    """Parameters of Content-Type by name in lower case."""


class Reply(NamedTuple):
    """The parts of an HTTP reply that protocols write."""

    body: bytes
    content_type: str = JSON
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    parts: Iterable[bytes] | None = None
    """The body in parts that the host sends one after the other; None to send it as a whole."""


def complete_body(request: Request) -> bytes:
    """Return the body of a request in a format without an end marker, such as CSV.

    Raise Refused (411) for a chunked body, because WSGI hosts do not report its truncation, and a
    truncated table is a valid, shorter table.
    """
    if request.body and not request.is_complete:
        detail = "expected Content-Length: a truncated chunked body of rows cannot be detected"
        raise Refused(411, detail, reason="length_required")
    return request.body


def negotiate(accept: str, offered: tuple[str, ...]) -> str:
    """Return the offered media type that an Accept header prefers (RFC 9110, 12.5.1).

    Among equally preferred types, the first one offered wins. Raise Refused (406) if the header
    accepts none of them.
    """
    if not accept or accept == "*/*":
        return offered[0]
    ranked = [(_quality(accept, media_type), -index) for index, media_type in enumerate(offered)]
    quality, index = max(ranked)
    if quality <= 0:
        detail = f"expected one of {', '.join(offered)}, found {accept[:MAX_SHOWN_CHARACTERS]}"
        raise Refused(406, f"Accept: {detail}", reason="not_acceptable")
    return offered[-index]


def _quality(accept: str, media_type: str) -> float:
    """Return a media type's quality (q) by the most specific matching range; 0 rejects it."""
    best = (-1, 0.0)
    for part in accept.lower().split(","):
        name, _, parameters = part.partition(";")
        name = name.strip()
        if name not in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
            continue
        match = re.search(r"(?:^|;)\s*q=([01](?:\.\d{0,3})?)\s*(?:;|$)", parameters)
        best = max(best, (len(name), min(float(match[1]), 1.0) if match else 1.0))
    return best[1]
