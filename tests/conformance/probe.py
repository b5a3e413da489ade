"""Whether the service answers every request as it must: generated requests, valid, nearly valid and hostile.

    python tests/conformance/probe.py [REQUESTS] [--seed 0] [--mix 5:4:2] [--artifact PATH] [--only TEXT] [--show INDEX]

Each request of bench/probes/ comes with its one right outcome, which its kind knows without the service's code: the
status, the place, the error's shape, and values within the proof's bound of a float64 reference. Without an artifact, a
classifier and a regressor are trained and published first. Each is served by `python -m service serve` with small caps,
so that they are reached often, and asked over kept connections. A hang is a failure, and so is a connection that ends
unannounced, a worker that ended, a traceback in the log, or memory that grows. Request I of a seed is always the same
one; --show I says what it is, and what comes back.

The last line of stdout is one JSON document; exit code 1 if anything was wrong.
"""

import argparse
import collections
import contextlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.conformance.probes import (
    encodings,
    framing,
    native,
    routes,
    tables,
    v1,
    v2,
    v2_binary,
    v2_tensor,
)
from tests.conformance.probes.ask import KINDS, Ask, Group, Kind, Probe
from tests.conformance.probes.connection import Broken, Connection
from tests.conformance.probes.replies import Reply, faults
from tests.conformance.probes.servers import Server, publish, serving
from tests.conformance.probes.subject import Limits, read

MODULES = (native, tables, v2, v2_tensor, v2_binary, v1, routes, encodings, framing)
"""Whose kinds there are."""
GROUPS: tuple[Group, ...] = ("valid", "nearly valid", "hostile")
AT_A_TIME = 250
"""Requests that a process is given."""
MOST_GROWTH_MEGABYTES = 40
"""Of a server's process tree, after the first tenth of the requests."""
SHOWN_BYTES = 700


class Plan(NamedTuple):
    """What decides which request is the I-th."""

    seed: int
    mix: tuple[int, ...]
    """How often a group is drawn, in the order of GROUPS."""
    only: str
    """Part of the names of the kinds that are drawn; all, where it is empty."""
    artifacts: tuple[Path, ...]
    ports: tuple[int, ...]
    limits: Limits
    seconds: float
    """That a reply may take."""
    examples: int
    """Of what went wrong, shown for each kind."""


class Asked(NamedTuple):
    """A request by its number."""

    number: int
    kind: Kind
    which: int
    """Of the subjects."""
    probe: Probe

    def __str__(self) -> str:
        return f"{self.kind.name}, request {self.number}"


