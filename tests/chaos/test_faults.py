"""Faults of every kind at random moments under load: no wrong answer, and a full recovery.

Workers are killed and stopped, SIGHUP comes with good and bad token files, versions are published
that are good, damaged or have reordered features, and clients stall uploads and leave replies
unread, while others send requests in every protocol. A connection may break only if its worker was
killed or stopped. CHAOS_MINUTES sets the duration (default: 1; in `make chaos`: 30), CHAOS_SEED the
seed of the faults, and CHAOS_FAULTS the faults and slow clients, such as "kill,swap,drip writer"
(default: all).
"""

import contextlib
import dataclasses
import functools
import math
import os
import random
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.chaos.faults import AUTHORIZATION, TOKEN, WEIGHTS, Faults
from tests.chaos.journal import Journal
from tests.chaos.load import READYZ, BrokenConnection, Check, Client, connect, exchange, load
from tests.chaos.publisher import NAME, REQUESTS, V2, Publisher, post
from tests.chaos.slow_clients import KINDS, UPLOADS, SlowClients
from tests.serving import DEADLINE_SECONDS, Server, free_port, granian, serving, until

pytestmark = [pytest.mark.chaos, pytest.mark.e2e]

MINUTES = float(os.environ.get("CHAOS_MINUTES", "1"))
SEED = int(os.environ.get("CHAOS_SEED", "0"))
FAULTS = os.environ.get("CHAOS_FAULTS", ",".join((*WEIGHTS, *KINDS))).split(",")
WORKERS = 2
CLIENTS = 4
HANG_SECONDS = 2.0
"""Time in seconds after which the server kills a worker that was stopped."""
FINAL_CONNECTIONS = 200
LARGE_REPLY_ROWS = 32_768
"""Number of rows of a slow client's request."""
MEMORY_INTERVAL_SECONDS = 0.5
"""Time in seconds between two measurements of the memory."""
MAX_RECOVERY_SECONDS = 60.0
"""Maximum time from a fault until all workers are ready, on a busy machine.

It includes HANG_SECONDS, the longest back-off of five seconds, and slow starts; after SIGHUP the
workers are replaced one after the other, perhaps twice.
"""
MAX_LIE_SECONDS = 1.0
"""Maximum time from SIGTERM until /readyz says that the server is not ready."""
QUEUE_SECONDS = 10.0
MAX_PREDICTION_SECONDS = QUEUE_SECONDS + 1.0
"""Maximum time from a reply that a worker is ready to the prediction on the same connection.

The worker is ready as long as it accepts requests, but other requests may delay the prediction
until the deadline of the queue. The last second is for the prediction itself, since this test and
the server share as few as two cores.
"""
MEMORY_BYTES = 64_000_000
"""Memory for the requests of one worker."""
MIN_CLOSED_SHARE = 0.9
"""Minimum share of the stalled uploads, and of the drip writers, that the server closes itself."""
SPARE_FILES = 4
"""Number of files that a worker may open for the first time during the run."""
SETTINGS = {
    "--workers": str(WORKERS),
    "--hang-seconds": str(HANG_SECONDS),
    "--poll-seconds": "0.1",
    "--queue-seconds": str(QUEUE_SECONDS),
    # A replaced worker may take as long for the requests of slow clients.
    "--upload-seconds": "12",
    # One worker has places for the uploads of both groups, but not within its queue.
    "--queue": str(UPLOADS - 8),
    "--slow-uploads": str(2 * UPLOADS),
    # An upload without progress is closed after nine seconds.
    "--upload-grace-seconds": "1",
    "--min-upload-bytes-per-second": "2000",
    "--memory-bytes": str(MEMORY_BYTES),
    "--send-seconds": "2",
}
PREDICTIONS = [dataclasses.replace(request, headers=AUTHORIZATION) for request in REQUESTS]


