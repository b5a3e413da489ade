"""Worker deaths under load: the death of a worker breaks no connection of another worker.

CHAOS_WORKER_KILLS sets the number of kills (default: 3), and CHAOS_SEED the seed to choose workers.
"""

import contextlib
import functools
import os
import random
import statistics
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from service.artifact import manifest
from service.host.supervisor import EARLY_DEATH_SECONDS
from tests.chaos.load import (
    BrokenConnection,
    Client,
    LoadRequest,
    client_ports,
    connect,
    exchange,
    load,
)
from tests.serving import Server, free_port, granian, serving, until
from tests.stored import FLOWERS

pytestmark = [pytest.mark.chaos, pytest.mark.e2e]

KILLS = int(os.environ.get("CHAOS_WORKER_KILLS", "3"))
SEED = int(os.environ.get("CHAOS_SEED", "0"))
CLIENTS = 4
REPLIES_BETWEEN_KILLS = 500
MIN_AGE_SECONDS = 2 * EARLY_DEATH_SECONDS
"""Minimum age of a worker that is killed.

After two early deaths in a row the supervisor closes the worker's listener, which resets the
connections in its accept queue.
"""
PREDICT = LoadRequest("POST", "/predict", (FLOWERS.artifact / manifest.EXAMPLE).read_bytes())
READYZ = LoadRequest("GET", "/readyz")


class Kill(NamedTuple):
    """The clients' ports of a killed worker's connections, and times by time.monotonic()."""

    ports: set[int]
    suspended: float
    killed: float
    replaced: float
    """Time of the first reply of the new worker."""

    def explains(self, broken: BrokenConnection) -> bool:
        """Return whether the kill may have broken a connection."""
        if broken.local_port:
            return broken.local_port in self.ports
        # The port of a connection that is reset during connect() is unknown.
        return self.suspended <= broken.seconds <= self.replaced


def kill_worker(server: Server, worker: psutil.Process) -> Kill:
    """Kill a worker, and wait for a reply of the worker that replaces it."""
    before, suspended = {process.pid for process in server.workers()}, time.monotonic()
    worker.suspend()  # A suspended worker accepts no connection after its ports are listed.
    until(lambda: worker.status() == psutil.STATUS_STOPPED)
    ports = client_ports(worker)
    worker.kill()
    killed = time.monotonic()

    def replaced() -> bool:
        new = [process for process in server.workers() if process.pid not in before]
        if not new:
            return False
        with contextlib.closing(connect(server.port)) as connection:
            status, _ = exchange(connection, READYZ)
            local_port = connection.sock.getsockname()[1]
            with contextlib.suppress(psutil.Error):  # A process may end before it is inspected.
                return status == 200 and any(local_port in client_ports(other) for other in new)
        return False

    until(replaced)
    return Kill(ports, suspended, killed, time.monotonic())


def wait_for_replies(clients: Sequence[Client], count: int) -> None:
    """Wait until the clients have received a number of further replies."""
    before = sum(client.replies for client in clients)
    until(lambda: sum(client.replies for client in clients) >= before + count)


def has_passed(moment: float) -> bool:
    """Return whether a moment on the clock time.monotonic() has passed."""
    return time.monotonic() >= moment


def test_worker_deaths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Killed workers are replaced, no reply is wrong, and other workers' connections survive."""
    port = free_port()
    command = granian(FLOWERS.artifact, port, "--workers", "2", "--no-access-log")
    choices, stop = random.Random(SEED), threading.Event()  # noqa: S311 # no cryptography
    with serving(command, port, log=tmp_path / "log") as server:
        with contextlib.closing(connect(port)) as connection:
            expected = exchange(connection, PREDICT)

        def check_prediction(position: int, status: int, body: bytes) -> str | None:
            return None if (status, body) == expected else f"{status} {body[:200]!r}"

        def check_readiness(position: int, status: int, body: bytes) -> str | None:
            return None if status == 200 else f"{status} {body[:200]!r}"

        clients = [Client(port, [PREDICT], lambda: check_prediction, stop) for _ in range(CLIENTS)]
        probe = Client(port, [READYZ], lambda: check_readiness, stop, persistent=False)
        kills: list[Kill] = []
        start = time.monotonic()
        with load([*clients, probe], stop):
            for _ in range(KILLS):
                wait_for_replies(clients, REPLIES_BETWEEN_KILLS)
                old_enough = (kills[-1].replaced if kills else start) + MIN_AGE_SECONDS
                until(functools.partial(has_passed, old_enough))
                kills.append(kill_worker(server, choices.choice(server.workers())))
        exit_code = server.stop()
    seconds = [kill.replaced - kill.killed for kill in kills]
    broken = [connection for client in (*clients, probe) for connection in client.broken]
    with capsys.disabled():
        print(
            f"\n{KILLS} workers killed, replaced after {statistics.median(seconds):.2f} s "
            f"(median), {max(seconds):.2f} s (slowest); "
            f"{sum(client.replies for client in clients)} predictions, {probe.replies} readiness "
            f"checks; {len(broken)} connections broke with their worker"
        )
    assert [] == [text for client in (*clients, probe) for text in client.wrong]
    assert [] == [error for error in broken if not any(kill.explains(error) for kill in kills)]
    assert 0 == exit_code
