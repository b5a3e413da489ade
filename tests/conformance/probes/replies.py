"""What may come back, and how it is judged: each expectation yields every way in which a reply differs from it."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, ClassVar, NamedTuple

import orjson

JSON = "application/json"
PROBLEM = "application/problem+json"
CSV = "text/csv"
BYTES = "application/octet-stream"
JSON_LENGTH = "inference-header-content-length"
ERROR_MEMBERS = ["type", "title", "status", "detail", "error", "request_id"]
MADE_ID = re.compile("[0-9a-f]{32}")
HEADERS = frozenset(
    (
        *(
            "allow",
            "accept-encoding",
            "connection",
            "content-length",
            "content-type",
            "date",
            "retry-after",
            "server",
        ),
        *(
            "content-security-policy",
            "cross-origin-opener-policy",
            "referrer-policy",
            "vary",
            "x-frame-options",
        ),
        *("x-content-type-options", "x-request-id", JSON_LENGTH),
    )
)
"""Of replies; whatever else came would have been put there by a caller."""
INTERNALS = re.compile(rb'Traceback|File "|\.py\b|site-packages|0x[0-9a-f]{8}')
"""What no reply shows."""


class Reply(NamedTuple):
    """An HTTP response."""

    status: int
    headers: Sequence[tuple[str, str]]
    """Names in lower case."""
    body: bytes
    closed: bool = False
    """Nothing can follow on this connection."""

    def header(self, name: str) -> str | None:
        """Return the value of a header, the values of a repeated one joined by commas."""
        values = [value for found, value in self.headers if found == name]
        return ", ".join(values) if values else None


class Expected(ABC):
    """The one right outcome of a request."""

    from_host: ClassVar[bool] = False
    """Whether the HTTP host answers it, before the application is asked."""

    @abstractmethod
    def faults(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong."""


def faults(expected: Expected, reply: Reply, request_id: str | None) -> list[str]:
    """Return what is wrong with a reply: what every reply of the service must show, and what this one must.

    Args:
        expected: the outcome.
        reply: what came.
        request_id: the caller's, where it is fit to be echoed; None where the service must make one.
    """
    found = list(expected.faults(reply))
    if found and reply.status != getattr(expected, "status", 200):
        found = found[:1]  # the rest follows from it
    if expected.from_host:
        return found
    given = reply.header("x-request-id") or ""
    if request_id is not None and given != request_id:
        found.append(f"X-Request-ID: expected {request_id!r}, found {given!r}")
    elif request_id is None and not MADE_ID.fullmatch(given):
        found.append(f"X-Request-ID: expected 32 hex digits, found {given!r}")
    if reply.header("x-content-type-options") != "nosniff":
        found.append("X-Content-Type-Options: expected nosniff")
    if unknown := {name for name, _ in reply.headers} - HEADERS:
        found.append(f"headers: expected none beside the known, found {', '.join(sorted(unknown))}")
    if reply.status >= 400 and (shown := INTERNALS.search(reply.body)):
        found.append(f"shows internals: {shown[0]!r}")
    return found


