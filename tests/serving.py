"""Start real servers on free ports for the tests, and wait until they are ready."""

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

ROOT = Path(__file__).parent.parent
DEADLINE_SECONDS = 120
"""Maximum time of a wait, long enough for a machine whose cores are all busy."""


@dataclass(frozen=True)
class Server:
    """A running server."""

    process: subprocess.Popen[str]
    port: int
    log: Path | None = None
    """File with the output; None if the output goes to the pipe `process.stdout`."""

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Send one request; return the status and the JSON document of the reply."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)
        with contextlib.closing(connection):
            # The server may reject a request before it has received the whole body.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=DEADLINE_SECONDS)

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def megabytes(self) -> float:
        """Return the proportional set size of the server and its workers, in megabytes."""
        processes = [psutil.Process(self.process.pid), *self.workers()]
        return float(sum(process.memory_full_info().pss for process in processes) / 1e6)

    def log_lines(self) -> list[str]:
        """Return the lines of the log file."""
        assert self.log is not None
        return self.log.read_text(errors="replace").splitlines()


def free_port() -> int:
    """Return a free port outside the range that the system assigns to outgoing connections."""
    while True:
        port = random.SystemRandom().randrange(10_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def until(condition: Callable[[], Any]) -> Any:
    """Call a condition until its value is true, and return that value."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.005)
    raise AssertionError(f"the condition did not hold within {DEADLINE_SECONDS} s")


@contextlib.contextmanager
def serving(
    command: Sequence[str],
    port: int,
    environment: Mapping[str, str] | None = None,
    status: int = 200,
    log: Path | None = None,
) -> Iterator[Server]:
    """Start a server, wait until it is ready, and kill it at the end.

    Args:
        command: the command line of the server.
        port: TCP port that the command listens on.
        environment: environment variables to add.
        status: status of /readyz to wait for.
        log: file for the output. Without it the output goes to a pipe, which blocks the server
            once 64 kB are unread.
    """
    with contextlib.ExitStack() as stack:
        stdout: int | IO[bytes] = stack.enter_context(log.open("wb")) if log else subprocess.PIPE
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    server = Server(process, port, log)
    deadline = time.monotonic() + DEADLINE_SECONDS
    try:
        while True:
            with contextlib.suppress(OSError):
                if server.request("GET", "/readyz")[0] == status:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                kill(process)
                output = log.read_text() if log else process.communicate()[0]
                raise AssertionError(f"{' '.join(command)} did not become ready: {output}")
        yield server
    finally:
        kill(process)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a command and every process that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def granian(artifact: Path, port: int, *options: str) -> list[str]:
    """Return the command line that serves an artifact."""
    return [sys.executable, "-m", "service", "serve", str(artifact), "--port", str(port), *options]