class MemorySampler(threading.Thread):
    """Measures the memory of a server until `stop` is set."""

    def __init__(self, server: Server, stop: threading.Event) -> None:
        super().__init__()
        self.server, self.stop = server, stop
        self.samples, self.maximum = 0, 0.0

    def run(self) -> None:
        """Count the samples and keep their maximum."""
        while not self.stop.wait(MEMORY_INTERVAL_SECONDS):
            with contextlib.suppress(psutil.Error):  # A worker may end during the measurement.
                self.maximum = max(self.maximum, self.server.megabytes())
                self.samples += 1


@dataclass(frozen=True)
class Load:
    """The clients of a run, and the measurement of the server's memory."""

    clients: Sequence[Client]
    """Clients that check every reply; the last one asks for readiness before each prediction."""
    slow_clients: Sequence[SlowClients]
    memory: MemorySampler
    journal: Journal

    @property
    def wrong(self) -> list[str]:
        """All wrong replies."""
        return [text for client in self.clients for text in client.wrong]

    @property
    def broken(self) -> list[BrokenConnection]:
        """All connections that broke."""
        return [broken for client in self.clients for broken in client.broken]

    @property
    def longest_prediction_seconds(self) -> float:
        """Longest time from readiness to a prediction by a worker without a hit; inf if none."""
        completions = self.clients[-1].completions
        return max(
            (
                completion.latency_seconds
                for completion in completions
                if not self.journal.explains(completion.local_port, completion.seconds)
            ),
            default=math.inf,
        )

    def summary(self) -> str:
        """Return the counts of the clients and the memory as text."""
        closed = {
            slow.kind: slow.closed_without_hit()
            for slow in self.slow_clients
            if slow.kind != "drip reader"  # It has read a part of the reply, which is not judged.
        }
        slow = ", ".join(
            f"{sum(map(sum, groups))} of {sum(map(len, groups))} {kind} connections"
            for kind, groups in closed.items()
        )
        return (
            f"closed by a limit of workers without a hit: {slow}\n"
            f"{sum(client.replies for client in self.clients)} replies, {len(self.wrong)} wrong; "
            f"at most {self.memory.maximum:.0f} MB in {self.memory.samples} samples; "
            f"at most {self.longest_prediction_seconds:.2f} s from readiness to a prediction; "
            f"{len(self.broken)} connections broke"
        )


def readiness_check(publisher: Publisher) -> Check:
    """Return a check for /readyz and the prediction after it on the same connection.

    A worker that says that it is ready must answer the prediction, and rightly. A worker accepts
    connections only once it is ready, therefore it never replies that it is not.
    """
    check_prediction = publisher.new_check()

    def check(position: int, status: int, body: bytes) -> str | None:
        if position == 0:
            return None if status == 200 else f"{status} {body[:200]!r}"
        return check_prediction(position - 1, status, body)

    return check


def answers_right(port: int, publisher: Publisher) -> bool:
    """Return whether a new connection is ready and answers a prediction rightly."""
    check = readiness_check(publisher)
    with contextlib.closing(connect(port)) as connection:
        replies = [exchange(connection, request) for request in (READYZ, PREDICTIONS[0])]
    return not any(check(position, *reply) for position, reply in enumerate(replies))


def open_files(server: Server) -> tuple[int, int]:
    """Return the numbers of open files of the supervisor and of the worker with the most."""
    supervisor = psutil.Process(server.process.pid)
    return supervisor.num_fds(), max(worker.num_fds() for worker in server.workers())


def drain(server: Server) -> tuple[float, int]:
    """Stop a server; return the seconds until it says that it is not ready, and its exit code."""
    with contextlib.closing(connect(server.port)) as connection:
        assert 200 == exchange(connection, READYZ)[0]
        server.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        until(lambda: exchange(connection, READYZ)[0] == 503)
        seconds = time.monotonic() - started
    return seconds, server.process.wait(timeout=DEADLINE_SECONDS)


