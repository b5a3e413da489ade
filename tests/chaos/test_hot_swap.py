"""Hot swaps under load: every reply contains the predictions of the version that it names.

Two networks alternate as versions 1, 2, 3 ... of one artifact, published as export publishes them,
while clients send requests in every protocol. A damaged version, or one with another schema,
follows every tenth version; every worker must reject it and report it in /readyz. CHAOS_SWAPS sets
the number of swaps (default: 10).
"""

import itertools
import json
import os
import statistics
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.load import READYZ, Client, LoadRequest, client_ports, connect, exchange, load
from tests.chaos.publisher import (
    FAULTS,
    NAME,
    REQUESTS,
    V2_INFER,
    Publisher,
    read_reply,
)
from tests.serving import Server, free_port, granian, serving, until

pytestmark = [pytest.mark.chaos, pytest.mark.e2e]

SWAPS = int(os.environ.get("CHAOS_SWAPS", "10"))
SWAPS_PER_DAMAGED = 10
WORKERS = 2
CLIENTS = 4
POLL_SECONDS = "0.1"


class Workers:
    """A connection to each worker of a server."""

    def __init__(self, server: Server, publisher: Publisher) -> None:
        self.server, self.publisher = server, publisher
        self.connections: dict[int, Any] = {}
        until(self._connect)

    def _connect(self) -> bool:
        connection = connect(self.server.port)
        exchange(connection, READYZ)
        local_port = connection.sock.getsockname()[1]
        for worker in self.server.workers():
            if local_port in client_ports(worker):
                self.connections.setdefault(worker.pid, connection)
        if connection not in self.connections.values():
            connection.close()
        return len(self.connections) == WORKERS

    def close(self) -> None:
        """Close the connections."""
        for connection in self.connections.values():
            connection.close()

    def wait(self, version: int, problem: str = "") -> float:
        """Wait until every worker serves a version and reports any problem; return the seconds."""
        started = time.perf_counter()

        def ready(connection: Any) -> bool:
            status, body = exchange(connection, READYZ)
            document = json.loads(body)
            assert status == 200, document
            if document["model"]["version"] != str(version):
                return False
            return problem in document.get("problem", "") if problem else "problem" not in document

        for connection in self.connections.values():
            until(partial(ready, connection))
        return time.perf_counter() - started

    def wrong_previous(self, version: int, removed: int | None) -> list[str]:
        """Check that the previous version is still served, and that the one before it is not."""
        wrong = []
        path = f"/v2/models/{NAME}/versions/{{}}"
        request = LoadRequest("POST", path.format(version) + "/infer", REQUESTS[V2_INFER].body)
        network = self.publisher.network_of_version[version]
        for connection in self.connections.values():
            status, body = exchange(connection, request)
            expected = (version, self.publisher.expected[network][V2_INFER])
            if status != 200 or read_reply(V2_INFER, body) != expected:
                wrong.append(f"previous version {version}: {status} {body[:200]!r}")
            if removed:
                status, _ = exchange(connection, LoadRequest("GET", path.format(removed)))
                if status != 404:
                    wrong.append(f"removed version {removed}: {status}")
        return wrong


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    """An artifact with one version."""
    publisher = Publisher(tmp_path / "artifacts")
    publisher.publish(0)
    return publisher


@pytest.fixture
def workers(publisher: Publisher, tmp_path: Path) -> Iterator[Workers]:
    """A server for the publisher's artifact, and connections to its workers."""
    port = free_port()
    folder = publisher.artifacts / NAME
    command = granian(folder, port, "--workers", str(WORKERS), "--no-access-log")
    environment = {"TWOLAYERNET_POLL_SECONDS": POLL_SECONDS}
    with serving(command, port, environment, log=tmp_path / "log") as server:
        workers = Workers(server, publisher)
        yield workers
        workers.close()


def test_hot_swaps(
    publisher: Publisher, workers: Workers, capsys: pytest.CaptureFixture[str]
) -> None:
    """No request fails, no reply mixes two versions, and no damaged version is served."""
    stop, port = threading.Event(), workers.server.port
    clients = [Client(port, REQUESTS, publisher.new_check, stop) for _ in range(CLIENTS)]
    swap_seconds, damaged, wrong = [], [], []
    versions, faults = [1], itertools.cycle(FAULTS)
    before = workers.server.megabytes()
    with load(clients, stop):
        for swap in range(1, SWAPS + 1):
            version = publisher.publish(swap % 2)
            swap_seconds.append(workers.wait(version))
            wrong += workers.wrong_previous(versions[-1], versions[-2] if swap > 1 else None)
            versions.append(version)
            if swap % SWAPS_PER_DAMAGED == 0:
                rejected = publisher.publish(1 - swap % 2, next(faults))
                damaged.append(str(publisher.artifacts / NAME / str(rejected)))
                workers.wait(version, damaged[-1])
    replies = sum(client.replies for client in clients)
    with capsys.disabled():
        print(
            f"\n{SWAPS} swaps, median {statistics.median(swap_seconds):.3f} s, "
            f"slowest {max(swap_seconds):.3f} s; {len(damaged)} damaged versions; "
            f"{replies} replies; {before:.0f} MB before, {workers.server.megabytes():.0f} MB after"
        )
    assert replies > 0
    assert [] == wrong
    assert [] == [text for client in clients for text in client.wrong]
    assert [] == [error for client in clients for error in client.broken]
    for path in damaged:
        assert WORKERS == sum(f"{path}:" in line for line in workers.server.log_lines())
