"""How a request is made: the rows it carries, its headers, how its body is framed; and the registry of kinds."""

import gzip
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, NamedTuple

import numpy as np

from tests.conformance.probes import json_text
from tests.conformance.probes.replies import JSON, Expected
from tests.conformance.probes.subject import Index, Subject

Group = Literal["valid", "nearly valid", "hostile"]
Headers = Sequence[tuple[str, str | bytes]]
Framing = Literal["length", "chunked", "gzip", "chunked gzip", "zlib", "deflate", "identity"]

FRAMINGS: dict[Framing, int] = {
    "length": 70,
    "chunked": 10,
    "gzip": 6,
    "chunked gzip": 2,
    "zlib": 6,
    "deflate": 2,
    "identity": 4,
}
"""How often a body is sent so, where how it is sent makes no difference."""
LONGEST_NUMBER = 100
"""Bytes, with the spaces around it."""
GOOD_IDS = ("a", "0", "req-1", "A.b_c-9", "4f1c-0b", "x" * 128, "-", "...")
BAD_IDS = (
    "",
    "a b",
    "x" * 129,
    "a,b",
    "<script>",
    "%0d%0aSet-Cookie:a",
    "a\tb",
    b"caf\xc3\xa9",
    "a;b",
    "../x",
    '"',
    "a:b",
)
"""Not fit for a log: the service makes an id of its own."""
TRACES = (
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
    "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
    "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "00-" + "a" * 4000,
    "",
    b"\xff\xfe",
    "00-\t-\t-",
)
"""None of them changes an answer."""


class Probe(NamedTuple):
    """A request, and its one right outcome."""

    pieces: Sequence[bytes]
    """What is sent, each given to the system by itself."""
    expected: Expected
    request_id: str | None = None
    """The caller's, where the service must echo it."""
    head: bool = False
    half_close: bool = False
    """Nothing more is sent, and the server is told so."""
    last: bool = False
    """The connection may end with it."""


@dataclass(frozen=True)
class Kind:
    """A kind of request."""

    name: str
    group: Group
    weight: int
    """How often it is drawn, beside the others of its group."""
    make: Callable[["Ask"], Probe]

    @property
    def about(self) -> str:
        """What it is, and which suite has it, in one line."""
        return (self.make.__doc__ or "").partition("\n")[0]


KINDS: dict[str, Kind] = {}


def kind(
    group: Group, weight: int = 2
) -> Callable[[Callable[["Ask"], Probe]], Callable[["Ask"], Probe]]:
    """Enter a function into the registry, under the name of its module and its own."""

    def register(make: Callable[["Ask"], Probe]) -> Callable[["Ask"], Probe]:
        name = f"{make.__module__.rpartition('.')[2]}: {make.__name__.replace('_', ' ').strip()}"
        assert name not in KINDS, name
        KINDS[name] = Kind(name, group, weight, make)
        return make

    return register


