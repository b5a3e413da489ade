"""What an answer costs, beside the service's peers and beside its ceiling: one worker on one core.

    python bench/serve.py [start | matrix | batching | grid ...] [--quick] [--only STACK ...] [--cells 64x1000 ...]

start     seconds from the command to the first answer, and the memory of the process tree after 200 answers
matrix    requests and rows per second and latencies: rows of 10, 64 and 1000 features and of digits, 1, 64 and 1024
          at a time, hidden 100, 10 classes, as JSON and as bytes
batching  1000 -> 4096 -> 10, one row a request from 32 callers, requests joined and not
grid      the same of smaller networks, as bytes: where joining begins to pay

All of them but the grid unless told. The same model.onnx everywhere, and the same rows; before it is measured, every
stack's answer is held to the service's own. The server has one core and wrk another; a server that waits for its turn
is moved to a third. Rounds alternate, and a ratio is the median of the rounds' ratios. `make bench-serve` makes the
peers' environments. The last line of stdout is one JSON document. Linux only, for what it says of memory and cores.
"""

import argparse
import contextlib
import json
import math
import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import serve_artifacts
import serve_load
from rich.console import Console
from rich.table import Table
from serve_dialects import NATIVE, OCTETS, Dialect, Question
from serve_load import Load
from serve_stacks import OURS, STACKS, Server, Stack, cores

from service.runtime.predictor import Predictor

BENCH = Path(__file__).resolve().parent
NETS = ("net-10-100", "net-64-100", "net-1000-100", "digits")
WIDE = "net-1000-4096"
GRID = (
    "net-64-100",
    "net-64-1024",
    "net-64-4096",
    "net-1000-128",
    "net-1000-256",
    "net-1000-512",
    "net-1000-1024",
)
CALLERS = 32
ANSWERS = 12
"""That a run should see, if it does not last longer than this for it:"""
MOST_SECONDS = 6
PARTS = ("start", "matrix", "batching", "grid")
USUAL = PARTS[:3]
NAMES = [stack.name for stack in STACKS if stack is not OURS]
Found = dict[str, list[Load]]
"""By what was measured, a figure per round."""


def labels(stack: Stack) -> dict[str, Dialect]:
    """Name each dialect of a stack, the usual one as the stack itself."""
    return {
        stack.name if dialect.name == "JSON" else f"{stack.name}, {dialect.name}": dialect
        for dialect in stack.dialects
    }


class Cell(NamedTuple):
    """One table: rows of one network, in every dialect."""

    net: str
    rows: int

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.rows}x{self.net if self.net == 'digits' else self.net.split('-')[1]}"

    @property
    def connections(self) -> int:
        """How many ask at a time."""
        return 8 if self.rows <= 64 else 2


ROW, ROWS, WIDE_ROWS = HEADLINES = (
    Cell("net-64-100", 1),
    Cell("net-64-100", 64),
    Cell("net-1000-100", 64),
)
PEERS = [label for stack in STACKS for label in labels(stack) if stack.peer]
CELLS = [
    Cell(net, rows) for net in NETS for rows in (1, 64, 1024) if net != "digits" or rows < 1024
]


@dataclass(frozen=True)
class Bench:
    """What every part is given."""

    console: Console
    folder: Path
    """Of what is made while it runs."""
    artifacts: Path
    """Where serve_artifacts.made puts and finds them."""
    peers: Path
    cores: tuple[int, int, int]
    """Of the server, of wrk, and of the servers that wait."""
    seconds: int
    """Of one run of wrk."""
    rounds: int
    headline_rounds: int
    stacks: Sequence[Stack]
    cells: Sequence[Cell]

    def server(self, stack: Stack, net: str, **environment: str) -> Server:
        """Make a server of a stack."""
        place = Path(tempfile.mkdtemp(dir=self.folder)) / "server"
        artifact = serve_artifacts.made(net, self.artifacts)
        return Server(stack, artifact, self.cores[0], place, self.peers, **environment)

    def load(self, server: Server, question: Question, connections: int, seconds: int) -> Load:
        """Bring a server to its core, and ask it there."""
        with server.at_work(parking=self.cores[2]):
            return serve_load.wrk(
                server.port,
                question,
                server.folder / "question",
                self.cores[1],
                connections,
                seconds,
            )


