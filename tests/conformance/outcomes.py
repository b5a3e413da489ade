"""Expected outcomes of requests; each one reports how an actual reply differs from it."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http import HTTPStatus
from typing import Any, ClassVar, NamedTuple

import orjson

JSON = "application/json"
PROBLEM = "application/problem+json"
CSV = "text/csv"
BYTES = "application/octet-stream"
JSON_LENGTH = "inference-header-content-length"
GENERATED_ID = re.compile("[0-9a-f]{32}")
REPLY_HEADERS = {
    *("accept-encoding", "allow", "connection", "content-length", "content-security-policy"),
    *("content-type", "cross-origin-opener-policy", "date", JSON_LENGTH, "referrer-policy"),
    *("retry-after", "server", "vary", "x-content-type-options", "x-frame-options"),
    "x-request-id",
}
"""All headers that a reply may have, whatever the request contains."""
INTERNALS = re.compile(rb'Traceback|File "|\.py\b|site-packages|0x[0-9a-f]{8}')
"""Implementation details that no error reply may reveal."""
MAX_DETAIL_CHARACTERS = 1000
ANYWHERE = "*"
"""Value of ErrorReply.where that stands for any place or none."""
HOST_STATUSES = (0, 400, 414, 431)
"""Statuses of replies of granian's HTTP library; 0 is a connection closed without a reply."""


class Reply(NamedTuple):
    """An HTTP response."""

    status: int
    headers: Sequence[tuple[str, str]]
    """Pairs of a name in lower case and a value."""
    body: bytes
    closed: bool = False
    """Whether the connection ended with this reply."""

    def header(self, name: str) -> str | None:
        """Return the value of a header, or the values of a repeated header joined by commas."""
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None


