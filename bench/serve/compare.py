"""Requests per second and latency of the service, its peers and a minimal server (`ceiling`).

    python -m bench.serve.compare [start | matrix | batching | grid ...] [--quick]
                                  [--only STACK ...] [--cells 64x1000 ...] [--against CHECKOUT]

start     time to the first response, memory after 200 requests, and time to stop
matrix    1, 64 and 1024 rows per request, as JSON and as bytes, to networks with 10, 64 or 1000
          input features (each with 100 hidden features and 10 classes), and to digits
batching  1000 -> 4096 -> 10, one row per request from 32 connections, with and without batching
grid      the same for smaller networks, as bytes, to find the sizes from which batching pays off

The first three parts run by default. Every server runs the same model.onnx with one worker, and
must return the service's probabilities before it is measured. The measured server, wrk and the idle
servers use three different cores. Every second round measures the servers in reverse order. The
last column of a table compares each row with the first row of the same protocol: it is the rate of
that first row divided by the rate of this row (median over the rounds). `--against` compares with
the service of another checkout, which needs a .venv of its own. `make bench-serve` installs the
peers. Linux only.
"""

import argparse
import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.arguments import new_parser, one_of
from bench.cores import assign_cores
from bench.load.closed_loop import require_wrk
from bench.report import new_console
from bench.serve.measurement import Bench, Entry, measure
from bench.serve.requests import NATIVE_BINARY, NATIVE_JSON, Protocol
from bench.serve.served_artifact import Server, example_rows, find_or_build_artifact
from bench.serve.stacks import SERVICE, STACKS, Stack, installed_stacks, services
from bench.serve.start import measure_starts
from service.runtime.predictor import Predictor

PARTS = ("start", "matrix", "batching", "grid")
BATCHING_NETWORK = "net-1000-4096"
BATCHING_CONNECTIONS = 32
GRID_NETWORKS = (
    *("net-64-100", "net-64-1024", "net-64-4096"),
    *("net-1000-128", "net-1000-256", "net-1000-512", "net-1000-1024"),
)


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix: a network and a request size, measured in every protocol."""

    network: str
    rows: int
    """Number of rows per request."""

    @property
    def name(self) -> str:
        """Name on the command line: <rows>x<in_features>, or <rows>xdigits."""
        return f"{self.rows}x{self.network.split('-')[1] if '-' in self.network else 'digits'}"

    @property
    def connections(self) -> int:
        """Number of concurrent connections."""
        return 8 if self.rows <= 64 else 2


ROW_CELL = Cell("net-64-100", 1)
QUICK_CELLS = (ROW_CELL, Cell("net-64-100", 64), Cell("net-1000-100", 64))
CELLS = {
    cell.name: cell
    for network in ("net-10-100", "net-64-100", "net-1000-100", "digits")
    for cell in (Cell(network, 1), Cell(network, 64), Cell(network, 1024))
    if cell != Cell("digits", 1024)
}


def label(stack: Stack, protocol: Protocol) -> str:
    """Return the name of a table's row: the stack, and the protocol unless it is JSON."""
    return stack.name if protocol.name == "JSON" else f"{stack.name}, {protocol.name}"


def matrix(bench: Bench, stacks: Sequence[Stack], cells: Sequence[Cell]) -> dict[str, object]:
    """Measure every cell on every stack; print a table per cell, and return the medians by cell."""
    document: dict[str, object] = {}
    for network in dict.fromkeys(cell.network for cell in cells):
        artifact = find_or_build_artifact(network)
        with contextlib.ExitStack() as stack:
            servers = [
                stack.enter_context(Server(kind, artifact, bench.server_core)) for kind in stacks
            ]
            for server in servers:
                protocol = server.stack.protocols[0]
                server.start(protocol.request(network, example_rows(network, 1)))
                server.move_to(bench.idle_core)
            for cell in (cell for cell in cells if cell.network == network):
                document[cell.name] = measure_cell(bench, cell, servers, Predictor(artifact))
    return document


