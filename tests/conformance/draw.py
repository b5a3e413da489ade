"""A random source of requests, and the registry of the kinds of request."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Literal, NamedTuple

import numpy as np

from tests.conformance import json_text
from tests.conformance.outcomes import BYTES, CSV, JSON, Outcome
from tests.conformance.served import Index, ServedModel

Group = Literal["valid", "nearly valid", "hostile", "guarded"]
"""A group of kinds; a guarded request needs a server with access tokens and CORS."""
Headers = Sequence[tuple[str, str | bytes]]
Framing = Literal["length", "chunked", "gzip", "chunked gzip", "zlib", "deflate", "identity"]

FRAMING_WEIGHTS: dict[Framing, int] = {
    **{"length": 70, "chunked": 10, "gzip": 6, "zlib": 6},
    **{"identity": 4, "chunked gzip": 2, "deflate": 2},
}
"""Relative frequency of each framing, for requests whose outcome does not depend on it."""
MAX_NUMBER_BYTES = 100
"""Maximum number of bytes of a number and the white space around it."""
LOGGABLE_IDS = ("a", "0", "req-1", "A.b_c-9", "4f1c-0b", "x" * 128, "-", "...")
UNSAFE_IDS = (
    *("", "a b", "x" * 129, "a,b", "<script>", "%0d%0aSet-Cookie:a", "a\tb", b"caf\xc3\xa9"),
    *("a;b", "../x", '"', "a:b"),
)
"""Request ids that the service replaces with generated ones, because they are unsafe in a log."""
TRACEPARENTS = (
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
    "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
    "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    *("00-" + "a" * 4000, "", b"\xff\xfe", "00-\t-\t-"),
)
"""Valid and invalid values of `traceparent`; none of them may change a reply."""
USER_AGENTS = ("curl/8.5.0", "python-requests/2.32", "x" * 500, "")


class Case(NamedTuple):
    """A request and its only correct outcome."""

    pieces: Sequence[bytes]
    """The bytes of the request; each piece is sent in a system call of its own."""
    outcome: Outcome
    request_id: str | None = None
    """The caller's id, if the service must echo it."""
    head: bool = False
    half_close: bool = False
    """Whether the client shuts down its sending side after the request."""
    may_close: bool = False
    """Whether the server may close the connection after its reply."""


Build = Callable[..., Case]
"""Function that builds a request from a Draw, and for some kinds a protocol and a variant."""


@dataclass(frozen=True)
class Kind:
    """A kind of request."""

    name: str
    group: Group
    weight: int
    """Relative frequency of this kind within its group."""
    build: Build
    summary: str
    """One line that describes the request and cites the suite that also sends it."""


KINDS: dict[str, Kind] = {}


def register(
    name: str, group: Group, weight: int, build: Build, variants: Iterable[str], summary: str | None
) -> None:
    """Register a kind, or one kind per variant, which is passed to `build`."""
    for variant in variants or ("",):
        full_name = f"{name}, {variant}" if variant else name
        assert full_name not in KINDS, full_name
        bound = partial(build, variant=variant) if variant else build
        KINDS[full_name] = Kind(full_name, group, weight, bound, (summary or "").partition("\n")[0])


def kind(group: Group, weight: int = 2, variants: Iterable[str] = ()) -> Callable[[Build], Build]:
    """Return a decorator that registers a function, or each of its variants, as a kind."""

    def decorate(build: Build) -> Build:
        name = f"{build.__module__.rpartition('.')[2]}: {build.__name__.replace('_', ' ')}"
        register(name, group, weight, build, variants, build.__doc__)
        return build

    return decorate