@dataclass
class Tally:
    """What became of some requests."""

    sent: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: collections.Counter[str] = field(default_factory=collections.Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    """By kind: the first that went wrong, in full."""
    statuses: collections.Counter[int] = field(default_factory=collections.Counter)
    slowest: tuple[float, str] = (0.0, "")
    """Seconds from a request to the end of its reply, and the request's kind and number."""

    def blame(self, asked: Asked, reply: Reply | None, wrong: Sequence[str]) -> None:
        """Count a request as one that went wrong."""
        self.wrong[asked.kind.name] += 1
        self.examples.setdefault(asked.kind.name, []).append(shown(asked, reply, wrong))

    def add(self, other: "Tally") -> None:
        """Take in what became of others."""
        self.sent += other.sent
        self.wrong += other.wrong
        self.statuses += other.statuses
        for name, found in other.examples.items():
            self.examples.setdefault(name, []).extend(found)
        self.slowest = max(self.slowest, other.slowest)


class Asker:
    """Makes requests, sends them over connections of its own, and judges the replies."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.subjects = [read(artifact, plan.limits) for artifact in plan.artifacts]
        self.connections = [Connection(port, plan.seconds) for port in plan.ports]
        self.before: dict[
            int, Asked
        ] = {}  # by subject: what was asked last, to be blamed for how it left the connection
        groups = {
            g: [k for k in KINDS.values() if k.group == g and plan.only in k.name] for g in GROUPS
        }
        self.kinds = [
            (weight, kinds)
            for weight, kinds in zip(plan.mix, groups.values(), strict=True)
            if weight and kinds
        ]
        if not self.kinds:
            raise ValueError(f"no kind of request has {plan.only!r} in its name")

    def make(self, number: int) -> Asked:
        """Return a request."""
        random = Random(f"{self.plan.seed}:{number}")  # noqa: S311 # chance, and no secret
        which = random.randrange(len(self.subjects))
        kinds = random.choices(
            [kinds for _, kinds in self.kinds], [weight for weight, _ in self.kinds]
        )[0]
        kind = random.choices(kinds, [kind.weight for kind in kinds])[0]
        return Asked(number, kind, which, kind.make(Ask(random, self.subjects[which])))

    def send(self, probe: Probe, which: int) -> tuple[Reply | None, list[str]]:
        """Return the reply, and what is wrong with it."""
        connection = self.connections[which]
        if probe.expected.from_host:  # how a connection ends shows on a new one
            connection.close()
        try:
            reply = connection.exchange(probe.pieces, head=probe.head, half_close=probe.half_close)
        except Broken as broken:
            return None, [str(broken)]
        if probe.last:
            connection.close()
        if not reply.status and not probe.expected.from_host:
            return reply, ["the connection was closed without a reply"]
        try:
            return reply, faults(probe.expected, reply, probe.request_id)
        except Exception as error:  # a reply that is so wrong that it cannot even be judged
            return reply, [f"cannot be judged: {error!r}"]

    def ask(self, numbers: range) -> Tally:
        """Ask for a run of requests."""
        tally = Tally()
        for number in numbers:
            asked = self.make(number)
            began = time.perf_counter()
            reply, wrong = self.send(asked.probe, asked.which)
            if (
                reply
                and not reply.status
                and self.connections[asked.which].kept
                and not asked.probe.expected.from_host
            ):
                tally.blame(
                    self.before[asked.which],
                    None,
                    ["closed the connection after a reply that did not say so"],
                )
                reply, wrong = self.send(asked.probe, asked.which)  # over a new connection
            tally.slowest = max(tally.slowest, (time.perf_counter() - began, str(asked)))
            tally.sent[asked.kind.name] += 1
            tally.statuses[reply.status if reply else 0] += 1
            if wrong:
                tally.blame(asked, reply, wrong)
            self.before[asked.which] = asked
        return tally


def shown(asked: Asked, reply: Reply | None, wrong: Sequence[str]) -> str:
    """Describe a request, what was expected, and what was found."""
    kind, probe = asked.kind, asked.probe
    lines = [
        f"{kind.name}: {kind.about}",
        f"  request {asked.number}, of subject {asked.which}: {abbreviated(b''.join(probe.pieces))}",
        f"  expected {probe.expected}, id {probe.request_id!r}",
    ]
    if reply is not None:
        head = ", ".join(f"{name}: {value}" for name, value in reply.headers)
        lines.append(f"  found {reply.status}; {head}; {abbreviated(reply.body)}")
    return "\n".join([*lines, *(f"  WRONG {text}" for text in wrong)])


def abbreviated(content: bytes) -> str:
    """Show bytes, the beginning of many."""
    return (
        repr(content if len(content) <= SHOWN_BYTES else content[:SHOWN_BYTES])
        + f" ({len(content)} bytes)"
    )


_asker: list[Asker] = []
"""Of this process."""


def begin(plan: Plan) -> None:
    """Make this process's asker."""
    _asker.append(Asker(plan))


def ask(numbers: range) -> Tally:
    """Ask for a run of requests, in a process that has begun."""
    return _asker[0].ask(numbers)


def main() -> None:
    """Start the servers, ask, and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("requests", nargs="?", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--mix", default="5:4:2", help="how many valid, nearly valid and hostile ones"
    )
    parser.add_argument(
        "--artifact", type=Path, action="append", help="artifacts/NAME/VERSION; again for several"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=4,
        help="processes that ask, each with a connection to every server",
    )
    parser.add_argument("--workers", type=int, default=1, help="of each server")
    parser.add_argument("--seconds", type=float, default=20, help="that a reply may take")
    parser.add_argument(
        "--port", type=int, default=0, help="of the first server; by default any that is free"
    )
    parser.add_argument(
        "--examples", type=int, default=1, help="of what went wrong, shown for each kind"
    )
    parser.add_argument("--only", default="", help="part of the names of the kinds to ask for")
    parser.add_argument("--show", type=int, help="ask for this one alone, and show all of it")
    arguments = parser.parse_args()
    mix = tuple(int(part) for part in arguments.mix.split(":"))
    if len(mix) != len(GROUPS):
        parser.error(f"--mix: expected {len(GROUPS)} numbers, as in 5:4:2")
    limits = Limits()
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        folder = Path(place)
        artifacts = [path.resolve() for path in arguments.artifact or publish(folder)]
        try:
            [read(artifact, limits) for artifact in artifacts]
        except (OSError, ValueError) as error:
            parser.error(str(error))
        environment = limits.environment() | {"TWOLAYERNET_WORKERS": str(arguments.workers)}
        servers = [
            stack.enter_context(
                serving(
                    artifact,
                    folder / f"{i}.log",
                    environment,
                    arguments.port + i if arguments.port else 0,
                )
            )
            for i, artifact in enumerate(artifacts)
        ]
        ports = tuple(server.port for server in servers)
        plan = Plan(
            arguments.seed,
            mix,
            arguments.only,
            tuple(artifacts),
            ports,
            limits,
            arguments.seconds,
            arguments.examples,
        )
        if arguments.show is not None:
            asker = Asker(plan)
            asked = asker.make(arguments.show)
            print(shown(asked, *asker.send(asked.probe, asked.which)))
            return
        document = probed(plan, servers, arguments.requests, arguments.jobs)
    print(json.dumps(document))
    sys.exit(1 if document["wrong"] or document["trouble"] else 0)


def probed(plan: Plan, servers: Sequence[Server], requests: int, jobs: int) -> dict[str, object]:
    """Ask all requests, look after the servers, print the table, and return the figures."""
    total, trouble = Tally(), []
    began = time.perf_counter()
    workers = [server.workers() for server in servers]
    before: list[float] = []
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), begin, (plan,)) as pool:
        runs = [
            range(start, min(start + AT_A_TIME, requests))
            for start in range(0, requests, AT_A_TIME)
        ]
        for done, tally in enumerate(pool.map(ask, runs), 1):
            total.add(tally)
            if not before and 10 * done >= len(runs):
                before = [server.megabytes() for server in servers]
            if done % 40 == 0:
                rate = total.sent.total() / (time.perf_counter() - began)
                print(
                    f"{total.sent.total()} requests, {total.wrong.total()} wrong, {rate:.0f} a second",
                    flush=True,
                )
    seconds = time.perf_counter() - began
    after = [server.megabytes() for server in servers]
    for server, ids, first, last in zip(servers, workers, before, after, strict=True):
        trouble += [f"port {server.port}: {line}" for line in server.trouble()[:5]]
        if server.workers() != ids:
            trouble.append(f"port {server.port}: a worker ended")
        if last - first > MOST_GROWTH_MEGABYTES:
            trouble.append(f"port {server.port}: memory grew from {first:.0f} to {last:.0f} MB")
    report(total, trouble, plan.examples)
    return {
        "requests": total.sent.total(),
        "wrong": total.wrong.total(),
        "kinds": len(total.sent),
        "kinds_wrong": dict(total.wrong),
        "trouble": trouble,
        "by_status": {str(status): count for status, count in sorted(total.statuses.items())},
        "seed": plan.seed,
        "slowest_s": round(total.slowest[0], 3),
        "slowest": total.slowest[1],
        "megabytes": {
            "after_a_tenth": [round(x, 1) for x in before],
            "at_the_end": [round(x, 1) for x in after],
        },
        "seconds": round(seconds, 1),
    }


def report(total: Tally, trouble: Sequence[str], examples: int) -> None:
    """Print a line per kind, in the order of the modules, then the first example of what went wrong with each."""
    print(f"\n{'kind':58}{'group':>14}{'sent':>8}{'wrong':>7}")
    order = [module.__name__.rpartition(".")[2] for module in MODULES]
    for name in sorted(total.sent, key=lambda name: order.index(name.partition(":")[0])):
        print(f"{name:58}{KINDS[name].group:>14}{total.sent[name]:8}{total.wrong[name] or '':>7}")
    print(f"{'':58}{'':>14}{total.sent.total():8}{total.wrong.total():7}\n")
    for name in total.wrong:
        print("\n".join(total.examples[name][:examples]) + "\n")
    for line in trouble:
        print(f"WRONG {line}")


if __name__ == "__main__":
    main()
