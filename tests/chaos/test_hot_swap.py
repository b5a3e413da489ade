"""Hot swaps under load: every reply contains the predictions of the version that it names.

Two networks alternate as versions 1, 2, 3 ... of one artifact, published as export publishes them,
while clients send requests in every protocol. A damaged version, or one with another schema,
follows every tenth version; every worker must reject it and report it in /readyz. CHAOS_SWAPS sets
the number of swaps (default: 10).
"""

import dataclasses
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

import numpy as np
import pytest

from cli.staging import publish, staged
from service.artifact import manifest, storage
from service.artifact.manifest import Manifest
from service.artifact.storage import Artifact
from service.runtime.predictor import Predictor
from tests.chaos.load import Check, Client, LoadRequest, client_ports, connect, exchange, load
from tests.serving import Server, free_port, granian, serving, until
from tests.stored import FLOWERS, RETRAINED_FLOWERS

pytestmark = [pytest.mark.chaos, pytest.mark.e2e]

SWAPS = int(os.environ.get("CHAOS_SWAPS", "10"))
SWAPS_PER_DAMAGED = 10
WORKERS = 2
CLIENTS = 4
POLL_SECONDS = "0.1"
NAME = "flowers"
ROWS = np.repeat(FLOWERS.rows, 2, axis=0)[:64]
READYZ = LoadRequest("GET", "/readyz")
V2_INFER = 3
"""Index in REQUESTS of the V2 request with all rows."""


def post(path: str, count: int) -> LoadRequest:
    """Return a prediction request for the first `count` rows, in the format of the path."""
    document: dict[str, Any] = {"instances": ROWS[:count].tolist()}
    if path.endswith("/infer"):
        tensor = {"name": manifest.INPUT, "datatype": "FP32", "shape": [count, ROWS.shape[1]]}
        document = {"inputs": [tensor | {"data": ROWS[:count].ravel().tolist()}]}
    return LoadRequest("POST", path, json.dumps(document).encode())


V1, V2 = f"/v1/models/{NAME}:predict", f"/v2/models/{NAME}/infer"
PATHS = ("/predict", "/predict", V2, V2, V1)
ROW_COUNTS = (1, len(ROWS), 1, len(ROWS), len(ROWS))
REQUESTS = tuple(map(post, PATHS, ROW_COUNTS))


def read_reply(position: int, body: bytes) -> tuple[int | None, bytes]:
    """Return the version in a reply, if any, and its probabilities as float32 bytes."""
    document = json.loads(body)
    version: int | None = None
    if position < 2:
        version, values = int(document["model"]["version"]), document["probabilities"]
    elif position < 4:
        version = int(document["model_version"])
        (values,) = (o["data"] for o in document["outputs"] if o["name"] == "probabilities")
    else:
        values = [prediction["probabilities"] for prediction in document["predictions"]]
    return version, np.array(values, np.float32).tobytes()


def damage(files: dict[str, bytes], fault: str, other: Artifact) -> None:
    """Damage a version, or change its schema; only a flipped bit contradicts SHA256SUMS."""
    match fault:
        case "flipped bit":
            files[manifest.SUMS] = storage.sha256_sums(files)
            graph = files[manifest.MODEL]
            files[manifest.MODEL] = graph[:-1] + bytes([graph[-1] ^ 1])
        case "graph of another network":
            files[manifest.MODEL] = other.files[manifest.MODEL]
        case "version of another folder":
            files[manifest.MANIFEST] = dataclasses.replace(other.manifest, version=1).to_json()
        case "empty graph":
            files[manifest.MODEL] = b""
        case "reordered features":
            description = Manifest.from_json(files[manifest.MANIFEST])
            reordered = dataclasses.replace(description, features=description.features[::-1])
            files[manifest.MANIFEST] = reordered.to_json()


FAULTS = (
    *("reordered features", "flipped bit", "graph of another network"),
    *("version of another folder", "empty graph"),
)


class Publisher:
    """Publishes the versions of an artifact, and checks replies against their networks."""

    def __init__(self, artifacts: Path) -> None:
        self.artifacts = artifacts
        paths = (FLOWERS.artifact, RETRAINED_FLOWERS.artifact)
        self.networks = [storage.read_artifact(path) for path in paths]
        # Expected float32 bytes, by network and index in REQUESTS.
        self.expected = [
            [Predictor(p).predict(ROWS[:n])["probabilities"].tobytes() for n in ROW_COUNTS]
            for p in paths
        ]
        assert self.expected[0] != self.expected[1]
        self.network_of_version: dict[int, int] = {}

    def publish(self, network: int, fault: str = "") -> int:
        """Publish a network as the next version, perhaps damaged, and return the version."""
        files = dict(self.networks[network].files)
        description = self.networks[network].manifest
        with staged(self.artifacts, NAME) as folder:

            def finish(version: int) -> None:
                renamed = dataclasses.replace(description, version=version)
                files[manifest.MANIFEST] = renamed.to_json()
                if fault:
                    damage(files, fault, self.networks[1 - network])
                else:
                    # Clients may receive replies of this version before `publish` returns.
                    self.network_of_version[version] = network
                files.setdefault(manifest.SUMS, storage.sha256_sums(files))
                for name, content in files.items():
                    (folder / name).write_bytes(content)

            files.pop(manifest.SUMS, None)
            return int(publish(folder, finish).name)

    def new_check(self) -> Check:
        """Return a check for the replies on one connection, whose versions must not decrease."""
        newest = 0

        def check(position: int, status: int, body: bytes) -> str | None:
            nonlocal newest
            if status != 200:
                return f"{status} {body[:200]!r}"
            version, bits = read_reply(position, body)
            if version is None:
                known = bits in [expected[position] for expected in self.expected]
                return None if known else "a reply without a version matches no network"
            if version not in self.network_of_version:
                return f"version {version} is damaged or unknown"
            if version < newest:
                return f"version {version} after version {newest} on one connection"
            newest = version
            if bits != self.expected[self.network_of_version[version]][position]:
                return f"a reply of version {version} has the wrong predictions"
            return None

        return check


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