@dataclass(frozen=True)
class Draw:
    """The source of a request: a random generator and the served model."""

    random: Random
    model: ServedModel

    def choice(self, values: Sequence[Any]) -> Any:
        """Draw one of some values."""
        return self.random.choice(values)

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self.random.random() < probability

    def index(self, at_least: int = 1, at_most: int | None = None) -> Index:
        """Draw the indices of a request's rows: usually one row, at most the allowed number."""
        fitting = self.model.limits.body_bytes // (MAX_NUMBER_BYTES * len(self.model.features))
        at_most = min(fitting, self.model.max_rows if at_most is None else at_most)
        size = self.random.choices((1, 2, 7, 33, at_most), (60, 15, 15, 9, 1))[0]
        size = max(at_least, min(size, at_most))
        return np.array([self.random.randrange(len(self.model.rows)) for _ in range(size)], np.intp)

    def numbers(self, index: Index) -> list[list[float]]:
        """Return rows as lists of numbers."""
        rows: list[list[float]] = self.model.rows[index].tolist()
        return rows

    def float32(self, index: Index) -> bytes:
        """Return rows as little-endian float32, row-major."""
        return self.raw(index, "<f4")

    def raw(self, index: Index, dtype: str) -> bytes:
        """Return rows as bytes of a NumPy type, row-major."""
        return self.model.rows[index].astype(dtype).tobytes()

    def raw_type(self, rows: int | None, dtype: str = "float32") -> str:
        """Return a Content-Type that declares the type of raw numbers, their rows or both."""
        parameters = [f"dtype={dtype}"]
        if rows is not None and self.chance(0.6):
            parameters.append(self.choice((f"rows={rows}", f'Rows="{rows}"')))
            if dtype == "float32" and self.chance(0.5):
                del parameters[0]
        self.random.shuffle(parameters)
        separator: str = self.choice(("; ", ";", " ; ", ";a=b; "))
        return separator.join((self.choice((BYTES, BYTES.title())), *parameters))

    def cells(self, index: Index) -> list[list[Any]]:
        """Return rows with each number as JSON text in a random format."""
        return [list(row) for row in json_text.numbers(self.random, self.numbers(index))]

    def cells_and_position(
        self, at_least: int = 1, at_most: int | None = None
    ) -> tuple[list[list[Any]], tuple[int, int]]:
        """Draw rows as JSON texts, and the position of a cell in row `at_least - 1` or later."""
        index = self.index(at_least, at_most)
        return self.cells(index), self.position(index, at_least - 1)

    def records(self, rows: Sequence[Sequence[Any]]) -> list[json_text.Members]:
        """Return rows as JSON objects with the features in random order."""
        return [self.shuffled(zip(self.model.features, row, strict=True)) for row in rows]

    def json(self, value: Any) -> bytes:
        """Write a JSON document."""
        return json_text.document(self.random, value).encode()

    def position(self, index: Index, at_least_row: int = 0) -> tuple[int, int]:
        """Draw a row and a column."""
        row = self.random.randrange(at_least_row, len(index))
        return row, self.random.randrange(len(self.model.features))

    def cell_path(self, i: int, j: int, record: bool = False) -> str:
        """Return a cell's place as in the service's errors: by column, or in a record by name."""
        return f"[{i}][{json.dumps(self.model.features[j], ensure_ascii=False) if record else j}]"

    def shuffled(self, members: Any) -> json_text.Members:
        """Return a JSON object with its members in random order."""
        shuffled = json_text.Members(members)
        self.random.shuffle(shuffled)
        return shuffled

    def overflow(self, index: Index) -> tuple[list[list[float]], int]:
        """Return rows, one of which overflows the network, and the position of that row."""
        rows, i = self.numbers(index), self.random.randrange(len(index))
        rows[i] = self.choice(self.model.overflowing.astype(np.float64).tolist())
        return rows, i

    def post(
        self,
        path: str,
        body: bytes,
        outcome: Outcome,
        *,
        content_type: str | None = JSON,
        headers: Headers = (),
        framing: Framing | None = None,
        **options: bool,
    ) -> Case:
        """Return a POST request; the default framing is random and does not change the outcome."""
        assert len(body) <= self.model.limits.body_bytes or getattr(outcome, "status", 200) == 413
        framing = framing or self._framing(content_type, headers)
        more = [*headers] if content_type is None else [("Content-Type", content_type), *headers]
        if framing not in ("length", "chunked"):
            encoding = "deflate" if framing == "zlib" else framing.removeprefix("chunked ")
            more.append(("Content-Encoding", encoding))
        body = compress(framing, body)
        if framing.startswith("chunked"):
            more.append(("Transfer-Encoding", "chunked"))
            body = self._chunks(body)
        else:
            more.append(("Content-Length", str(len(body))))
        return self.send("POST", path, more, body, outcome, **options)

    def send(
        self,
        method: str,
        path: str,
        headers: Headers,
        body: bytes,
        outcome: Outcome,
        **options: bool,
    ) -> Case:
        """Return a request with random headers that must not affect the reply, and Case options."""
        request_id, more = self._neutral_headers()
        fields = self._fields([("Host", "localhost"), *headers, *more])
        lines = [f"{method} {path} HTTP/1.1".encode(), *fields]
        content = b"\r\n".join(lines) + b"\r\n\r\n" + body
        pieces: Sequence[bytes] = (content,)
        if self.chance(0.1):
            cut = self.random.randrange(1, len(content))
            pieces = (content[:cut], content[cut:])
        return Case(pieces, outcome, request_id, method == "HEAD", **options)

    def _framing(self, content_type: str | None, headers: Headers) -> Framing:
        framing = self.random.choices(list(FRAMING_WEIGHTS), list(FRAMING_WEIGHTS.values()))[0]
        json_length = dict(headers).get("Inference-Header-Content-Length")
        media_type = (content_type or "").partition(";")[0].strip().lower()
        is_table = json_length is None and media_type in (CSV, BYTES)
        if framing == "chunked" and (is_table or json_length == "0"):
            return "length"  # Without a length the rows may be incomplete, so they are rejected.
        return framing

    def _neutral_headers(self) -> tuple[str | None, list[tuple[str, str | bytes]]]:
        """Draw the request id that the service must echo, if any, and headers without effect."""
        request_id: str | None = None
        headers: list[tuple[str, str | bytes]] = []
        fraction = self.random.random()
        if fraction < 0.3:
            request_id = self.choice(LOGGABLE_IDS)
            headers.append(("X-Request-ID", request_id))
        elif fraction < 0.5:
            headers.append(("X-Request-ID", self.choice(UNSAFE_IDS)))
        if self.chance(0.2):
            headers.append(("traceparent", self.choice(TRACEPARENTS)))
        if self.chance(0.3):
            headers.append(("User-Agent", self.choice(USER_AGENTS)))
        return request_id, headers

    def _chunks(self, body: bytes) -> bytes:
        """Cut a body into chunks of random sizes, some with extensions (RFC 9112, 7.1)."""
        parts, start = [], 0
        while start < len(body):
            size = self.choice((1, 7, 100, 4096, len(body)))
            part = body[start : start + size]
            extension = self.choice((b"", b"", b"", b";a=b", b';quoted="x"'))
            parts.append(b"%x%b\r\n%b\r\n" % (len(part), extension, part))
            start += size
        return b"".join(parts) + b"0\r\n\r\n"

    def _fields(self, headers: Headers) -> list[bytes]:
        case = self.choice((str, str, str.lower, str.upper))
        fields = [
            case(name).encode() + b": " + (value.encode() if isinstance(value, str) else value)
            for name, value in headers
        ]
        if self.chance(0.2):
            self.random.shuffle(fields)
        return fields


def words(text: str) -> tuple[str, ...]:
    """Split a text into words, as a compact notation for a list of strings."""
    return tuple(text.split())


def compress(framing: Framing, body: bytes) -> bytes:
    """Compress a body as its framing requires."""
    match framing.removeprefix("chunked "):
        case "gzip":
            return gzip.compress(body, compresslevel=1, mtime=0)
        case "zlib":
            return zlib.compress(body, 1)
        case "deflate":
            engine = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
            return engine.compress(body) + engine.flush()
    return body
