"""Faults of every kind at random moments under load: no wrong answer, and a full recovery.

Workers are killed and stopped, SIGHUP comes with good and bad token files, versions are published
that are good, damaged or have reordered features, and clients stall uploads and leave replies
unread, while others send requests in every protocol. A connection may break only if its worker was
killed or stopped. CHAOS_MINUTES sets the duration (default: 1), CHAOS_SEED the seed of the faults,
and CHAOS_FAULTS the faults and slow clients, such as "kill,swap,drip writer" (default: all).
"""

import contextlib
import dataclasses
import functools
import os
import random
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from tests.chaos.faults import AUTHORIZATION, TOKEN, WEIGHTS, Faults
from tests.chaos.journal import Journal
from tests.chaos.load import READYZ, Check, Client, connect, exchange, load
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
FINAL_CONNECTIONS = 200
LARGE_REPLY_ROWS = 32_768
MEMORY_INTERVAL_SECONDS = 0.5
MAX_NOT_READY_SECONDS = 30.0
"""Maximum time from an event until all workers are ready: the hang time, the longest back-off of
five seconds, and two slow starts."""
MAX_LIE_SECONDS = 1.0
"""Maximum time from SIGTERM until /readyz says that the server is not ready."""
MEMORY_BYTES = 64_000_000
"""Memory for the requests of one worker."""
SPARE_FILES = 4
"""Number of files that a worker may open for the first time during the run."""
SETTINGS = {
    "--workers": str(WORKERS),
    "--hang-seconds": str(HANG_SECONDS),
    "--poll-seconds": "0.1",
    "--queue-seconds": "10",
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
        self.server, self.stop, self.maximum = server, stop, 0.0

    def run(self) -> None:
        """Keep the maximum of the samples."""
        while not self.stop.wait(MEMORY_INTERVAL_SECONDS):
            with contextlib.suppress(psutil.Error):  # A worker may end during the measurement.
                self.maximum = max(self.maximum, self.server.megabytes())


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
        faults = Faults(server, WORKERS, publisher, tokens, choices, journal, weights)
        clients = [Client(port, PREDICTIONS, publisher.new_check, stop) for _ in range(CLIENTS)]
        ready = [READYZ, *PREDICTIONS[:1]]
        new_check = functools.partial(readiness_check, publisher)
        clients += [Client(port, ready, new_check, stop, persistent=False)]
        large = dataclasses.replace(post(V2, LARGE_REPLY_ROWS), headers=AUTHORIZATION)
        slow = [SlowClients(kind, port, large, journal, stop) for kind in KINDS if kind in FAULTS]
        memory = MemorySampler(server, stop)
        faults.wait()
        files, started_megabytes = open_files(server), server.megabytes()
        try:
            with load([*clients, *slow, memory], stop):
                end = time.monotonic() + 60 * MINUTES
                while time.monotonic() < end:
                    faults.run_one()
        finally:
            report(journal, faults, clients, slow, memory, capsys)
        check_recovery(server, faults, files)
        seconds_until_not_ready, exit_code = drain(server)
    assert [] == [text for client in clients for text in client.wrong]
    broken = [error for client in clients for error in client.broken]
    assert [] == [error for error in broken if not journal.explains(error)]
    # A reload runs one more worker for a while, and each worker holds MEMORY_BYTES of requests.
    workers = WORKERS + 1
    assert memory.maximum <= workers * (started_megabytes / WORKERS + MEMORY_BYTES / 1e6)
    assert max(faults.longest.values()) <= MAX_NOT_READY_SECONDS
    assert seconds_until_not_ready <= MAX_LIE_SECONDS
    assert 0 == exit_code


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


def report(
    journal: Journal,
    faults: Faults,
    clients: Sequence[Client],
    slow: Sequence[SlowClients],
    memory: MemorySampler,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Print the summary of a run, and log every failure of a client with its time."""
    broken = [error for client in clients for error in client.broken]
    unexplained = [error for error in broken if not journal.explains(error)]
    wrong = [text for client in clients for text in client.wrong]
    for text in wrong[:100]:
        journal.write("wrong", text=text)
    for error in unexplained:
        journal.write(
            "unexplained", error=error.error, port=error.local_port, at=journal.age(error.seconds)
        )
    counts = ", ".join(f"{name} {count}" for name, count in sorted(journal.counts.items()))
    longest = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in faults.longest.items())
    slow_clients = ", ".join(
        f"{group.kind}: {group.closed_by_server} of {group.opened} closed by the server"
        for group in slow
    )
    with capsys.disabled():
        print(
            f"{counts}\nlongest recovery: {longest}\n"
            f"{slow_clients}\n"
            f"{sum(client.replies for client in clients)} replies, {len(wrong)} wrong; "
            f"{len(broken)} connections broke, {len(unexplained)} of them without a hit; "
            f"at most {memory.maximum:.0f} MB"
        )