class Claim(NamedTuple):
    """A ratio that the service must reach, as the median of the rounds' ratios."""

    place: str
    """A cell's name, or batching."""
    above: str
    below: str
    least: float
    figure: str = "requests_per_second"


CLAIMS = (
    Claim(ROW.name, "ours", "ceiling", 0.7),
    Claim(ROW.name, "ours", "FastAPI, documented", 2),
    Claim(ROW.name, "ours", "FastAPI, tuned", 1),
    Claim(ROW.name, "ours", "MLServer, V2 JSON", 5),
    *(Claim(ROWS.name, "ours", name, 1) for name in PEERS),
    Claim(WIDE_ROWS.name, "ours", "orjson, Flask view", 2),
    Claim(WIDE_ROWS.name, "ours", "orjson, bare WSGI", 2),
    Claim(WIDE_ROWS.name, "ours, V2 binary", "ours", 4),
    Claim("batching", "JSON, batching on", "JSON, batching off", 2),
    Claim("batching", "octet-stream, batching on", "octet-stream, batching off", 2.5),
    Claim("batching", "JSON, batching off", "JSON, batching on", 1, "p99_seconds"),
    Claim("batching", "octet-stream, batching off", "octet-stream, batching on", 1, "p99_seconds"),
)


class Entry(NamedTuple):
    """One line of a table."""

    label: str
    server: Server
    dialect: Dialect
    question: Question


def start(bench: Bench) -> dict[str, dict[str, float]]:
    """Start each stack alone, again and again; return medians by stack."""
    rows = serve_artifacts.rows_for("digits", 1)
    expected = Predictor(serve_artifacts.made("digits", bench.artifacts)).predict(rows)[
        "probabilities"
    ]
    found: dict[str, list[tuple[float, float]]] = {stack.name: [] for stack in bench.stacks}
    for _ in range(bench.rounds + 1):
        for stack in bench.stacks:
            dialect = stack.dialects[0]
            question = dialect.ask("digits", rows)
            with bench.server(stack, "digits") as server:
                seconds = server.start(question)
                for _ in range(200):
                    server.check(dialect, question, expected)
                found[stack.name].append((seconds, server.megabytes()))
    table = columns("from the command to the first answer; memory after 200", "seconds", "PSS MB")
    result = {}
    for name, figures in found.items():
        seconds, megabytes = (statistics.median(figure) for figure in zip(*figures, strict=True))
        result[name] = {"first_answer_s": seconds, "pss_MB": megabytes}
        table.add_row(name, f"{seconds:.2f}", f"{megabytes:.0f}")
    bench.console.print(table, "")
    return result


def matrix(bench: Bench) -> dict[str, Found]:
    """Measure every cell on every stack; print tables, and return by cell what was found."""
    result = {}
    for net in dict.fromkeys(cell.net for cell in bench.cells):
        predictor = Predictor(serve_artifacts.made(net, bench.artifacts))
        with contextlib.ExitStack() as stack:
            servers = [stack.enter_context(bench.server(kind, net)) for kind in bench.stacks]
            for server in servers:
                server.start(server.stack.dialects[0].ask(net, serve_artifacts.rows_for(net, 1)))
                server.move(bench.cores[2])
            for cell in (cell for cell in bench.cells if cell.net == net):
                result[cell.name] = measure(bench, cell, servers, predictor)
    return result


