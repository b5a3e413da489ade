"""What a service costs to start and to keep: seconds from the command to ready, and the memory of its process tree.

    python bench/start.py [ARTIFACT] [--rounds 5]

Starts `python -m service serve` with one worker, waits for /readyz, answers 200 requests, and adds up the
proportional set size of parent and worker. The last line of stdout is one JSON document.
"""

import argparse
import contextlib
import http.client
import json
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil

from service.artifact import manifest, storage

DEADLINE_SECONDS = 30


def main() -> None:
    """Print one line per round, then the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact", nargs="?", default="artifacts/digits")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    measured = [measure(arguments.artifact) for _ in range(arguments.rounds)]
    for figures in measured:
        print("  ".join(f"{name} {value:.3g}" for name, value in figures.items()))
    medians = {
        name: statistics.median(figures[name] for figures in measured) for name in measured[0]
    }
    print(json.dumps({"rounds": arguments.rounds, "median": medians}))


def measure(artifact: str) -> dict[str, float]:
    """Start, use and stop one service; return seconds to ready, to stopped, and megabytes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "service",
        "serve",
        artifact,
        "--port",
        str(port),
        "--no-access-log",
    ]
    started = time.perf_counter()
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while status(port) != 200:
            if server.poll() is not None or time.perf_counter() - started > DEADLINE_SECONDS:
                raise SystemExit(f"the service did not become ready: {' '.join(command)}")
            time.sleep(0.002)
        ready = time.perf_counter() - started
        body = (storage.find_version(Path(artifact)) / manifest.EXAMPLE).read_bytes()
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for _ in range(200):
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            connection.getresponse().read()
        tree = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        megabytes = sum(process.memory_full_info().pss for process in tree) / 1e6
    finally:
        stopping = time.perf_counter()
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=DEADLINE_SECONDS)
    return {"ready_s": ready, "pss_MB": megabytes, "stop_s": time.perf_counter() - stopping}


def status(port: int) -> int:
    """Return the status of /readyz, or 0 while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection), contextlib.suppress(OSError):
        connection.request("GET", "/readyz")
        return connection.getresponse().status
    return 0


if __name__ == "__main__":
    main()
