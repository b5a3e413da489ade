"""Worker deaths under load: the death of a worker breaks no connection of another worker.

Workers are killed in any pattern: two in a row, or while they start. CHAOS_WORKER_KILLS sets the
number of kills (default: 6), and CHAOS_SEED the seed of the pattern.
"""

import contextlib
import os
import random
import signal
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from service.artifact import manifest
from tests.chaos.load import (
    READYZ,
    Client,
    LoadRequest,
    client_ports,
    connect,
    exchange,
    hit,
    load,
)
from tests.serving import Server, free_port, granian, serving, until
from tests.stored import FLOWERS

pytestmark = [pytest.mark.chaos, pytest.mark.e2e]

KILLS = int(os.environ.get("CHAOS_WORKER_KILLS", "6"))
SEED = int(os.environ.get("CHAOS_SEED", "0"))
WORKERS = 2
CLIENTS = 4
REPLIES_BETWEEN_SERIES = 500
MAX_KILLS_IN_SERIES = 10
"""Maximum number of kills in a series, after which all workers must reply again."""
NEW_CONNECTIONS = 200
"""Number of new connections at the end, all of which must be answered."""
PREDICT = LoadRequest("POST", "/predict", (FLOWERS.artifact / manifest.EXAMPLE).read_bytes())


class Series(NamedTuple):
    """Kills in a row, and the time from the last of them until all workers reply."""

    kills: int
    ports: set[int]
    """The clients' ports of the killed workers' connections."""
    seconds: float


def repliers(server: Server) -> set[int]:
    """Return the process IDs of the workers that answer any of a few new connections."""
    replies = set()
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(contextlib.closing(connect(server.port))) for _ in range(8)
        ]
        ports = set()
        for connection in connections:
            assert 200 == exchange(connection, READYZ)[0]
            ports.add(connection.sock.getsockname()[1])
        for worker in server.workers():
            with contextlib.suppress(psutil.Error):  # A process may end before it is inspected.
                if ports & client_ports(worker):
                    replies.add(worker.pid)
    return replies


def kill_series(server: Server, choices: random.Random) -> Series:
    """Kill a random number of workers, whatever they do, and wait until all slots reply again."""
    kills, ports = choices.randint(1, MAX_KILLS_IN_SERIES), set[int]()
    one_slot = choices.random() < 0.5
    spared = choices.choice(server.workers()).pid if one_slot else 0
    for _ in range(kills):
        candidates = until(lambda: [w for w in server.workers() if w.pid != spared])
        worker = choices.choice(candidates)
        ports |= hit(worker, signal.SIGKILL).ports
        worker.wait()
    start = time.monotonic()
    until(lambda: len(repliers(server)) == WORKERS)
    return Series(kills, ports, time.monotonic() - start)


def wait_for_replies(clients: Sequence[Client], count: int) -> None:
    """Wait until the clients have received a number of further replies."""
    before = sum(client.replies for client in clients)
    until(lambda: sum(client.replies for client in clients) >= before + count)


def all_series(server: Server, clients: Sequence[Client]) -> Iterator[Series]:
    """Kill workers in one series after the other, until there were KILLS of them."""
    choices, kills = random.Random(SEED), 0  # noqa: S311 # no cryptography
    while kills < KILLS:
        wait_for_replies(clients, REPLIES_BETWEEN_SERIES)
        series = kill_series(server, choices)
        kills += series.kills
        yield series


def test_worker_deaths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Killed workers are replaced, no reply is wrong, and other workers' connections survive."""
    port, stop = free_port(), threading.Event()
    command = granian(FLOWERS.artifact, port, "--workers", str(WORKERS), "--no-access-log")
    with serving(command, port, log=tmp_path / "log") as server:
        with contextlib.closing(connect(port)) as connection:
            expected = exchange(connection, PREDICT)

        def check_prediction(position: int, status: int, body: bytes) -> str | None:
            return None if (status, body) == expected else f"{status} {body[:200]!r}"

        def check_readiness(position: int, status: int, body: bytes) -> str | None:
            return None if status == 200 else f"{status} {body[:200]!r}"

        clients = [Client(port, [PREDICT], lambda: check_prediction, stop) for _ in range(CLIENTS)]
        probe = Client(port, [READYZ], lambda: check_readiness, stop, persistent=False)
        with load([*clients, probe], stop):
            done = list(all_series(server, clients))
        answers = [server.request("GET", "/healthz")[0] for _ in range(NEW_CONNECTIONS)]
        exit_code = server.stop()
    broken = [connection for client in (*clients, probe) for connection in client.broken]
    seconds = [series.seconds for series in done]
    with capsys.disabled():
        print(
            f"\n{sum(series.kills for series in done)} workers killed in {len(done)} series; all "
            f"replied {statistics.median(seconds):.2f} s later (median), {max(seconds):.2f} s "
            f"(slowest); {sum(client.replies for client in clients)} predictions, {probe.replies} "
            f"readiness checks; {len(broken)} connections broke with their worker"
        )
    ports = set().union(*(series.ports for series in done))
    assert [] == [text for client in (*clients, probe) for text in client.wrong]
    unexplained = [error for error in broken if error.local_port not in ports]
    assert [] == unexplained, (unexplained, server.log_lines())
    assert NEW_CONNECTIONS == answers.count(200)
    assert 0 == exit_code
