"""Sends generated requests to servers and counts the wrong replies."""

import contextlib
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.conformance.connection import BrokenReplyError, Connection
from tests.conformance.draw import KINDS, Case, Draw, Group, Kind
from tests.conformance.kinds import MODULES
from tests.conformance.outcomes import Reply, differences
from tests.conformance.served import Limits, read_model

GROUP_WEIGHTS: dict[Group, int] = {"valid": 5, "nearly valid": 4, "hostile": 3}
"""Relative frequency of each group of kinds that any server accepts."""
BATCH_REQUESTS = 250
"""Number of requests after which a process returns its counts."""
MAX_SHOWN_BYTES = 700
assert MODULES, "importing the modules registers their kinds"


@dataclass(frozen=True)
class Plan:
    """The servers, and all settings that determine the request with a given number."""

    seed: int
    artifacts: tuple[Path, ...]
    ports: tuple[int, ...]
    limits: Limits = field(default_factory=Limits)
    kind_filter: str = ""
    """Substring of the names of the kinds to draw."""
    group_weights: Mapping[Group, int] = field(default_factory=GROUP_WEIGHTS.copy)
    """Relative frequency of each group of kinds."""
    timeout_seconds: float = 20
    """Maximum time to wait for a reply."""


@dataclass(frozen=True)
class Request:
    """A request with its number."""

    number: int
    kind: Kind
    server: int
    """Position of the server in the plan."""
    case: Case

    def describe(self, reply: Reply | None, wrong: Sequence[str]) -> str:
        """Return the request, the expected outcome, the reply, and the reply's errors as text."""
        sent = abbreviate(b"".join(self.case.pieces))
        lines = [
            f"{self.kind.name}: {self.kind.summary}",
            f"  request {self.number} to server {self.server}: {sent}",
            f"  expected {self.case.outcome}, id {self.case.request_id!r}",
        ]
        if reply is not None:
            headers = ", ".join(f"{name}: {value}" for name, value in reply.headers)
            lines.append(f"  found {reply.status}; {headers}; {abbreviate(reply.body)}")
        return "\n".join([*lines, *(f"  WRONG {text}" for text in wrong)])


@dataclass
class Tally:
    """Counts of requests and of wrong replies, by kind."""

    sent: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Number of replies by kind and status."""
    examples: dict[str, str] = field(default_factory=dict)
    """The first wrong reply of each kind, with its request."""
    slowest: tuple[float, str] = (0.0, "")
    """Longest time to a complete reply, in seconds, with the request's kind and number."""

    def add_wrong(self, request: Request, reply: Reply | None, wrong: Sequence[str]) -> None:
        """Count a wrong reply."""
        self.wrong[request.kind.name] += 1
        self.examples.setdefault(request.kind.name, request.describe(reply, wrong))

    def add(self, other: "Tally") -> None:
        """Add the counts of another tally."""
        self.sent += other.sent
        self.wrong += other.wrong
        self.statuses += other.statuses
        self.examples = other.examples | self.examples
        self.slowest = max(self.slowest, other.slowest)


class Sender:
    """Draws requests, sends them over connections of its own, and judges the replies."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.models = [read_model(artifact, plan.limits) for artifact in plan.artifacts]
        self.connections = [Connection(port, plan.timeout_seconds) for port in plan.ports]
        self.previous: dict[int, Request] = {}  # The last request to each server.
        kinds = [kind for kind in KINDS.values() if plan.kind_filter in kind.name]
        groups = {group: [k for k in kinds if k.group == group] for group in plan.group_weights}
        self.groups = {group: members for group, members in groups.items() if members}
        if not self.groups:
            raise ValueError(f"no kind of request has {plan.kind_filter!r} in its name")

    def close(self) -> None:
        """Close the connections."""
        for connection in self.connections:
            connection.close()

    def request(self, number: int) -> Request:
        """Return the request with a number."""
        random = Random(f"{self.plan.seed}:{number}")  # noqa: S311 # not used for cryptography
        server = random.randrange(len(self.models))
        weights = [self.plan.group_weights[group] for group in self.groups]
        kinds = random.choices(list(self.groups.values()), weights)[0]
        kind = random.choices(kinds, [kind.weight for kind in kinds])[0]
        return Request(number, kind, server, kind.build(Draw(random, self.models[server])))

    def send(self, request: Request) -> tuple[Reply | None, list[str]]:
        """Send a request; return the reply, or None if it is broken, and a list of its errors."""
        case, connection = request.case, self.connections[request.server]
        if case.outcome.from_host:
            connection.close()  # On a new connection, only this request can cause a close.
        try:
            reply = connection.exchange(case.pieces, head=case.head, half_close=case.half_close)
        except BrokenReplyError as error:
            return None, [str(error)]
        if case.may_close:
            connection.close()
        if not reply.status and not case.outcome.from_host:
            return reply, ["the server closed the connection without a reply"]
        try:
            return reply, differences(case.outcome, reply, case.request_id)
        except Exception as error:  # The reply is too malformed for the comparison.
            return reply, [f"the comparison failed: {error!r}"]

    def run(self, numbers: range) -> Tally:
        """Send a range of requests."""
        tally = Tally()
        for number in numbers:
            request = self.request(number)
            started = time.perf_counter()
            reply, wrong = self.send(request)
            kept = self.connections[request.server].kept
            if reply and not reply.status and kept and not request.case.outcome.from_host:
                text = "the server closed the connection without announcing it"
                tally.add_wrong(self.previous[request.server], None, [text])
                reply, wrong = self.send(request)  # The previous request caused the failure.
            seconds = time.perf_counter() - started
            tally.slowest = max(tally.slowest, (seconds, f"{request.kind.name}, request {number}"))
            tally.sent[request.kind.name] += 1
            if reply:
                tally.statuses[request.kind.name, reply.status] += 1
            if wrong:
                tally.add_wrong(request, reply, wrong)
            self.previous[request.server] = request
        return tally


def abbreviate(content: bytes) -> str:
    """Return a text with the repr of the first bytes and the total number of bytes."""
    return f"{content[:MAX_SHOWN_BYTES]!r} ({len(content)} bytes)"


_senders: list[Sender] = []
"""The only sender of this pool process."""


def _start(plan: Plan) -> None:
    _senders.append(Sender(plan))


def _run(numbers: range) -> Tally:
    return _senders[0].run(numbers)


def send_all(plan: Plan, numbers: range, jobs: int) -> Iterator[Tally]:
    """Send requests from several processes; yield a tally per batch."""
    starts = range(0, len(numbers), BATCH_REQUESTS)
    batches = [numbers[start : start + BATCH_REQUESTS] for start in starts]
    if jobs == 1:
        with contextlib.closing(Sender(plan)) as sender:
            yield from map(sender.run, batches)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _start, (plan,)) as pool:
        yield from pool.map(_run, batches)
