"""Hot swaps under load: does every reply come, whole, from the version that it states?

    python tests/chaos/swap.py [SWAPS] [--workers 2] [--clients 4] [--poll-seconds 0.1]

Two networks of different weights take turns as the versions 1, 2, 3 ... of one artifact, published as export does it,
while clients keep asking over connections that stay open. Every reply's numbers are held, bit for bit, to those of the
network behind the version that it states; one that states none, to one network. Every tenth version is no good: every
worker must refuse it, say so in /readyz, and go on. The last line of stdout is one JSON document; exit code 1 if a
request failed, a reply was mixed, or a version was not refused.
"""

import argparse
import contextlib
import dataclasses
import http.client
import itertools
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from rich.console import Console

from cli.staging import publish, staged
from export import bundle
from model.config import TrainConfig
from model.run import load_run
from model.table import load
from model.training import train
from service.artifact import manifest, storage
from service.artifact.storage import Artifact
from service.runtime.predictor import Predictor

ROOT = Path(__file__).resolve().parent.parent.parent
NAME = "wine"
DEADLINE_SECONDS = 60
EVERY = 10
"""Of so many good versions, one is followed by a bad one."""
Answer = tuple[int | None, bytes]
"""The version that a reply states, if it states one, and the bytes of its probabilities, float32."""


class Question(NamedTuple):
    """A request in one dialect, and how its reply is read."""

    path: str
    body: bytes
    read: Callable[[Any], Answer]


@dataclass
class Seen:
    """What the clients have seen."""

    replies: int = 0
    failed: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)


class Line:
    """The folder of an artifact, and which network stands behind each version there."""

    def __init__(self, folder: Path) -> None:
        self.artifacts = folder / "artifacts"
        self.networks = [make(folder, seed) for seed in range(2)]
        table = np.array(
            [feature.median for feature in self.networks[0].manifest.features], np.float32
        )
        rows = table * np.random.default_rng(0).uniform(0.8, 1.2, (64, len(table))).astype(
            np.float32
        )
        self.questions = questions(rows)
        self.expected = [
            [
                Predictor(network.path).predict(rows[:count])["probabilities"].tobytes()
                for count in (1, 64, 1, 64, 64)
            ]
            for network in self.networks
        ]
        if self.expected[0] == self.expected[1]:
            raise SystemExit("the networks answer alike: nothing would be seen")
        self.network_of: dict[int, int] = {}

    def publish(
        self, network: int, spoil: Callable[[dict[str, bytes], Artifact], object] | None = None
    ) -> int:
        """Publish a network as the next version, as export does it, and return the version."""
        files = dict(self.networks[network].files)
        stated = self.networks[network].manifest
        with staged(self.artifacts, NAME) as folder:

            def finish(version: int) -> None:
                files[manifest.MANIFEST] = dataclasses.replace(stated, version=version).to_json()
                if spoil:
                    spoil(files, self.networks[1 - network])
                else:
                    self.network_of[version] = network  # known before anybody can answer with it
                files.setdefault(manifest.SUMS, storage.sha256_sums(files))
                for name, content in files.items():
                    (folder / name).write_bytes(content)

            return int(publish(folder, finish).name)

    def wrong(self, index: int, answer: Answer, newest: int) -> str | None:
        """Say what is wrong with the answer to a question; `newest` is the version of the reply before it."""
        version, content = answer
        if version is None:
            known = [expected[index] for expected in self.expected]
            return None if content in known else "a reply without a version is neither network's"
        if version not in self.network_of:
            return f"version {version} was never published whole"
        if version < newest:  # one connection is one worker's
            return f"version {version} after version {newest}"
        if content != self.expected[self.network_of[version]][index]:
            return f"a reply of version {version} has other numbers than its network"
        return None


def make(folder: Path, seed: int) -> Artifact:
    """Train and export a network."""
    config = TrainConfig(hidden_features=16, epochs=20, learning_rate=1e-2, seed=seed)
    runs, artifacts = folder / f"runs-{seed}", folder / f"artifacts-{seed}"
    path = train(load.load_table(NAME), config, torch.device("cpu"), runs, Console(quiet=True))
    return storage.read_artifact(bundle.build(load_run(path), artifacts).path)


def questions(rows: np.ndarray[Any, np.dtype[np.float32]]) -> list[Question]:
    """Ask for one row and for all, in every dialect."""

    def bits(values: Any) -> bytes:
        return np.array(values, np.float32).tobytes()

    def native(reply: Any) -> Answer:
        return int(reply["model"]["version"]), bits(reply["probabilities"])

    def v2(reply: Any) -> Answer:
        outputs = {output["name"]: output["data"] for output in reply["outputs"]}
        return int(reply["model_version"]), bits(outputs["probabilities"])

    def v1(reply: Any) -> Answer:
        return None, bits([prediction["probabilities"] for prediction in reply["predictions"]])

    def tensor(count: int) -> bytes:
        about = {"name": manifest.INPUT, "datatype": "FP32", "shape": [count, rows.shape[1]]}
        return json.dumps({"inputs": [{**about, "data": rows[:count].ravel().tolist()}]}).encode()

    one, all_rows = (
        json.dumps({"instances": rows[:count].tolist()}).encode() for count in (1, len(rows))
    )
    return [
        Question("/predict", one, native),
        Question("/predict", all_rows, native),
        Question(f"/v2/models/{NAME}/infer", tensor(1), v2),
        Question(f"/v2/models/{NAME}/infer", tensor(len(rows)), v2),
        Question(f"/v1/models/{NAME}:predict", all_rows, v1),
    ]


