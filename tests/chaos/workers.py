"""What a worker's death costs: of two, one is SIGKILLed every few seconds while clients ask.

    python tests/chaos/workers.py [ARTIFACT] [--seconds 60] [--every 3] [--clients 4] [--seed 0]

The clients keep their connections and compare each reply with the first one. Beside them a probe asks /readyz over a
new connection each time. A connection may break if the killed worker had accepted it, and for no other reason; one
that was refused or broke is no answer. A worker is replaced when another has answered. The last line of stdout is one
JSON document; exit code 1 if the server died, a worker was not replaced, or a reply was wrong.
"""

import argparse
import contextlib
import http.client
import json
import random
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil

from service.artifact import manifest, storage

DEADLINE_SECONDS = 30


class Service:
    """A server of two workers, and what was seen of it."""

    def __init__(self, artifact: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        serve = [
            sys.executable,
            "-m",
            "service",
            "serve",
            str(artifact),
            "--workers",
            "2",
            "--no-access-log",
        ]
        self.host = psutil.Popen(
            [*serve, "--port", str(self.port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.body = (storage.find_version(artifact) / manifest.EXAMPLE).read_bytes()
        self.over = threading.Event()
        self.replies: Counter[int] = Counter()
        self.readyz: Counter[int] = Counter()
        self.broken: list[tuple[str, int]] = []  # how, and the client's port
        self.killed: set[int] = set()  # the clients' ports of connections that a killed worker had
        self.wrong: list[str] = []

    def connect(self) -> http.client.HTTPConnection:
        """Make a connection, not yet open."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)

    def predict(self) -> None:
        """Ask for predictions until it is over, over a connection for as long as it holds."""
        expected = None
        while not self.over.is_set():
            connection, port = self.connect(), 0
            try:
                connection.connect()
                port = connection.sock.getsockname()[1]
                while not self.over.is_set():
                    connection.request(
                        "POST", "/predict", self.body, {"Content-Type": "application/json"}
                    )
                    reply = connection.getresponse()
                    content = reply.read()
                    expected = expected or content
                    self.replies[reply.status] += 1
                    if reply.status != 200 or content != expected:
                        self.wrong.append(f"{reply.status} {content[:200]!r}")
            except (OSError, http.client.HTTPException) as error:
                self.broken.append((type(error).__name__, port))
            finally:
                connection.close()

    def probe(self) -> None:
        """Ask for readiness until it is over, over a new connection each time."""
        while not self.over.wait(0.01):
            self.ready()

    def ready(self, among: psutil.Process | None = None) -> bool:
        """Ask whether it is ready; return whether it is, and if `among` is given, whether that process said so."""
        connection, port = self.connect(), 0
        with contextlib.closing(connection):
            try:
                connection.connect()
                port = connection.sock.getsockname()[1]
                connection.request("GET", "/readyz")
                reply = connection.getresponse()
                reply.read()
                self.readyz[reply.status] += 1
                return reply.status == 200 and (among is None or port in ports(among))
            except (OSError, http.client.HTTPException, psutil.Error) as error:
                if not isinstance(error, psutil.Error):
                    self.broken.append((type(error).__name__, port))
                return False

    def kill(self, worker: psutil.Process) -> float:
        """Kill a worker; return the seconds until another in its place has answered."""
        others = {child.pid for child in self.host.children()}
        worker.suspend()  # it accepts nothing between the look and the kill
        while worker.status() != psutil.STATUS_STOPPED:
            time.sleep(0.0005)
        self.killed |= ports(worker)
        worker.kill()
        killed = time.perf_counter()
        while time.perf_counter() - killed < DEADLINE_SECONDS and self.host.poll() is None:
            new = [child for child in self.host.children() if child.pid not in others]
            if new and self.ready(new[0]):
                return time.perf_counter() - killed
            time.sleep(0.005)
        raise SystemExit(f"the worker was not replaced within {DEADLINE_SECONDS} s")


def main() -> None:
    """Print a line for each kill, then the JSON document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact", nargs="?", type=Path, default=Path("artifacts/digits"))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--every", type=float, default=3, help="seconds between two kills")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0, help="decides which worker")
    arguments = parser.parse_args()
    if arguments.seconds < arguments.every:
        parser.error("--seconds leaves no time for a kill")
    choice = random.Random(arguments.seed)  # noqa: S311 # reproducible, not secret
    service = Service(arguments.artifact)
    try:
        started = time.perf_counter()
        while not service.ready():
            if service.host.poll() is not None or time.perf_counter() - started > DEADLINE_SECONDS:
                raise SystemExit("the service did not become ready")
            time.sleep(0.01)
        service.readyz.clear()
        service.broken.clear()  # nobody listened yet
        threads = [
            threading.Thread(target=service.predict, daemon=True) for _ in range(arguments.clients)
        ]
        threads.append(threading.Thread(target=service.probe, daemon=True))
        for thread in threads:
            thread.start()
        seconds: list[float] = []
        until = time.perf_counter() + arguments.seconds
        while time.perf_counter() + arguments.every <= until:
            time.sleep(arguments.every)
            worker = choice.choice(service.host.children())
            had, broken = len(service.killed), len(service.broken)
            seconds.append(service.kill(worker))
            what = f"{len(service.killed) - had} connections, {len(service.broken) - broken} broke"
            print(
                f"killed {worker.pid}: it had {what}; replaced after {seconds[-1]:.2f} s",
                flush=True,
            )
        time.sleep(arguments.every)
        service.over.set()
        for thread in threads:
            thread.join()
        service.host.send_signal(signal.SIGTERM)
        code = service.host.wait(timeout=DEADLINE_SECONDS)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            service.host.kill()
    elsewhere = Counter(how for how, port in service.broken if port not in service.killed)
    document = {
        "kills": len(seconds),
        "replaced_s": {
            "median": round(statistics.median(seconds), 3),
            "max": round(max(seconds), 3),
        },
        "replies": service.replies,
        "readyz": service.readyz,
        "broken": {
            "with_the_worker": Counter(
                how for how, port in service.broken if port in service.killed
            ),
            "elsewhere": elsewhere,
        },
        "exit_code": code,
    }
    for wrong in service.wrong[:5]:
        print(wrong)
    print(json.dumps(document))
    sys.exit(bool(service.wrong or elsewhere or code or set(service.readyz) != {200}))


def ports(worker: psutil.Process) -> set[int]:
    """Return the clients' ports of the connections that a worker has accepted."""
    return {
        connection.raddr.port for connection in worker.net_connections("tcp") if connection.raddr
    }


if __name__ == "__main__":
    main()
