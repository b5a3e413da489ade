"""Worker deaths under load: a killed worker breaks only the connections that it had accepted.

CHAOS_WORKER_KILLS sets the number of kills (3), and CHAOS_SEED which workers die (0).
"""

import contextlib
import os
import random
import statistics
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from service.artifact import manifest
from tests.chaos.load import Client, LoadRequest, client_ports, connect, exchange, load
from tests.serving import Server, free_port, granian, serving, until
from tests.stored import FLOWERS

pytestmark = [pytest.mark.chaos, pytest.mark.e2e]

KILLS = int(os.environ.get("CHAOS_WORKER_KILLS", "3"))
SEED = int(os.environ.get("CHAOS_SEED", "0"))
CLIENTS = 4
REPLIES_BETWEEN_KILLS = 500
PREDICT = LoadRequest("POST", "/predict", (FLOWERS.artifact / manifest.EXAMPLE).read_bytes())
READYZ = LoadRequest("GET", "/readyz")


def kill_worker(server: Server, worker: psutil.Process) -> tuple[set[int], float]:
    """Kill a worker and wait until another has replied in its place.

    Returns:
        The clients' ports of the connections that the worker had, and the seconds of the wait.
    """
    before = {process.pid for process in server.workers()}
    worker.suspend()  # It must not accept a connection between the next look and the kill.
    until(lambda: worker.status() == psutil.STATUS_STOPPED)
    ports = client_ports(worker)
    worker.kill()
    killed = time.perf_counter()

    def replaced() -> bool:
        new = [process for process in server.workers() if process.pid not in before]
        with contextlib.closing(connect(server.port)) as connection:
            status, _ = exchange(connection, READYZ)
            local_port = connection.sock.getsockname()[1]
            with contextlib.suppress(psutil.Error):  # A process may end during the look.
                return status == 200 and any(local_port in client_ports(one) for one in new)
        return False

    until(replaced)
    return ports, time.perf_counter() - killed


def wait_for_replies(clients: Sequence[Client], count: int) -> None:
    """Wait until the clients have received a number of further replies."""
    before = sum(client.replies for client in clients)
    until(lambda: sum(client.replies for client in clients) >= before + count)


def test_worker_deaths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every killed worker is replaced, no reply is wrong, and no other connection breaks."""
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
        killed_ports, seconds = set(), []
        with load([*clients, probe], stop):
            for _ in range(KILLS):
                wait_for_replies(clients, REPLIES_BETWEEN_KILLS)
                ports, wait = kill_worker(server, choices.choice(server.workers()))
                killed_ports |= ports
                seconds.append(wait)
        exit_code = server.stop()
    broken = [error for client in (*clients, probe) for error in client.broken]
    with capsys.disabled():
        print(
            f"\n{KILLS} workers killed, replaced after {statistics.median(seconds):.2f} s "
            f"(median), {max(seconds):.2f} s (slowest); "
            f"{sum(client.replies for client in clients)} predictions, {probe.replies} readiness "
            f"checks; {len(broken)} connections broke with their worker"
        )
    assert [] == [text for client in (*clients, probe) for text in client.wrong]
    assert [] == [error for error in broken if error[1] not in killed_ports]
    assert 0 == exit_code
