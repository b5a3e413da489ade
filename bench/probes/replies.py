"""What may come back, and how it is judged: each expectation yields every way in which a reply differs from it."""

import csv
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, ClassVar, NamedTuple

import numpy as np
import orjson

from probes.subject import Index, Subject

JSON = "application/json"
PROBLEM = "application/problem+json"
CSV = "text/csv"
BYTES = "application/octet-stream"
JSON_LENGTH = "inference-header-content-length"
ERROR_MEMBERS = ["type", "title", "status", "detail", "error", "request_id"]
MADE_ID = re.compile("[0-9a-f]{32}")
HEADERS = frozenset(
    (
        *("allow", "accept-encoding", "connection", "content-length", "content-type", "date", "retry-after", "server"),
        *("content-security-policy", "cross-origin-opener-policy", "referrer-policy", "vary", "x-frame-options"),
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
        yield from _head(reply, self.status, self.media_type)
        for name, value in self.headers.items():
            if value not in (reply.header(name) or ""):
                yield f"{name}: expected {value!r}, found {reply.header(name)!r}"
        if self.empty:
            if reply.body:
                yield "expected no body"
            return
        document, wrong = _document(reply.body)
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
class Predictions(Expected):
    """The native reply to rows, in one of its three forms."""

    subject: Subject = field(repr=False)
    index: Index = field(repr=False)
    form: str = JSON

    def faults(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong."""
        yield from _head(reply, 200, f"{CSV}; charset=utf-8" if self.form == CSV else self.form)
        read = {JSON: self._json, CSV: self._csv, BYTES: self._bytes}[self.form]
        yield from read(reply.body)

    def _json(self, body: bytes) -> Iterator[str]:
        document, wrong = _document(body)
        yield from wrong
        if document is None:
            return
        subject = self.subject
        classes = ["probabilities", "classes"] if subject.classes else []
        if list(document) != ["predictions", *classes, "model"]:
            yield f"members: found {list(document)}"
            return
        if document["model"] != {"name": subject.name, "version": subject.version}:
            yield f"model: found {document['model']}"
        if not subject.classes:
            yield from subject.faults(self.index, {"output": document["predictions"]})
            return
        if not _same(document["classes"], list(subject.classes)):
            yield f"classes: expected {list(subject.classes)}, found {document['classes']}"
        yield from self._classified(document["predictions"], subject.classes, document["probabilities"])

    def _csv(self, body: bytes) -> Iterator[str]:
        subject = self.subject
        lines = list(csv.reader(io.StringIO(body.decode(), newline=""), strict=True))
        names = [f"probability_{name}" for name in subject.classes]
        targets = [f"prediction_{target}" for target in subject.manifest["targets"]]
        header = ["prediction", *names] if subject.classes else targets
        if lines[:1] != [header]:
            yield f"header: expected {header}, found {lines[:1]}"
            return
        if subject.classes:
            texts = [str(value) for value in subject.classes]
            yield from self._classified([line[0] for line in lines[1:]], texts, [line[1:] for line in lines[1:]])
        else:
            yield from subject.faults(self.index, {"output": lines[1:]})

    def _bytes(self, body: bytes) -> Iterator[str]:
        if len(body) != 4 * len(self.index) * self.subject.columns:
            yield f"expected {len(self.index)} rows of {self.subject.columns} float32, found {len(body)} bytes"
            return
        name = "probabilities" if self.subject.classes else "output"
        yield from self.subject.faults(self.index, {name: np.frombuffer(body, "<f4")})

    def _classified(self, predictions: Any, classes: Sequence[Any], probabilities: Any) -> Iterator[str]:
        place = {(type(value), value): index for index, value in enumerate(classes)}
        try:
            labels = [place[type(value), value] for value in predictions]
        except (KeyError, TypeError):
            yield f"predictions: expected some of {list(classes)}, found {predictions!s:.200}"
            return
        yield from self.subject.faults(self.index, {"label": labels, "probabilities": probabilities})


@dataclass(frozen=True)
class Tensors(Expected):
    """The reply of the Open Inference Protocol V2, JSON or with its binary tensor extension."""

    subject: Subject = field(repr=False)
    index: Index = field(repr=False)
    asked: Mapping[str, bool]
    """The outputs, in their order, and whether each comes as bytes."""
    id: str | None = None

    def faults(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong."""
        binary = any(self.asked.values())
        yield from _head(reply, 200, BYTES if binary else JSON)
        length = reply.header(JSON_LENGTH)
        if (length is not None) != binary or not (length or "0").isdecimal():
            yield f"{JSON_LENGTH}: found {length!r}"
            return
        split = len(reply.body) if length is None else int(length)
        document, wrong = _document(reply.body[:split])
        yield from wrong
        if document is None:
            return
        tensors = document.pop("outputs", None)
        about = {"model_name": self.subject.name, "model_version": self.subject.version}
        about |= {} if self.id is None else {"id": self.id}
        if document != about:
            yield f"expected {about}, found {document}"
        if not isinstance(tensors, list) or [tensor.get("name") for tensor in tensors] != list(self.asked):
            yield f"outputs: expected {list(self.asked)}, found {tensors!s:.200}"
            return
        tail = reply.body[split:]
        found = {}
        for tensor in tensors:
            name, values = tensor["name"], tensor.pop("data", None)
            shape = [len(self.index)] if name == "label" else [len(self.index), self.subject.columns]
            described: dict[str, Any] = {"name": name, "datatype": self.subject.outputs[name], "shape": shape}
            count = int(np.prod(shape, dtype=int))
            if self.asked[name]:
                item = np.dtype("<i8" if name == "label" else "<f4")
                described["parameters"] = {"binary_data_size": count * item.itemsize}
                raw, tail = tail[: count * item.itemsize], tail[count * item.itemsize :]
                values = np.frombuffer(raw, item) if len(raw) == count * item.itemsize else []
            if tensor != described:
                yield f"outputs: expected {described}, found {tensor}"
            if len(values) != count:
                yield f"{name}: expected {count} values in a flat list, found {len(values)}"
            found[name] = values
        if tail:
            yield f"{len(tail)} bytes follow the last tensor"
        yield from self.subject.faults(self.index, found)


@dataclass(frozen=True)
class Rows(Expected):
    """TensorFlow Serving's reply to {"instances": ...}: a list of what there is for each row."""

    subject: Subject = field(repr=False)
    index: Index = field(repr=False)

    def faults(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong."""
        yield from _head(reply, 200, JSON)
        document, wrong = _document(reply.body)
        yield from wrong
        if document is None:
            return
        rows = document.get("predictions")
        if list(document) != ["predictions"] or not isinstance(rows, list):
            yield f"members: found {list(document)}"
        elif not self.subject.classes:
            yield from self.subject.faults(self.index, {"output": rows})
        elif any(list(row) != list(self.subject.outputs) for row in rows):
            yield f"predictions: expected rows of {list(self.subject.outputs)}, found {rows!s:.200}"
        else:
            found = {name: [row[name] for row in rows] for name in self.subject.outputs}
            yield from self.subject.faults(self.index, found)


@dataclass(frozen=True)
class Columns(Expected):
    """TensorFlow Serving's reply to {"inputs": ...}: the one output, or all by name."""

    subject: Subject = field(repr=False)
    index: Index = field(repr=False)

    def faults(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong."""
        yield from _head(reply, 200, JSON)
        document, wrong = _document(reply.body)
        yield from wrong
        if document is None:
            return
        outputs = document.get("outputs")
        if list(document) != ["outputs"]:
            yield f"members: found {list(document)}"
        elif not self.subject.classes:
            yield from self.subject.faults(self.index, {"output": outputs})
        elif not isinstance(outputs, dict) or list(outputs) != list(self.subject.outputs):
            yield f"outputs: expected {list(self.subject.outputs)}, found {outputs!s:.200}"
        else:
            yield from self.subject.faults(self.index, outputs)


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
        yield from _head(reply, 200, JSON)
        if self.empty:
            if reply.body:
                yield "expected no body"
            return
        document, wrong = _document(reply.body)
        yield from wrong
        if document is None:
            return
        if self.whole and set(document) != set(self.members):
            yield f"members: expected {list(self.members)}, found {list(document)}"
        for name, value in self.members.items():
            if not _same(document.get(name), value):
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


def _head(reply: Reply, status: int, media_type: str) -> Iterator[str]:
    if reply.status != status:
        yield f"status: expected {status}, found {reply.status}: {reply.body[:300].decode('utf-8', 'replace')}"
    elif reply.header("content-type") != media_type:
        yield f"Content-Type: expected {media_type}, found {reply.header('content-type')}"


def _document(body: bytes) -> tuple[dict[str, Any] | None, list[str]]:
    """Read a JSON object; orjson takes neither NaN nor Infinity."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return None, [f"expected JSON: {error}: {body[:200]!r}"]
    if not isinstance(document, dict):
        return None, [f"expected an object, found {document!s:.200}"]
    return document, []


def _same(found: Any, expected: Any) -> bool:
    """Compare JSON values; 1, 1.0 and true differ."""
    if isinstance(expected, list | tuple):
        return isinstance(found, list) and len(found) == len(expected) and all(map(_same, found, expected))
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and found.keys() == expected.keys()
            and all(_same(found[key], value) for key, value in expected.items())
        )
    return type(found) is type(expected) and bool(found == expected)