def new_load(server: Server, publisher: Publisher, journal: Journal, stop: threading.Event) -> Load:
    """Return the load of a run, which ends when `stop` is set."""
    port = server.port
    clients = [Client(port, PREDICTIONS, publisher.new_check, stop) for _ in range(CLIENTS)]
    new_check = functools.partial(readiness_check, publisher)
    clients.append(Client(port, [READYZ, PREDICTIONS[0]], new_check, stop, persistent=False))
    large = dataclasses.replace(post(V2, LARGE_REPLY_ROWS), headers=AUTHORIZATION)
    slow = [SlowClients(kind, port, large, journal, stop) for kind in KINDS if kind in FAULTS]
    return Load(clients, slow, MemorySampler(server, stop), journal)


def check_load(load: Load, started_megabytes: float) -> None:
    """Check the replies, the closing of slow clients, and the memory, by that at the start."""
    assert [] == load.wrong
    assert load.longest_prediction_seconds <= MAX_PREDICTION_SECONDS
    for slow in load.slow_clients:
        groups = slow.closed_without_hit()
        if slow.is_upload:  # Each group was held for longer than an upload may stand still.
            assert groups, f"{slow.kind}: no limit applied, or the run was too short"
            # Its worker may have accepted a connection so late that the hold was too short.
            outcomes = [is_closed for group in groups for is_closed in group]
            assert sum(outcomes) >= MIN_CLOSED_SHARE * len(outcomes), slow.kind
        elif slow.kind == "unread reply":  # A reload may discard some replies, and not others.
            assert not groups or any(map(any, groups)), groups
    # A reload runs one more worker for a while, and each worker holds MEMORY_BYTES of requests.
    max_megabytes = (WORKERS + 1) * (started_megabytes / WORKERS + MEMORY_BYTES / 1e6)
    assert load.memory.samples > 0
    assert started_megabytes / 2 <= load.memory.maximum <= max_megabytes


def check_recovery(server: Server, faults: Faults, files: tuple[int, int]) -> None:
    """Check that a server is as it was before the faults, except for the version it serves."""
    faults.wait()
    answers = [answers_right(server.port, faults.publisher) for _ in range(FINAL_CONNECTIONS)]
    assert FINAL_CONNECTIONS == sum(answers)
    assert WORKERS == len(server.workers())
    assert [] == [w for w in server.workers() if w.status() == psutil.STATUS_ZOMBIE]
    supervisor_files, worker_files = files
    until(lambda: open_files(server)[1] <= worker_files + SPARE_FILES)
    assert supervisor_files == open_files(server)[0]


def test_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No reply is wrong, only hits on workers break connections, and the server recovers."""
    publisher, tokens = Publisher(tmp_path / "artifacts"), tmp_path / "tokens"
    publisher.publish(0)
    tokens.write_text(TOKEN)
    journal, choices = Journal(tmp_path / "events.jsonl"), random.Random(SEED)  # noqa: S311
    port, stop = free_port(), threading.Event()
    options = [word for option in SETTINGS.items() for word in option]
    command = granian(publisher.artifacts / NAME, port, *options, "--token-file", str(tokens))
    with capsys.disabled():
        print(f"\nseed {SEED}, {MINUTES:g} minutes; events: {journal.path}")
    with serving(command, port, log=tmp_path / "log") as server:
        weights = {name: weight for name, weight in WEIGHTS.items() if name in FAULTS}
        faults = Faults(server, WORKERS, publisher, tokens, choices, journal, weights, stop)
        run = new_load(server, publisher, journal, stop)
        faults.wait()
        files, started_megabytes = open_files(server), server.megabytes()
        try:
            with load([*run.clients, *run.slow_clients, run.memory], stop):
                end = time.monotonic() + 60 * MINUTES
                while time.monotonic() < end:
                    faults.run_one()
        finally:
            unexplained = journal.write_failures(run.wrong, run.broken)
            with capsys.disabled():
                print(f"{faults.summary()}\n{run.summary()}, {len(unexplained)} without a hit")
        check_recovery(server, faults, files)
        seconds_until_not_ready, exit_code = drain(server)
    assert [] == unexplained
    check_load(run, started_megabytes)
    assert max(faults.longest.values()) <= MAX_RECOVERY_SECONDS
    assert seconds_until_not_ready <= MAX_LIE_SECONDS
    assert 0 == exit_code