def measure(bench: Bench, cell: Cell, servers: Sequence[Server], predictor: Predictor) -> Found:
    """Measure one cell on servers that have been started."""
    rows = serve_artifacts.rows_for(cell.net, cell.rows)
    expected = predictor.predict(rows)["probabilities"]
    entries, seconds = [], {}
    for server in servers:
        for label, dialect in labels(server.stack).items():
            entries.append(Entry(label, server, dialect, dialect.ask(cell.net, rows)))
    for label, server, dialect, question in entries:
        with server.at_work(parking=bench.cores[2]):
            server.check(dialect, question, expected)
            one = min(server.check(dialect, question, expected) for _ in range(3))
        seconds[label] = max(
            bench.seconds, math.ceil(min(ANSWERS * one, max(MOST_SECONDS, 4 * one)))
        )

    found: Found = {entry.label: [] for entry in entries}
    for number in range(bench.headline_rounds if cell in HEADLINES else bench.rounds):
        for label, server, _, question in entries if number % 2 == 0 else entries[::-1]:
            found[label].append(bench.load(server, question, cell.connections, seconds[label]))
    features = rows.shape[1]
    tabulate(
        bench,
        f"{cell.rows} rows of {features}, {cell.net}, {cell.connections} connections",
        found,
        cell.rows,
    )
    return found


def batching(bench: Bench, net: str, dialects: Sequence[Dialect], rounds: int) -> Found:
    """Measure the service with and without joined requests."""
    rows = serve_artifacts.rows_for(net, 1)
    predictor = Predictor(serve_artifacts.made(net, bench.artifacts))
    expected = predictor.predict(rows)["probabilities"]
    found: Found = {}
    with contextlib.ExitStack() as stack:
        entries = []
        for mode in ("on", "off"):
            server = stack.enter_context(bench.server(OURS, net, TWOLAYERNET_BATCHING=mode))
            questions = {dialect: dialect.ask(net, rows) for dialect in dialects}
            server.start(questions[dialects[0]])
            for dialect, question in questions.items():
                server.check(dialect, question, expected)
                entries.append(Entry(f"{dialect.name}, batching {mode}", server, dialect, question))
            server.move(bench.cores[2])
        for number in range(rounds):
            for label, server, _, question in entries if number % 2 == 0 else entries[::-1]:
                found.setdefault(label, []).append(
                    bench.load(server, question, CALLERS, bench.seconds)
                )
    size = f"{predictor.weight_bytes / 2**20:.2f} MiB of weights"
    tabulate(bench, f"1 row of {rows.shape[1]}, {net}, {size}, {CALLERS} connections", found, 1)
    return found


def tabulate(bench: Bench, title: str, found: Found, rows: int) -> None:
    """Print a table of medians; the first line is what the others are held to."""
    table = columns(title, "requests/s", "rows/s", "p50 ms", "p99 ms", "first / it")
    first = next(iter(found.values()))
    for label, loads in found.items():
        rate, p50, p99 = medians(loads)
        ratio = ratio_of(first, loads)
        table.add_row(
            label,
            f"{rate:.0f}",
            f"{rate * rows:.0f}",
            f"{p50 * 1e3:.2f}",
            f"{p99 * 1e3:.2f}",
            f"{ratio:.2f}",
        )
    bench.console.print(table, "")


def medians(loads: Sequence[Load]) -> tuple[float, float, float]:
    """Return the medians over the rounds: requests per second, and seconds at p50 and p99."""
    rate, p50, p99 = (statistics.median(figures) for figures in zip(*loads, strict=True))
    return rate, p50, p99


def ratio_of(
    above: Sequence[Load], below: Sequence[Load], figure: str = "requests_per_second"
) -> float:
    """Return the median of the rounds' ratios of one figure."""
    ratios: list[float] = [
        getattr(a, figure) / getattr(b, figure) for a, b in zip(above, below, strict=True)
    ]
    return statistics.median(ratios)


def shown(bench: Bench, measured: Mapping[str, Found]) -> list[dict[str, object]]:
    """Print what CLAIMS says of that which was measured, and return it."""
    table, result = columns("what it must show", "found", "at least"), []
    for place, above, below, least, figure in CLAIMS:
        found = measured.get(place, {})
        if above in found and below in found:
            ratio = ratio_of(found[above], found[below], figure)
            what = f"{place}: {figure} of {above} / {below}"
            table.add_row(what, f"{ratio:.2f}", f"{least:g}", "" if ratio >= least else "MISSED")
            result.append({"what": what, "found": ratio, "at_least": least})
    if result:
        bench.console.print(table, "")
    return result


