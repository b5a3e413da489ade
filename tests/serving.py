"""Real servers for the tests: started as a person starts them, on a free port, awaited by their readiness."""

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
from typing import Any

ROOT = Path(__file__).parent.parent
DEADLINE_SECONDS = (
    120  # for a machine whose cores are all taken; nothing waits for it when all is well
)


@dataclass(frozen=True)
class Server:
    """A running server."""

    process: subprocess.Popen[str]
    port: int

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Send one request; return the status and the JSON document of the reply."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)
        with contextlib.closing(connection):
            with contextlib.suppress(
                BrokenPipeError, ConnectionResetError
            ):  # refused before all of it was sent
                connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=DEADLINE_SECONDS)


def free_port() -> int:
    """Return a port that nobody listens on, and that the system hands to nobody before a slow command binds it."""
    while True:
        port = random.SystemRandom().randrange(10_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def until(condition: Callable[[], Any]) -> Any:
    """Wait for a condition and return what it found."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.005)
    raise AssertionError("it did not come about")


@contextlib.contextmanager
def serving(
    command: Sequence[str],
    port: int,
    environment: Mapping[str, str] | None = None,
    status: int = 200,
) -> Iterator[Server]:
    """Start a command that listens on port, wait until /readyz answers `status`, and stop it at the end."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    server = Server(process, port)
    deadline = time.monotonic() + DEADLINE_SECONDS
    try:
        while True:
            with contextlib.suppress(OSError):
                if server.request("GET", "/readyz")[0] == status:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                kill(process)
                raise AssertionError(
                    f"{' '.join(command)} did not answer: {process.communicate()[0]}"
                )
        yield server
    finally:
        kill(process)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a command with all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def granian(artifact: Path, port: int, *options: str) -> list[str]:
    """Return the command that serves an artifact."""
    return [sys.executable, "-m", "service", "serve", str(artifact), "--port", str(port), *options]