def measure_cell(
    bench: Bench, cell: Cell, servers: Sequence[Server], predictor: Predictor
) -> dict[str, object]:
    """Measure one cell on running servers; print a table, and return the medians by row."""
    rows = example_rows(cell.network, cell.rows)
    entries = [
        Entry(label(server.stack, protocol), server, protocol, protocol.request(cell.network, rows))
        for server in servers
        for protocol in server.stack.protocols
    ]
    size = f"{cell.rows} x {rows.shape[1]} features per request"
    title = f"{cell.network}, {size}, {cell.connections} connections"
    expected = predictor.predict(rows)["probabilities"]
    return measure(bench, title, entries, expected, cell.connections)


def batching(bench: Bench, network: str, protocols: Sequence[Protocol]) -> dict[str, object]:
    """Measure the service with and without batching; print a table, and return the medians."""
    artifact, row, entries = find_or_build_artifact(network), example_rows(network, 1), []
    predictor = Predictor(artifact)
    with contextlib.ExitStack() as stack:
        for mode in ("on", "off"):
            server = stack.enter_context(
                Server(SERVICE, artifact, bench.server_core, TWOLAYERNET_BATCHING=mode)
            )
            server.start(protocols[0].request(network, row))
            server.move_to(bench.idle_core)
            for protocol in protocols:
                name, request = f"{protocol.name}, batching {mode}", protocol.request(network, row)
                entries.append(Entry(name, server, protocol, request))
        size = f"{predictor.weight_bytes / 2**20:.2f} MiB of weights"
        title = f"{network}, 1 row per request, {size}, {BATCHING_CONNECTIONS} connections"
        expected = predictor.predict(row)["probabilities"]
        return measure(bench, title, entries, expected, BATCHING_CONNECTIONS)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line, and set the defaults that depend on other options."""
    names = [stack.name for stack in STACKS if stack is not SERVICE]
    options = {"seconds": (2, "seconds of one run of wrk"), "rounds": (3, "number of rounds")}
    parser = new_parser(__doc__, **options)
    add = parser.add_argument
    add("parts", nargs="*", type=one_of(PARTS), help="parts to run (default: the first three)")
    add("--quick", action="store_true", help="measure three cells in two rounds of one second")
    peers = f"peers to measure (default: all): {', '.join(map(repr, names))}"
    add("--only", nargs="+", metavar="STACK", type=one_of(names), help=peers)
    cells = f"cells of the matrix to measure (default: all): {', '.join(CELLS)}"
    add("--cells", nargs="+", metavar="CELL", type=one_of(CELLS), help=cells)
    add("--against", type=Path, metavar="CHECKOUT", help="compare with this checkout's service")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seconds, arguments.rounds = 1, 2
    if arguments.against:
        arguments.parts = arguments.parts or ["matrix"]
        arguments.cells = arguments.cells or [ROW_CELL.name]
    elif arguments.quick and not arguments.cells:
        arguments.cells = [cell.name for cell in QUICK_CELLS]
    return arguments


def main() -> None:
    """Run the parts, then print the JSON document."""
    arguments = parse_arguments()
    require_wrk()
    stacks = installed_stacks(arguments.only or ())
    if arguments.against:
        stacks = services(arguments.against)
    cells = [CELLS[name] for name in arguments.cells or CELLS]
    server_core, load_core, idle_core = cores = assign_cores(3)
    os.sched_setaffinity(0, {load_core, idle_core})
    document: dict[str, object] = {"cores": cores, "seconds": arguments.seconds}
    console, rounds = new_console(), arguments.rounds
    bench = Bench(console, server_core, load_core, idle_core, arguments.seconds, rounds)
    for part in arguments.parts or PARTS[:3]:
        if part == "start":
            document[part] = measure_starts(console, stacks, "digits", server_core, rounds)
        elif part == "matrix":
            document[part] = matrix(bench, stacks, cells)
        elif part == "batching":
            document[part] = batching(bench, BATCHING_NETWORK, [NATIVE_JSON, NATIVE_BINARY])
        else:
            networks = ((name, batching(bench, name, [NATIVE_BINARY])) for name in GRID_NETWORKS)
            document[part] = dict(networks)
    print(json.dumps(document))


if __name__ == "__main__":
    main()
