"""Latency of /healthz while many clients request a page or a document at the same moment.

    python -m bench.load.pages [ARTIFACT] [--clients 60] [--rounds 5] [--against CHECKOUT]

One worker on one core serves a network with 1000 features. In each round, a new server receives two
bursts for each path: one request per client, all at once. The first burst also renders the
document. Meanwhile, probes measure /healthz on a connection of their own. Columns of the table:
"burst ms" is the time until the last client has its whole reply, "healthz ms" the median and "worst
healthz ms" the largest latency of the probes, each as the median over the rounds. The JSON document
adds the largest latency of all rounds. `--against` compares with the service of another checkout,
which needs a .venv of its own.
"""

import contextlib
import http.client
import json
import os
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.arguments import new_parser
from bench.cores import assign_cores
from bench.report import new_console, print_medians
from bench.serve.requests import HttpRequest
from bench.serve.served_artifact import ARTIFACT_HELP, Server, find_or_build_artifact
from bench.serve.stacks import Stack, services

NETWORK = "net-1000-16"
PATHS = ("/docs", "/openapi.json", "/model", "/")
BURSTS = ("first", "second")
PROBE = HttpRequest("/healthz", method="GET")
PROBE_INTERVAL_SECONDS = 0.002
"""Time between the reply to a probe and the next probe."""
TIMEOUT_SECONDS = 120


class Burst(NamedTuple):
    """Result of one burst."""

    seconds: float
    """Time until the last client has its whole reply."""
    probe_seconds: list[float]
    """Latencies of the probes sent during the burst."""

    def figures(self) -> dict[str, float]:
        """Return the columns of the table, in milliseconds."""
        return {
            "burst_ms": self.seconds * 1e3,
            "healthz_ms": statistics.median(self.probe_seconds) * 1e3,
            "worst_healthz_ms": max(self.probe_seconds) * 1e3,
        }


@contextlib.contextmanager
def connected(port: int) -> Iterator[http.client.HTTPConnection]:
    """Open a connection to the server."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    connection.connect()
    with contextlib.closing(connection):
        yield connection


def get(connection: http.client.HTTPConnection, path: str) -> None:
    """Send a GET request as a browser does, and read the whole reply."""
    connection.request("GET", path, headers={"Accept": "text/html"})
    response = connection.getresponse()
    response.read()
    if response.status != 200:
        raise SystemExit(f"GET {path}: expected status 200, found {response.status}")


def burst(port: int, path: str, clients: int) -> Burst:
    """Send one request per client at the same moment, and probe until every reply is complete."""
    probe_seconds: list[float] = []
    start = threading.Barrier(clients + 1)

    def request() -> None:
        with connected(port) as connection:
            start.wait()
            get(connection, path)

    threads = [threading.Thread(target=request) for _ in range(clients)]
    for thread in threads:
        thread.start()
    with connected(port) as probe:
        get(probe, PROBE.path)
        start.wait()
        start_time = time.perf_counter()
        while not probe_seconds or any(thread.is_alive() for thread in threads):
            probe_start = time.perf_counter()
            get(probe, PROBE.path)
            probe_seconds.append(time.perf_counter() - probe_start)
            time.sleep(PROBE_INTERVAL_SECONDS)
    return Burst(time.perf_counter() - start_time, probe_seconds)


def measure(stack: Stack, artifact: Path, core: int, clients: int) -> dict[str, Burst]:
    """Start a server and return the two bursts of every path."""
    with Server(stack, artifact, core) as server:
        server.start(PROBE)
        return {
            f"{path}, {name}": burst(server.port, path, clients)
            for path in PATHS
            for name in BURSTS
        }


def main() -> None:
    """Measure every path, then print the JSON document."""
    options = {"clients": (60, "requests sent at once"), "rounds": (5, "number of rounds")}
    parser = new_parser(__doc__, **options)
    parser.add_argument("artifact", nargs="?", default=NETWORK, help=ARTIFACT_HELP)
    help_text = "compare with this checkout's service"
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help=help_text)
    arguments = parser.parse_args()
    server_core, load_core = assign_cores(2)
    artifact = find_or_build_artifact(arguments.artifact)
    os.sched_setaffinity(0, {load_core})
    console, document = new_console(), {}
    for stack in services(arguments.against):
        rounds = [
            measure(stack, artifact, server_core, arguments.clients)
            for _ in range(arguments.rounds)
        ]
        bursts = {name: [each[name] for each in rounds] for name in rounds[0]}
        figures = {name: [each.figures() for each in series] for name, series in bursts.items()}
        title = f"{stack.name}, {arguments.clients} clients at once"
        medians = print_medians(console, title, figures)
        worst = {name: max(max(each.probe_seconds) for each in bursts[name]) for name in bursts}
        document[stack.name] = {
            name: medians[name] | {"worst_of_all_ms": worst[name] * 1e3} for name in bursts
        }
    print(json.dumps({"clients": arguments.clients, "rounds": arguments.rounds, **document}))


if __name__ == "__main__":
    main()