def columns(title: str, *names: str) -> Table:
    """Begin a table whose first column holds names."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    return table


def documented(found: Found, rows: int) -> dict[str, dict[str, float]]:
    """Return the medians by name, for the document."""
    first, result = next(iter(found.values())), {}
    for label, loads in found.items():
        rate, p50, p99 = medians(loads)
        result[label] = {
            "requests_per_s": rate,
            "rows_per_s": rate * rows,
            "p50_ms": p50 * 1e3,
            "p99_ms": p99 * 1e3,
            "first_to_it": ratio_of(first, loads),
        }
    return result


def main() -> None:
    """Run the parts that are asked for; print their tables, then the JSON document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="part", default=list(USUAL))
    parser.add_argument(
        "--quick", action="store_true", help="two rounds of a second, of the headlines alone"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="STACK", help="these stacks beside ours: " + ", ".join(NAMES)
    )
    parser.add_argument(
        "--cells", nargs="+", metavar="CELL", help=" ".join(cell.name for cell in CELLS)
    )
    parser.add_argument("--seconds", type=int, default=2, help="of one run of wrk")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--headline-rounds", type=int, default=5)
    parser.add_argument(
        "--cores", default="", help="of the server, of wrk, and of the servers that wait: 0,1,2"
    )
    parser.add_argument(
        "--artifacts",
        type=Path,
        help="a folder that keeps what is made; by default a temporary one",
    )
    parser.add_argument("--peers", type=Path, default=BENCH.parent / ".peers")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(
            f"unknown part: {', '.join(sorted(unknown))}; expected some of {', '.join(PARTS)}"
        )
    if unknown := set(arguments.only or ()) - set(NAMES):
        parser.error(
            f"--only: unknown stack: {', '.join(sorted(unknown))}; expected some of {', '.join(NAMES)}"
        )
    if unknown := set(arguments.cells or ()) - {cell.name for cell in CELLS}:
        parser.error(f"--cells: unknown: {', '.join(sorted(unknown))}")
    if arguments.quick:
        arguments.seconds, arguments.rounds, arguments.headline_rounds = 1, 1, 2
        arguments.cells = arguments.cells or [cell.name for cell in HEADLINES]
    stacks = [
        stack
        for stack in STACKS
        if stack is OURS or not arguments.only or stack.name in arguments.only
    ]
    for stack in stacks:
        if stack.peer and not (arguments.peers / stack.peer).exists():
            parser.error(f"{arguments.peers / stack.peer} is missing: make bench-serve makes it")
    serve_load.require()
    core, other, parking = cores(arguments.cores, 3)
    os.sched_setaffinity(0, {other, parking})

    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False, width=120)
    document: dict[str, object] = {"cores": [core, other, parking], "seconds": arguments.seconds}
    measured: dict[str, Found] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(
            console=console,
            folder=Path(folder),
            artifacts=(arguments.artifacts or Path(folder)).absolute(),
            peers=arguments.peers.absolute(),
            cores=(core, other, parking),
            seconds=arguments.seconds,
            rounds=arguments.rounds,
            headline_rounds=arguments.headline_rounds,
            stacks=stacks,
            cells=[cell for cell in CELLS if not arguments.cells or cell.name in arguments.cells],
        )
        if "start" in arguments.parts:
            document["start"] = start(bench)
        if "matrix" in arguments.parts:
            measured = matrix(bench)
            document["matrix"] = {
                cell.name: documented(measured[cell.name], cell.rows) for cell in bench.cells
            }
        if "batching" in arguments.parts:
            measured["batching"] = batching(bench, WIDE, (NATIVE, OCTETS), bench.headline_rounds)
            document["batching"] = documented(measured["batching"], 1)
        if "grid" in arguments.parts:
            document["grid"] = {
                net: documented(batching(bench, net, (OCTETS,), bench.rounds), 1) for net in GRID
            }
        document["shown"] = shown(bench, measured)
    print(json.dumps(document))


if __name__ == "__main__":
    main()
