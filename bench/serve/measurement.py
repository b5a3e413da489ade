"""Measurement of several servers in alternating rounds, as a table and as a document."""

import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench.load.closed_loop import Throughput, run_wrk
from bench.report import new_table, ratios
from bench.serve.requests import HttpRequest, Probabilities, Protocol
from bench.serve.served_artifact import Server, find_or_build_artifact
from bench.serve.stacks import Stack

MIN_RESPONSES = 12
"""Number of responses for which a run is extended, at the speed of one connection."""


@dataclass(frozen=True)
class Bench:
    """Settings of all measurements."""

    console: Console
    folder: Path
    """Folder of the artifacts and of the servers."""
    server_core: int
    load_core: int
    idle_core: int
    """CPU core of the servers that wait."""
    seconds: int
    """Minimum duration of one run of wrk."""
    rounds: int

    def artifact(self, network: str) -> Path:
        """Return the folder of a network's artifact."""
        return find_or_build_artifact(network, self.folder)

    def server(self, stack: Stack, network: str, **environment: str) -> Server:
        """Return a server of a network that is not started yet."""
        folder = Path(tempfile.mkdtemp(dir=self.folder)) / "server"
        return Server(stack, self.artifact(network), self.server_core, folder, **environment)


@dataclass(frozen=True)
class Entry:
    """One row of a table: a running server and a request in one of its protocols."""

    label: str
    server: Server
    protocol: Protocol
    request: HttpRequest


def verified_run_seconds(bench: Bench, entry: Entry, expected: Probabilities) -> int:
    """Verify an entry's responses; return the duration of a run that sees enough of them."""
    server = entry.server
    with server.active(bench.idle_core):
        _, *seconds = (server.verify(entry.protocol, entry.request, expected) for _ in range(4))
    return max(bench.seconds, math.ceil(MIN_RESPONSES * min(seconds)))


def run_rounds(
    bench: Bench, entries: Sequence[Entry], connections: int, seconds: Sequence[int]
) -> list[list[Throughput]]:
    """Return the throughputs of each entry, one per round; every other round runs backwards."""
    throughputs: list[list[Throughput]] = [[] for _ in entries]
    schedule = list(zip(throughputs, entries, seconds, strict=True))
    for number in range(bench.rounds):
        for results, entry, duration in schedule if number % 2 == 0 else schedule[::-1]:
            server, file = entry.server, entry.server.folder / "request"
            with server.active(bench.idle_core):
                results.append(
                    run_wrk(
                        server.port, entry.request, file, bench.load_core, connections, duration
                    )
                )
    return throughputs


def print_medians(
    console: Console,
    title: str,
    entries: Sequence[Entry],
    throughputs: Sequence[Sequence[Throughput]],
    rows: int,
) -> dict[str, object]:
    """Print the medians over the rounds, and return them by label.

    The last column divides the rate of the first entry with the same protocol by the entry's own.

    Args:
        console: where to print the table.
        title: title of the table.
        entries: rows of the table.
        throughputs: one throughput per round, for each entry.
        rows: number of rows per request.
    """
    table = new_table(title, "requests/s", "rows/s", "p50 ms", "p99 ms", "first / this")
    document: dict[str, object] = {}
    first_rates: dict[str, list[float]] = {}
    for entry, results in zip(entries, throughputs, strict=True):
        rates = [result.requests_per_second for result in results]
        paired = ratios(first_rates.setdefault(entry.protocol.name, rates), rates)
        rate, p50, p99 = (statistics.median(figure) for figure in zip(*results, strict=True))
        ratio = statistics.median(paired)
        document[entry.label] = {
            "requests_per_s": rate,
            "rows_per_s": rate * rows,
            "p50_ms": p50 * 1e3,
            "p99_ms": p99 * 1e3,
            "first_to_this": ratio,
            "ratios": [round(ratio, 4) for ratio in paired],
        }
        figures = f"{rate:.0f}", f"{rate * rows:.0f}", f"{p50 * 1e3:.2f}", f"{p99 * 1e3:.2f}"
        table.add_row(entry.label, *figures, f"{ratio:.2f}")
    console.print(table, "")
    return document
