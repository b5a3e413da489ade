"""Memory of one worker while clients send large bodies and do not read the replies.

    python -m bench.load.memory [--loads LOAD ...] [--clients 40] [--seconds 10] [--rounds 1]
                                [--against CHECKOUT]

separate, batched   every client repeats a JSON body of 16 MB, without and with batching
gzip                every client repeats the same body, compressed, without batching
unread              every client sends such a body and reads nothing

A further client sends one row every 50 ms. Columns: "idle" and "peak" are the proportional set size
of the process tree in MB, "after" that of 35 s later, when the connections of clients that read
nothing have been closed; "answered" and "rejected" count the large requests with status 200 and
503; "small answered" and "small failed" those of one row; "small max" is the longest time of one of
these in milliseconds. Each figure is the median over the rounds. `--against` compares with the
service of another checkout, which needs a .venv of its own: the measurements alternate. Linux only.
"""

import contextlib
import gzip
import http.client
import json
import os
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.arguments import new_parser
from bench.cores import assign_cores
from bench.report import new_console, print_medians
from bench.serve.requests import JSON, NATIVE_JSON, HttpRequest
from bench.serve.served_artifact import Server, example_rows, find_or_build_artifact
from bench.serve.stacks import Stack, services

NETWORK = "digits"
ROWS = 55_000
"""Number of rows per large request; the body is close to the default limit of 16 MiB."""
AFTER_SECONDS = 35
"""Seconds to wait before "after" is measured; longer than the default of --send-seconds."""
"""Time in seconds from the end of the load `unread` until the measurement "after"."""
INTERVAL_SECONDS = 0.05
"""Time in seconds between two measurements, and from a reply to the next request of one row."""
LOADS = ("separate", "batched", "gzip", "unread")


@dataclass
class Outcomes:
    """The statuses of the requests of one load, 0 for a broken connection."""

    large: Counter[int] = field(default_factory=Counter)
    small: Counter[int] = field(default_factory=Counter)
    small_max_seconds: float = 0.0


def send(server: Server, request: HttpRequest) -> int:
    """Send a request; return the status, or 0 if the connection breaks."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return server.send(request)[0]
    return 0


def send_unread(server: Server, request: HttpRequest, stop: threading.Event) -> None:
    """Send a request over a connection with a small receive buffer, and read nothing."""
    with socket.socket() as connection, contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(request.encode(server.port))
        stop.wait()


def measure(stack: Stack, load: str, core: int, clients: int, seconds: float) -> dict[str, float]:
    """Start a server, run a load, and return the figures."""
    artifact = find_or_build_artifact(NETWORK)
    small = NATIVE_JSON.request(NETWORK, example_rows(NETWORK, 1))
    rows = np.random.default_rng(0).standard_normal((ROWS, 64)).round(1).tolist()
    body = json.dumps({"instances": rows}, separators=(",", ":")).encode()
    headers = {"Content-Type": JSON}
    if load == "gzip":
        body, headers["Content-Encoding"] = gzip.compress(body, 1), "gzip"
    large = HttpRequest("/predict", body, headers)
    outcomes, stop = Outcomes(), threading.Event()
    batching = "on" if load == "batched" else "off"
    with Server(stack, artifact, core, TWOLAYERNET_BATCHING=batching) as server:
        server.start(small)
        idle = server.memory_megabytes()

        def repeat() -> None:
            while not stop.is_set():
                if load == "unread":
                    send_unread(server, large, stop)
                    continue
                outcomes.large[send(server, large)] += 1

        def probe() -> None:
            while not stop.wait(INTERVAL_SECONDS):
                start = time.monotonic()
                outcomes.small[send(server, small)] += 1
                elapsed = time.monotonic() - start
                outcomes.small_max_seconds = max(outcomes.small_max_seconds, elapsed)

        threads = [threading.Thread(target=repeat) for _ in range(clients)]
        threads.append(threading.Thread(target=probe))
        for thread in threads:
            thread.start()
        peak, end = idle, time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(INTERVAL_SECONDS)
            peak = max(peak, server.memory_megabytes())
        if load == "unread":
            time.sleep(AFTER_SECONDS)
        stop.set()
        for thread in threads:
            thread.join()
        after = server.memory_megabytes()
    return {
        **{"idle": idle, "peak": peak, "after": after},
        **{"answered": outcomes.large[200], "rejected": outcomes.large[503]},
        "small_answered": outcomes.small[200],
        "small_failed": outcomes.small.total() - outcomes.small[200],
        "small_max": outcomes.small_max_seconds * 1e3,
    }


def main() -> None:
    """Print the table, then the JSON document."""
    options = {"clients": (40, "number of clients"), "seconds": (10, "seconds of each load")}
    parser = new_parser(__doc__, **options, rounds=(1, "number of rounds"))
    help_text = "compare with this checkout's service"
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help=help_text)
    parser.add_argument("--loads", nargs="*", choices=LOADS, default=LOADS, help="loads to run")
    arguments = parser.parse_args()
    server_core, *other_cores = dict.fromkeys(assign_cores(3))
    os.sched_setaffinity(0, other_cores or {server_core})
    clients, seconds = arguments.clients, arguments.seconds
    figures: dict[str, list[dict[str, float]]] = {}
    for _ in range(arguments.rounds):
        for load in arguments.loads:
            for stack in services(arguments.against):
                result = measure(stack, load, server_core, clients, seconds)
                figures.setdefault(f"{load}, {stack.name}", []).append(result)
    document = print_medians(new_console(140), f"{clients} clients, bodies of 16 MB", figures)
    print(json.dumps({"clients": clients, "seconds": seconds, "loads": document}))


if __name__ == "__main__":
    main()
