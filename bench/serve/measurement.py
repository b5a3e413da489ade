"""Measurement of several servers in alternating rounds."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console

from bench.load.closed_loop import Throughput, run_wrk
from bench.report import new_table, ratios
from bench.serve.requests import HttpRequest, Probabilities, Protocol
from bench.serve.served_artifact import Server

MIN_RESPONSES = 12
"""Minimum number of sequential requests that a run must have time for."""


@dataclass(frozen=True)
class Bench:
    """Console, CPU cores, durations and rounds that all measurements share."""

    console: Console
    server_core: int
    load_core: int
    idle_core: int
    """CPU core for the servers that are not being measured."""
    seconds: int
    """Minimum duration of one run of wrk."""
    rounds: int


@dataclass(frozen=True)
class Entry:
    """One row of a table: a running server, a request in one of its protocols, and the results."""

    label: str
    server: Server
    protocol: Protocol
    request: HttpRequest
    results: list[Throughput] = field(default_factory=list)
    """One throughput per round."""


def measure(
    bench: Bench, title: str, entries: Sequence[Entry], expected: Probabilities, connections: int
) -> dict[str, object]:
    """Verify and measure each entry; print the medians over the rounds, and return them by label.

    Every second round measures the entries in reverse order.
    """
    schedule = [(entry, verified_run_seconds(bench, entry, expected)) for entry in entries]
    for number in range(bench.rounds):
        for entry, seconds in schedule if number % 2 == 0 else schedule[::-1]:
            port, core = entry.server.port, bench.load_core
            with entry.server.active(bench.idle_core):
                entry.results.append(run_wrk(port, entry.request, core, connections, seconds))
    return print_medians(bench.console, title, entries, len(expected))


def verified_run_seconds(bench: Bench, entry: Entry, expected: Probabilities) -> int:
    """Verify an entry's responses; return the seconds that a run takes for MIN_RESPONSES."""
    server = entry.server
    with server.active(bench.idle_core):
        _, *seconds = (server.verify(entry.protocol, entry.request, expected) for _ in range(4))
    return max(bench.seconds, math.ceil(MIN_RESPONSES * min(seconds)))


def print_medians(
    console: Console, title: str, entries: Sequence[Entry], rows: int
) -> dict[str, object]:
    """Print the medians over the rounds, and return them by label; `rows` is rows per request.

    The last column is the rate of the protocol's first entry divided by the entry's own rate.
    """
    table = new_table(title, "requests/s", "rows/s", "p50 ms", "p99 ms", "first rate / rate")
    document: dict[str, object] = {}
    first_rates: dict[str, list[float]] = {}
    for entry in entries:
        rates = [result.requests_per_second for result in entry.results]
        paired = ratios(first_rates.setdefault(entry.protocol.name, rates), rates)
        rate, p50, p99 = (statistics.median(figure) for figure in zip(*entry.results, strict=True))
        figures = {
            **{"requests_per_s": rate, "rows_per_s": rate * rows},
            **{"p50_ms": p50 * 1e3, "p99_ms": p99 * 1e3},
            "first_to_this": statistics.median(paired),
        }
        ratio_list = [round(ratio, 4) for ratio in paired]
        document[entry.label] = {**figures, "ratios": ratio_list}
        formats = zip(figures.values(), ("0", "0", "2", "2", "2"), strict=True)
        table.add_row(entry.label, *(f"{value:.{digits}f}" for value, digits in formats))
    console.print(table, "")
    return document