@dataclass(frozen=True)
class Ask:
    """What a kind makes its request from: a source of chance, and what is served."""

    random: Random
    subject: Subject

    def choice(self, values: Sequence[Any]) -> Any:
        """Draw one of some values."""
        return self.random.choice(values)

    def rows(self, least: int = 1, most: int | None = None) -> Index:
        """Draw rows: mostly one, sometimes many, never more than are allowed, or than fit a body in any form."""
        fitting = self.subject.limits.body_bytes // (LONGEST_NUMBER * len(self.subject.features))
        most = min(fitting, self.subject.most_rows if most is None else most)
        size = self.random.choices((1, 2, 7, 33, most), (60, 15, 15, 9, 1))[0]
        size = max(least, min(size, most))
        return np.array(
            [self.random.randrange(len(self.subject.wide)) for _ in range(size)], np.intp
        )

    def wide(self, index: Index) -> list[list[float]]:
        """Return rows as numbers."""
        found: list[list[float]] = self.subject.wide[index].tolist()
        return found

    def texts(self, index: Index) -> list[list[json_text.Token]]:
        """Return rows as JSON writes them."""
        return json_text.numbers(self.random, self.wide(index))

    def text(self, value: Any) -> bytes:
        """Write a JSON document."""
        return json_text.text(self.random, value).encode()

    def place(self, index: Index) -> tuple[int, int]:
        """Draw a row and a column."""
        return self.random.randrange(len(index)), self.random.randrange(len(self.subject.features))

    def cell(self, i: int, j: int, record: bool = False) -> str:
        """Name a value as the service does: by column, or by feature where the row is a record."""
        return f"[{i}][{json.dumps(self.subject.features[j], ensure_ascii=False) if record else j}]"

    def record(self, row: Sequence[Any]) -> json_text.Members:
        """Return a row by feature name, in whatever order."""
        members = json_text.Members(zip(self.subject.features, row, strict=True))
        self.random.shuffle(members)
        return members

    def beyond(self, index: Index) -> tuple[list[list[float]], int]:
        """Return rows of which one has no finite answer, and which that is."""
        rows, i = self.wide(index), self.random.randrange(len(index))
        rows[i] = self.choice(self.subject.beyond.astype(np.float64).tolist())
        return rows, i

    def post(
        self,
        path: str,
        body: bytes,
        expected: Expected,
        *,
        form: str | None = JSON,
        headers: Headers = (),
        framing: Framing | None = None,
        last: bool = False,
    ) -> Probe:
        """Make a POST.

        Args:
            path: as it stands in the request line.
            body: before it is compressed or cut into chunks.
            expected: the outcome.
            form: the Content-Type; None for none.
            headers: more of them.
            framing: how the body is sent; any way, where that makes no difference.
            last: the connection may end with it.
        """
        assert (
            len(body) <= self.subject.limits.body_bytes or getattr(expected, "status", 200) == 413
        )
        if framing is None:
            framing = self.random.choices(list(FRAMINGS), list(FRAMINGS.values()))[0]
            stated = dict(headers).get("Inference-Header-Content-Length")
            media_type = (form or "").partition(";")[0].strip().lower()
            rows = stated == "0" or (
                stated is None and media_type in ("text/csv", "application/octet-stream")
            )
            if framing == "chunked" and rows:
                framing = "length"  # rows and nothing else must say how long they are
        more: list[tuple[str, str | bytes]] = [] if form is None else [("Content-Type", form)]
        more += headers
        if framing not in ("length", "chunked"):
            more.append(
                (
                    "Content-Encoding",
                    "deflate" if framing == "zlib" else framing.removeprefix("chunked "),
                )
            )
        body = packed(framing, body)
        if framing.startswith("chunked"):
            more.append(("Transfer-Encoding", "chunked"))
            body = self.chunks(body)
        else:
            more.append(("Content-Length", str(len(body))))
        return self.send("POST", path, more, body, expected, last=last)

    def send(
        self,
        method: str,
        path: str,
        headers: Headers,
        body: bytes,
        expected: Expected,
        *,
        half_close: bool = False,
        last: bool = False,
    ) -> Probe:
        """Make a request of whatever method, with headers beside it that must not change its outcome."""
        request_id, more = self.chance()
        lines = [
            f"{method} {path} HTTP/1.1".encode(),
            *self._lines([("Host", "localhost"), *headers, *more]),
        ]
        content = b"\r\n".join(lines) + b"\r\n\r\n" + body
        pieces: Sequence[bytes] = (content,)
        if self.random.random() < 0.1:
            cut = self.random.randrange(1, len(content))
            pieces = (content[:cut], content[cut:])
        return Probe(pieces, expected, request_id, method == "HEAD", half_close, last)

    def chance(self) -> tuple[str | None, list[tuple[str, str | bytes]]]:
        """Draw the headers that may stand in any request, and the id that must be echoed, if any."""
        request_id: str | None = None
        more: list[tuple[str, str | bytes]] = []
        drawn = self.random.random()
        if drawn < 0.3:
            request_id = self.choice(GOOD_IDS)
            more.append(("X-Request-ID", request_id))
        elif drawn < 0.5:
            more.append(("X-Request-ID", self.choice(BAD_IDS)))
        if self.random.random() < 0.2:
            more.append(("traceparent", self.choice(TRACES)))
        if self.random.random() < 0.3:
            more.append(
                ("User-Agent", self.choice(("curl/8.5.0", "python-requests/2.32", "x" * 500, "")))
            )
        return request_id, more

    def chunks(self, body: bytes) -> bytes:
        """Cut a body into chunks, as HTTP/1.1 frames them."""
        parts, start = [], 0
        while start < len(body):
            size = self.choice((1, 7, 100, 4096, len(body)))
            part = body[start : start + size]
            extension = self.choice((b"", b"", b"", b";a=b", b';quoted="x"'))
            parts.append(f"{len(part):x}".encode() + extension + b"\r\n" + part + b"\r\n")
            start += size
        return b"".join(parts) + b"0\r\n\r\n"

    def _lines(self, headers: Headers) -> list[bytes]:
        shape = self.choice((str, str, str.lower, str.upper))
        lines = [
            shape(name).encode() + b": " + (v.encode() if isinstance(v, str) else v)
            for name, v in headers
        ]
        if self.random.random() < 0.2:
            self.random.shuffle(lines)
        return lines


def words(text: str) -> tuple[str, ...]:
    """Return the words of a text: as a list of strings these would fill pages."""
    return tuple(text.split())


def packed(framing: Framing, body: bytes) -> bytes:
    """Compress a body as the framing says."""
    match framing.removeprefix("chunked "):
        case "gzip":
            return gzip.compress(body, compresslevel=1, mtime=0)
        case "zlib":
            return zlib.compress(body, 1)
        case "deflate":
            engine = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
            return engine.compress(body) + engine.flush()
    return body
