"""The service asked for more than it can do: what it still answers, how late, what it refuses, how it recovers.

    python bench/overload.py [wide | digits ...] [--rounds 3] [--seconds 10] [--factors 1 2 4]

wide      1000 -> 4096 -> 10, 64 rows a request in bytes
digits    64 -> 100 -> 10, one row a request in JSON

One worker on one core, with its defaults. Every round finds the peak that a closed loop reaches, then offers so many
times of it in an open loop: requests leave when they fall due, and their latency counts from then. Goodput is the rate
of good answers within the load's time. Once the load ends, a probe every 50 ms says when latency is what it was.

The load comes from processes on the other cores. "late" is what they themselves add to a latency (p99). "unsent" is
what fell due while every connection they may open was waiting: a service that refuses fast keeps that at zero, and
what it could not even refuse stands there. `make bench-overload`; the last line of stdout is one JSON document.
"""

import argparse
import contextlib
import http.client
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import open_loop
import serve_artifacts
import serve_load
from rich.console import Console
from rich.table import Table
from serve_dialects import NATIVE, OCTETS, Dialect, Question
from serve_load import OpenLoop
from serve_stacks import OURS, Server, cores

from service.runtime.predictor import Predictor

CONNECTIONS = 1024
"""Of the open loop."""
PEAK_CONNECTIONS = (8, 16, 32)
"""Of the closed loop: the best of them is the peak."""
PROBE_SECONDS = 0.05
PROBES = 3
"""In a row, as fast as before: recovered."""
RECOVERY_SECONDS = 10
"""How long it is waited for."""


class Kind(NamedTuple):
    """What is asked, of which network."""

    net: str
    rows: int
    dialect: Dialect


KINDS = {"wide": Kind("net-1000-4096", 64, OCTETS), "digits": Kind("digits", 1, NATIVE)}


class Overload(NamedTuple):
    """What one load found."""

    peak_per_s: float
    """Of the closed loop, just before."""
    offered_per_s: float
    goodput_per_s: float
    goodput_of_peak: float
    p50_ms: float
    """Of the good answers, from the moment at which they were due."""
    p99_ms: float
    refused: float
    """Share of 503 among the requests that fell due; so are the next two."""
    unsent: float
    failed: float
    """Any other status, a connection lost, no answer."""
    late_ms: float
    before_mb: float
    loaded_mb: float
    after_mb: float
    recovery_s: float