def flip(files: dict[str, bytes], other: Artifact) -> None:
    """Change a bit behind the hashes' back."""
    files[manifest.SUMS] = storage.sha256_sums(files)
    files[manifest.MODEL] = files[manifest.MODEL][:-1] + bytes([files[manifest.MODEL][-1] ^ 1])


def exchange(files: dict[str, bytes], other: Artifact) -> None:
    """Put another network behind the golden rows, with hashes that hold."""
    files[manifest.MODEL] = other.files[manifest.MODEL]


def rename(files: dict[str, bytes], other: Artifact) -> None:
    """State the version of another folder, with hashes that hold."""
    files[manifest.MANIFEST] = dataclasses.replace(other.manifest, version=1).to_json()


def empty(files: dict[str, bytes], other: Artifact) -> None:
    """Leave nothing of the model, with hashes that hold."""
    files[manifest.MODEL] = b""


SPOILS = (flip, exchange, rename, empty)


class Client(threading.Thread):
    """Asks one question after the other over a connection that stays open, until told to stop."""

    def __init__(self, line: Line, port: int, stop: threading.Event) -> None:
        super().__init__()
        self.line, self.port, self.stop, self.seen = line, port, stop, Seen()

    def run(self) -> None:
        """Ask, and compare."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)
        newest = 0
        for index, question in itertools.cycle(enumerate(self.line.questions)):
            if self.stop.is_set():
                break
            try:
                status, reply = ask(connection, "POST", question.path, question.body)
                if status != 200:
                    raise ValueError(f"{status} {reply['detail']}")
                answer = question.read(reply)
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                self.seen.failed.append(f"{question.path}: {error!r}")
                connection.close()
                newest = 0  # the next connection may be another worker's
                continue
            self.seen.replies += 1
            if wrong := self.line.wrong(index, answer, newest):
                self.seen.mixed.append(f"{question.path}: {wrong}")
            newest = max(newest, answer[0] or 0)
        connection.close()


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None
) -> tuple[int, Any]:
    """Send a request; return the status and the JSON document of the reply."""
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    reply = connection.getresponse()
    return reply.status, json.loads(reply.read())


class Service:
    """A running service, and a connection of our own to each of its workers."""

    def __init__(
        self, line: Line, process: "subprocess.Popen[str]", port: int, workers: int
    ) -> None:
        self.line, self.process, self.port = line, process, port
        self.folder = line.artifacts / NAME
        self.probes: dict[int, http.client.HTTPConnection] = {}
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(self.probes) < workers:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(
                    "the service did not start, or connections reach only some of its workers"
                )
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
            with contextlib.suppress(OSError):
                if ask(connection, "GET", "/readyz")[0] == 200 and (
                    owner := self.owner(connection)
                ):
                    self.probes.setdefault(owner, connection)
            if connection not in self.probes.values():
                connection.close()
                time.sleep(0.01)

    def tree(self) -> list[psutil.Process]:
        """List the service's processes."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def owner(self, connection: http.client.HTTPConnection) -> int | None:
        """Return the worker at the other end of a connection."""
        ours = connection.sock.getsockname()[1]
        for worker in self.tree():
            if any(
                held.raddr and held.raddr.port == ours for held in worker.net_connections("tcp")
            ):
                return worker.pid
        return None

    def await_all(self, holds: Callable[[int, Any], bool]) -> float:
        """Wait until /readyz of every worker is as it should be; return the seconds that it took."""
        started = time.perf_counter()
        for connection in self.probes.values():
            while not holds(*ask(connection, "GET", "/readyz")):
                if time.perf_counter() - started > DEADLINE_SECONDS:
                    raise SystemExit(f"/readyz: {ask(connection, 'GET', '/readyz')}")
                time.sleep(0.002)
        return time.perf_counter() - started

    def swapped(self, version: int) -> float:
        """Wait until a version answers in every worker; return the seconds."""
        return self.await_all(
            lambda status, found: (
                status == 200
                and found["model"]["version"] == str(version)
                and "problem" not in found
            )
        )

    def refused(self, version: int, stays: int) -> float:
        """Wait until every worker says that a version is no good, while another is ready; return the seconds."""
        place = str(self.folder / str(version))
        return self.await_all(
            lambda status, found: (
                status == 200
                and found["model"]["version"] == str(stays)
                and place in found.get("problem", "")
            )
        )

    def previous(self, version: int, gone: int | None) -> list[str]:
        """Say what is wrong with the version before the current one, and the one before that, in any worker."""
        wrong = []
        question, path = self.line.questions[3], f"/v2/models/{NAME}/versions/{{}}"
        for connection in self.probes.values():
            status, reply = ask(connection, "POST", path.format(version) + "/infer", question.body)
            expected = (version, self.line.expected[self.line.network_of[version]][3])
            if status != 200 or question.read(reply) != expected:
                wrong.append(f"version {version}, the one before: {status} or its numbers")
            if gone and (status := ask(connection, "GET", path.format(gone))[0]) != 404:
                wrong.append(f"version {gone}, long gone: {status}")
        return wrong

    def megabytes(self) -> float:
        """Return the proportional set size of parent and workers."""
        return float(sum(process.memory_full_info().pss for process in self.tree()) / 1e6)


