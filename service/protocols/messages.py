"""TODO: service.protocols.messages."""

import re
from typing import NamedTuple

from service.errors import Refused

JSON = "application/json"
PROBLEM = "application/problem+json"
BYTES = "application/octet-stream"
CSV = "text/csv"


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


def complete_body(request: Request) -> bytes:
    """Return a body that is nothing but rows, of which a part would be rows too.

    Raises:
        Refused: 411, nobody can tell whether they are all there: a host says of a chunked body that breaks off what
            it says of one that ends.
    """
    if request.body and not request.whole:
        detail = (
            "expected Content-Length: of rows in chunks nobody can tell whether they are all there"
        )
        raise Refused(411, detail, reason="length_required")
    return request.body


def negotiate(accept: str, offered: tuple[str, ...]) -> str:
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
            406,
            f"Accept: expected one of {', '.join(offered)}, found {accept[:80]}",
            reason="not_acceptable",
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