def measure(
    server: Server,
    question: Question,
    loop: OpenLoop,
    factors: Sequence[float],
    rounds: int,
    seconds: int,
    core: int,
) -> dict[float, list[Overload]]:
    """Find the peak and offer its multiples, round after round; return by factor what was found."""
    normal = statistics.median(rested(server, question) for _ in range(20))
    found: dict[float, list[Overload]] = {factor: [] for factor in factors}
    for number in range(rounds):
        file, lasts = loop.folder / "question", max(2, seconds // 3)
        peak = max(
            serve_load.wrk(
                server.port, question, file, core, connections, lasts, refusals=True
            ).requests_per_second
            for connections in PEAK_CONNECTIONS
        )
        for factor in factors:
            found[factor].append(
                overload(server, question, loop, peak, factor, seconds, normal, number)
            )
    return found


def overload(
    server: Server,
    question: Question,
    loop: OpenLoop,
    peak: float,
    factor: float,
    seconds: int,
    normal: float,
    seed: int,
) -> Overload:
    """Offer so many times the peak for some seconds, and wait until the service has recovered."""
    before, start = server.megabytes(), time.monotonic() + 0.5
    loop.offer(
        server.port,
        [question.raw(server.port)],
        rate=factor * peak,
        seconds=seconds,
        start=start,
        connections=CONNECTIONS,
        seed=seed,
    )
    time.sleep(max(0, start + seconds * 0.9 - time.monotonic()))
    loaded = server.megabytes()
    time.sleep(max(0, start + seconds - time.monotonic()))
    recovery = recovered(server, question, normal)
    answers = loop.answers()
    good, refused, unsent = (answers.status == status for status in (200, 503, open_loop.UNSENT))
    count = len(answers.status)
    in_time = good & (answers.due + answers.latency <= seconds)
    latencies = answers.latency[good] if good.any() else np.array([np.nan])
    return Overload(
        peak_per_s=peak,
        offered_per_s=count / seconds,
        goodput_per_s=in_time.sum() / seconds,
        goodput_of_peak=in_time.sum() / seconds / peak,
        p50_ms=float(np.quantile(latencies, 0.5)) * 1e3,
        p99_ms=float(np.quantile(latencies, 0.99)) * 1e3,
        refused=refused.mean(),
        unsent=unsent.mean(),
        failed=(~(good | refused | unsent)).mean(),
        late_ms=answers.late_seconds * 1e3,
        before_mb=before,
        loaded_mb=loaded,
        after_mb=server.megabytes(),
        recovery_s=recovery,
    )


def recovered(server: Server, question: Question, normal: float) -> float:
    """Return the seconds until some probes in a row take no more than twice what is normal."""
    began, fast = time.monotonic(), [0.0] * 0
    while len(fast) < PROBES:
        asked = time.monotonic() - began
        if asked > RECOVERY_SECONDS:
            return float("inf")
        with contextlib.suppress(OSError, http.client.HTTPException):
            fast = [*fast, asked] if probe(server, question) <= 2 * normal else []
        time.sleep(max(0, began + asked + PROBE_SECONDS - time.monotonic()))
    return fast[0]


def rested(server: Server, question: Question) -> float:
    """Return what a probe takes after a pause: more than one that follows another at once."""
    time.sleep(PROBE_SECONDS)
    return probe(server, question)


def probe(server: Server, question: Question) -> float:
    """Ask once; return the seconds that a good answer takes, infinity for another."""
    began = time.monotonic()
    status = server.ask(question)[0]
    return time.monotonic() - began if status == 200 else float("inf")


def tabulate(
    console: Console, title: str, found: dict[float, list[Overload]]
) -> dict[str, dict[str, float]]:
    """Print the medians over the rounds by factor, and return them."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("offered", *Overload._fields):
        table.add_column(
            name.replace("_per_s", " /s").replace("_of_", " of ").replace("_", " "), justify="right"
        )
    result = {}
    for factor, loads in found.items():
        figures = Overload(*(statistics.median(figure) for figure in zip(*loads, strict=True)))
        result[f"{factor:g}x"] = figures._asdict()
        table.add_row(
            f"{factor:g}x",
            *(f"{figure:.3g}" if figure < 1000 else f"{figure:.0f}" for figure in figures),
        )
    console.print(table, "")
    return result


def main() -> None:
    """Print a table per network, then the JSON document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", metavar="kind", default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10, help="of a load")
    parser.add_argument(
        "--factors", type=float, nargs="+", default=[1, 2, 4], help="of the peak, that are offered"
    )
    parser.add_argument("--cores", default="", help="of the server, then of the generators: 0,1,2")
    parser.add_argument(
        "--artifacts",
        type=Path,
        help="a folder that keeps what is made; by default a temporary one",
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.kinds) - set(KINDS):
        parser.error(
            f"unknown kind: {', '.join(sorted(unknown))}; expected some of {', '.join(KINDS)}"
        )
    serve_load.require()
    core, *others = cores(arguments.cores, 3)
    others = list(dict.fromkeys(others))

    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False, width=160)
    document: dict[str, object] = {"seconds": arguments.seconds, "rounds": arguments.rounds}
    with tempfile.TemporaryDirectory() as folder, OpenLoop(others, Path(folder)) as loop:
        for name in arguments.kinds:
            net, count, dialect = KINDS[name]
            artifact = serve_artifacts.made(net, (arguments.artifacts or Path(folder)).absolute())
            rows = serve_artifacts.rows_for(net, count)
            question = dialect.ask(net, rows)
            with Server(OURS, artifact, core, Path(folder) / name, Path()) as server:
                server.start(question)
                server.check(dialect, question, Predictor(artifact).predict(rows)["probabilities"])
                os.sched_setaffinity(0, others)
                found = measure(
                    server,
                    question,
                    loop,
                    arguments.factors,
                    arguments.rounds,
                    arguments.seconds,
                    others[0],
                )
            document[name] = tabulate(
                console, f"{name}: {net}, {count} rows a request, {dialect.name}", found
            )
    print(json.dumps(document))


if __name__ == "__main__":
    main()