@contextlib.contextmanager
def serving(line: Line, arguments: argparse.Namespace, log: Path) -> Iterator[Service]:
    """Start `python -m service serve` as a person does, and stop it at the end."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "service",
        "serve",
        str(line.artifacts / NAME),
        "--port",
        str(port),
    ]
    command += ["--workers", str(arguments.workers), "--no-access-log"]
    environment = {**os.environ, "TWOLAYERNET_POLL_SECONDS": str(arguments.poll_seconds)}
    with log.open("w") as written:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=written, stderr=written, text=True
        )
    try:
        yield Service(line, process, port, arguments.workers)
    finally:
        process.terminate()
        process.wait(timeout=DEADLINE_SECONDS)


def free_port() -> int:
    """Return a port that nobody listens on, and that the system gives to no outgoing connection."""
    while True:
        port = random.SystemRandom().randrange(23_000, 24_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def main() -> None:
    """Print one line per ten swaps, then the JSON document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("swaps", nargs="?", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--poll-seconds", type=float, default=0.1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        line, log = Line(Path(folder)), Path(folder) / "log"
        line.publish(0)
        try:
            with serving(line, arguments, log) as service:
                figures = swap(line, service, arguments)
        except BaseException:
            print(log.read_text()[-2000:], file=sys.stderr)
            raise
        # Each worker says once what it refuses.
        figures["refusals_logged"] = log.read_text().count("goes on answering")
    broken = figures["failed"] + figures["mixed"] + len(figures["wrong"])
    expected = figures["bad_refused"] * arguments.workers
    if figures["refusals_logged"] != expected:
        print(f"WRONG: expected {expected} refusals in the log, found {figures['refusals_logged']}")
        broken += 1
    print(json.dumps(figures))
    sys.exit(broken > 0)


def swap(line: Line, service: Service, arguments: argparse.Namespace) -> dict[str, Any]:
    """Publish one version after the other under load, and return the figures."""
    stop = threading.Event()
    clients = [Client(line, service.port, stop) for _ in range(arguments.clients)]
    for client in clients:
        client.start()
    seconds: list[float] = []
    refused: list[float] = []
    wrong: list[str] = []
    megabytes: list[float] = []
    spoils = itertools.cycle(SPOILS)
    answers = [1]  # the versions that have answered, the last one last
    started = time.perf_counter()
    try:
        for index in range(1, arguments.swaps + 1):
            version = line.publish(index % 2)
            seconds.append(service.swapped(version))
            wrong += service.previous(answers[-1], answers[-2] if index > 1 else None)
            answers.append(version)
            if index % EVERY == 0:
                refused.append(service.refused(line.publish(1 - index % 2, next(spoils)), version))
                megabytes.append(service.megabytes())
                seen = total(clients)
                print(
                    f"{index:4} swaps, the slowest in {max(seconds):.2f} s; {len(refused)} bad ones refused; "
                    f"{seen['replies']} replies, {seen['failed']} failed, {seen['mixed']} mixed; "
                    f"{megabytes[-1]:.0f} MB",
                    flush=True,
                )
    finally:
        stop.set()
        for client in clients:
            client.join()
    took = time.perf_counter() - started
    seen = total(clients)
    for said in [
        *wrong,
        *(text for client in clients for text in (*client.seen.failed, *client.seen.mixed)),
    ][:20]:
        print(f"WRONG: {said}")
    return {
        "swaps": len(seconds),
        "workers": arguments.workers,
        "clients": arguments.clients,
        "poll_seconds": arguments.poll_seconds,
        **seen,
        "wrong": wrong,
        "bad_refused": len(refused),
        "median_swap_s": round(statistics.median(seconds), 3),
        "slowest_swap_s": round(max(seconds), 3),
        "replies_per_s": round(seen["replies"] / took),
        "megabytes": [round(megabytes[0], 1), round(megabytes[-1], 1)] if megabytes else [],
    }


def total(clients: list[Client]) -> Mapping[str, int]:
    """Add up what the clients have seen."""
    seen = [client.seen for client in clients]
    return {
        "replies": sum(one.replies for one in seen),
        "failed": sum(len(one.failed) for one in seen),
        "mixed": sum(len(one.mixed) for one in seen),
    }


if __name__ == "__main__":
    main()