@dataclass(frozen=True)
class Refusal(Expected):
    """The one error shape: RFC 9457's members, `error`, `request_id`, and `where` iff the fault has a place."""

    status: int
    where: str | None = None
    says: str = ""
    """Stands in the detail."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """In lower case; the reply's hold each value."""
    media_type: str = JSON
    empty: bool = False
    """The reply to HEAD: the same head, and no body."""

    def faults(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong."""
        yield from heading(reply, self.status, self.media_type)
        for name, value in self.headers.items():
            if value not in (reply.header(name) or ""):
                yield f"{name}: expected {value!r}, found {reply.header(name)!r}"
        if self.empty:
            if reply.body:
                yield "expected no body"
            return
        document, wrong = parsed(reply.body)
        yield from wrong
        if document is None:
            return
        members = ERROR_MEMBERS + (["where"] if self.where else [])
        if sorted(document) != sorted(members):
            yield f"members: expected {members}, found {list(document)}"
        expected: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "error": document.get("detail"),
            "request_id": reply.header("x-request-id"),
            **({"where": self.where} if self.where else {}),
        }
        for name, value in expected.items():
            if document.get(name) != value:
                yield f"{name}: expected {value!r}, found {document.get(name)!r}"
        detail = document.get("detail")
        if not isinstance(detail, str) or not detail or len(detail) > 1000:
            yield f"detail: expected a line, found {detail!r:.200}"
        elif self.where and not detail.startswith(f"{self.where}: "):
            yield f"detail: expected to begin with {self.where!r}, found {detail!r}"
        elif self.says not in detail:
            yield f"detail: expected {self.says!r} in it, found {detail!r}"


@dataclass(frozen=True)
class Document(Expected):
    """A JSON document that is known, whole or in part."""

    members: Mapping[str, Any]
    whole: bool = True
    """It has no other members."""
    empty: bool = False
    """The reply to HEAD: the same head, and no body."""

    def faults(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong."""
        yield from heading(reply, 200, JSON)
        if self.empty:
            if reply.body:
                yield "expected no body"
            return
        document, wrong = parsed(reply.body)
        yield from wrong
        if document is None:
            return
        if self.whole and set(document) != set(self.members):
            yield f"members: expected {list(self.members)}, found {list(document)}"
        for name, value in self.members.items():
            if not same(document.get(name), value):
                yield f"{name}: expected {value!s:.200}, found {document.get(name)!s:.200}"


@dataclass(frozen=True)
class Text(Expected):
    """A page, or another text."""

    media_type: str
    holds: Sequence[str] = ()
    empty: bool = False

    def faults(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong."""
        if reply.status != 200:
            yield f"status: expected 200, found {reply.status}"
            return
        if (reply.header("content-type") or "").partition(";")[0] != self.media_type:
            yield f"Content-Type: expected {self.media_type}, found {reply.header('content-type')}"
        if self.empty:
            if reply.body:
                yield "expected no body"
            return
        text = reply.body.decode()
        yield from (f"expected {part!r} in it" for part in self.holds if part not in text)


@dataclass(frozen=True)
class Allowed(Expected):
    """The reply to OPTIONS: what is allowed, and nothing else."""

    method: str
    status: int = 200

    def faults(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong."""
        if reply.status != self.status:
            yield f"status: expected {self.status}, found {reply.status}"
        allowed = re.split(r", *", reply.header("allow") or "")
        if self.method not in allowed or {"POST": "GET", "GET": "POST"}[self.method] in allowed:
            yield f"allow: expected {self.method}, found {allowed}"
        if reply.body:
            yield "expected no body"


@dataclass(frozen=True)
class HostRefusal(Expected):
    """What the host (hyper, under granian) answers to what is not HTTP: a status, no body, and the connection ends."""

    status: int
    from_host = True

    def faults(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong."""
        if (reply.status, reply.body, reply.closed) != (self.status, b"", True):
            found = f"{reply.status}, {len(reply.body)} bytes, {'closed' if reply.closed else 'kept open'}"
            yield f"expected {self.status}, no body, closed; found {found}"


@dataclass(frozen=True)
class Closed(Expected):
    """The host ends the connection and says nothing."""

    status: int = 0
    from_host = True

    def faults(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong."""
        if reply.status:
            yield f"expected the connection to be closed without a reply, found {reply.status}"


def heading(reply: Reply, status: int, media_type: str) -> Iterator[str]:
    """Yield what is wrong with a reply's status and media type."""
    if reply.status != status:
        yield f"status: expected {status}, found {reply.status}: {reply.body[:300].decode('utf-8', 'replace')}"
    elif reply.header("content-type") != media_type:
        yield f"Content-Type: expected {media_type}, found {reply.header('content-type')}"


def parsed(body: bytes) -> tuple[dict[str, Any] | None, list[str]]:
    """Read a JSON object; orjson takes neither NaN nor Infinity."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return None, [f"expected JSON: {error}: {body[:200]!r}"]
    if not isinstance(document, dict):
        return None, [f"expected an object, found {document!s:.200}"]
    return document, []


def same(found: Any, expected: Any) -> bool:
    """Compare JSON values; 1, 1.0 and true differ."""
    if isinstance(expected, list | tuple):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(map(same, found, expected))
        )
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and found.keys() == expected.keys()
            and all(same(found[key], value) for key, value in expected.items())
        )
    return type(found) is type(expected) and bool(found == expected)