class Outcome(ABC):
    """The only correct outcome of a request."""

    more_headers: ClassVar[frozenset[str]] = frozenset()
    """Headers that a reply may have besides REPLY_HEADERS."""

    @property
    def from_host(self) -> bool:
        """Whether granian's HTTP library may reply without calling the application."""
        return False

    @abstractmethod
    def differences(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong with a reply."""


def differences(outcome: Outcome, reply: Reply, request_id: str | None) -> list[str]:
    """Return how a reply violates its expected outcome or the rules for all replies.

    `request_id` is the id that the service must echo, or None if it must generate one.
    """
    wrong = list(outcome.differences(reply))
    if wrong and reply.status != getattr(outcome, "status", 200):
        wrong = wrong[:1]  # The other differences follow from the wrong status.
    if outcome.from_host and reply.status in HOST_STATUSES and not reply.body:
        return wrong
    echoed = reply.header("x-request-id") or ""
    if request_id is not None and echoed != request_id:
        wrong.append(f"X-Request-ID: expected {request_id!r}, found {echoed!r}")
    elif request_id is None and not GENERATED_ID.fullmatch(echoed):
        wrong.append(f"X-Request-ID: expected 32 hex digits, found {echoed!r}")
    if reply.header("x-content-type-options") != "nosniff":
        wrong.append("X-Content-Type-Options: expected nosniff")
    allowed = REPLY_HEADERS | outcome.more_headers
    if unknown := {name for name, _ in reply.headers} - allowed:
        wrong.append(f"unexpected headers: {', '.join(sorted(unknown))}")
    if reply.status >= 400 and (internal := INTERNALS.search(reply.body)):
        wrong.append(f"the reply reveals implementation details: {internal[0]!r}")
    return wrong


class JsonReply(Outcome):
    """A reply whose body is a JSON object."""

    status: int = 200
    media_type: str = JSON
    empty: bool = False
    """Whether this is the reply to HEAD, which has no body."""

    def differences(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong with a reply."""
        yield from head_differences(reply, self.status, self.media_type)
        if self.empty:
            yield from ["expected no body"] * bool(reply.body)
            return
        document, wrong = parse(reply.body)
        yield from wrong
        if document is not None:
            yield from self._document_differences(document, reply)

    @abstractmethod
    def _document_differences(self, document: dict[str, Any], reply: Reply) -> Iterator[str]:
        """Yield what is wrong with the document of a reply."""


@dataclass(frozen=True)
class ErrorReply(JsonReply):
    """The service's error document: `error`, `request_id`, `where` and the members of RFC 9457."""

    status: int
    where: str | None = None
    """The place of the error, or ANYWHERE; None if the document must have no member `where`."""
    text: str = ""
    """A part of the detail."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Text that each header's value must contain, by header name in lower case."""
    media_type: str = JSON
    empty: bool = False

    def differences(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong with a reply."""
        for name, part in self.headers.items():
            if part not in (reply.header(name) or ""):
                yield f"{name}: expected {part!r}, found {reply.header(name)!r}"
        yield from super().differences(reply)

    def _document_differences(self, document: dict[str, Any], reply: Reply) -> Iterator[str]:
        detail = document.get("detail")
        where = document.get("where") if self.where == ANYWHERE else self.where
        expected: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": detail,
            "error": detail,
            "request_id": reply.header("x-request-id"),
            **({"where": where} if where else {}),
        }
        if document != expected:
            yield f"expected {expected}, found {document}"
        if not isinstance(detail, str) or not 0 < len(detail) <= MAX_DETAIL_CHARACTERS:
            yield f"detail: expected a line, found {detail!r:.200}"
        elif where and not detail.startswith(f"{where}: "):
            yield f"detail: expected it to begin with {where!r}, found {detail!r}"
        elif self.text not in detail:
            yield f"detail: expected it to contain {self.text!r}, found {detail!r}"


@dataclass(frozen=True)
class DocumentReply(JsonReply):
    """A JSON document with known members."""

    members: Mapping[str, Any]
    complete: bool = True
    """Whether the document must have no other members."""
    empty: bool = False

    def _document_differences(self, document: dict[str, Any], reply: Reply) -> Iterator[str]:
        if self.complete and set(document) != set(self.members):
            yield f"members: expected {list(self.members)}, found {list(document)}"
        for name, value in self.members.items():
            if not same(document.get(name), value):
                yield f"{name}: expected {value!s:.200}, found {document.get(name)!s:.200}"


@dataclass(frozen=True)
class TextReply(Outcome):
    """An HTML page or other text that must contain some strings."""

    media_type: str
    parts: Sequence[str] = ()
    empty: bool = False

    def differences(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong with a reply."""
        yield from head_differences(reply, 200, f"{self.media_type}*")
        if self.empty:
            yield from ["expected no body"] * bool(reply.body)
        else:
            text = reply.body.decode()
            yield from (f"expected {part!r} in the body" for part in self.parts if part not in text)


@dataclass(frozen=True)
class OptionsReply(Outcome):
    """The reply to OPTIONS: the allowed method and no body."""

    method: str

    def differences(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong with a reply."""
        if reply.status != 200:
            yield f"status: expected 200, found {reply.status}"
        allowed = re.split(r", *", reply.header("allow") or "")
        if self.method not in allowed or {"POST": "GET", "GET": "POST"}[self.method] in allowed:
            yield f"allow: expected {self.method}, found {allowed}"
        if reply.body:
            yield "expected no body"


@dataclass(frozen=True)
class HostError(Outcome):
    """The reply of granian's HTTP library to invalid HTTP: a status without a body.

    The connection ends afterwards. A status of 0 means that it ends without a reply.
    """

    status: int
    from_host = True

    def differences(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong with a reply."""
        if (reply.status, reply.body, reply.closed) != (self.status, b"", True):
            end = "closed" if reply.closed else "kept open"
            actual = f"{reply.status}, {len(reply.body)} bytes, {end}"
            yield f"expected {self.status}, no body, closed; found {actual}"


@dataclass(frozen=True)
class AnyOf(Outcome):
    """One of several outcomes, for a request whose correct outcome is not known exactly."""

    outcomes: Sequence[Outcome]

    @property
    def from_host(self) -> bool:
        """Whether granian's HTTP library may reply."""
        return any(outcome.from_host for outcome in self.outcomes)

    def differences(self, reply: Reply) -> Iterator[str]:
        """Yield the differences from the most similar outcome, unless another one has none."""
        yield from min((list(outcome.differences(reply)) for outcome in self.outcomes), key=len)


def head_differences(reply: Reply, status: int, media_type: str) -> Iterator[str]:
    """Yield what is wrong with a reply's status and media type; `media_type` may contain *."""
    if reply.status != status:
        body = reply.body[:300].decode("utf-8", "replace")
        yield f"status: expected {status}, found {reply.status}: {body}"
    elif not fnmatch(reply.header("content-type") or "", media_type):
        yield f"Content-Type: expected {media_type}, found {reply.header('content-type')}"


def parse(body: bytes) -> tuple[dict[str, Any] | None, list[str]]:
    """Return a JSON object, or None and an error; orjson rejects NaN and Infinity."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return None, [f"expected JSON: {error}: {body[:200]!r}"]
    if not isinstance(document, dict):
        return None, [f"expected an object, found {document!s:.200}"]
    return document, []


def same(actual: Any, expected: Any) -> bool:
    """Return whether two JSON values are equal; 1, 1.0 and true are different values."""
    if isinstance(expected, list | tuple):
        lists = isinstance(actual, list) and len(actual) == len(expected)
        return lists and all(map(same, actual, expected))
    if isinstance(expected, dict):
        objects = isinstance(actual, dict) and actual.keys() == expected.keys()
        return objects and all(same(actual[key], value) for key, value in expected.items())
    return type(actual) is type(expected) and bool(actual == expected)
