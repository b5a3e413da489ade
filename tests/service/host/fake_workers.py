"""A supervisor with fake workers, clock and sockets."""

import signal
import socket
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from unittest.mock import Mock

from service.host.heartbeat import Heartbeats
from service.host.supervisor import Supervisor

DRAIN_SECONDS, GRACE_SECONDS, HANG_SECONDS, START_SECONDS = 2.0, 6.0, 10.0, 60.0
ABANDON_SECONDS, RETIRE_SECONDS = 20.0, 90.0
CHECK_SECONDS = 1.0
"""Seconds between two calls of the supervisor in World.wait."""


class World:
    """A supervisor whose workers have started, and its fake processes, clock and sockets."""

    def __init__(self, workers: int = 2, check_reload: Callable[[], None] = lambda: None) -> None:
        """Start the workers."""
        self.time = 100.0
        self.processes: list[Mock] = []  # All workers, in the order of their start.
        self.rows: dict[int, Mock] = {}  # The last worker of each row.
        self.is_starting = False  # Whether new workers stay in the state "starting".
        self.hung: set[Mock] = set()
        self.start_error: OSError | None = None
        self.exits: list[int] = []
        self.retired: list[Mock] = []
        self.on_drain = Mock()
        self.listeners = [Mock(spec=socket.socket) for _ in range(workers)]
        self.heartbeats = Heartbeats(2 * workers)
        self.supervisor = Supervisor(
            self.listeners,
            self.start,
            self.heartbeats,
            retire_worker=lambda row, process: self.retired.append(self.rows[row]),
            on_drain=self.on_drain,
            on_worker_exit=self.exits.append,
            check_reload=check_reload,
            drain_seconds=DRAIN_SECONDS,
            grace_seconds=GRACE_SECONDS,
            retire_seconds=RETIRE_SECONDS,
            hang_seconds=HANG_SECONDS,
            start_seconds=START_SECONDS,
            abandon_seconds=ABANDON_SECONDS,
            clock=lambda: self.time,
        )
        self.supervisor.advance()
        self.wait(0.0)

    def start(self, row: int, must_be_ready: bool) -> Mock:
        """Return a fake process whose join() fails while it runs, or raise start_error."""
        if self.start_error:
            raise self.start_error
        number = len(self.processes)
        process = Mock(spec=BaseProcess, pid=1000 + number, sentinel=number, exitcode=None)
        process.is_starting, process.must_be_ready = self.is_starting, must_be_ready

        def kill() -> None:
            process.exitcode = -signal.SIGKILL

        def join() -> None:
            assert process.exitcode is not None, "the supervisor waits for a live worker"

        def close() -> None:
            del process.pid  # As with a real process, using it raises an error from here on.

        process.kill.side_effect, process.join.side_effect = kill, join
        process.close.side_effect = close
        self.processes.append(process)
        self.rows[row] = process
        return process

    def running(self) -> list[Mock]:
        """Return the workers that have not ended, in the order of their start."""
        return [process for process in self.processes if process.exitcode is None]

    def wait(self, seconds: float) -> None:
        """Let the clock, the workers' heartbeats and the supervisor run for some time."""
        end = self.time + seconds
        while True:
            self.time = min(end, self.time + CHECK_SECONDS)
            for row, process in self.rows.items():
                if process.exitcode is None and process not in self.hung:
                    self.heartbeats.beat(row, has_started=not process.is_starting)
            self.supervisor.advance()
            self.supervisor.reap([p.sentinel for p in self.processes if p.exitcode is not None])
            self.supervisor.advance()
            if self.time == end:
                return

    def exit(self, process: Mock, code: int) -> None:
        """End a worker with an exit code."""
        process.exitcode = code
        self.supervisor.reap([process.sentinel])
        self.supervisor.advance()

    def send(self, *numbers: int) -> None:
        """Pass signals to the supervisor, one after the other."""
        for number in numbers:
            self.supervisor.handle_signal(number)
            self.wait(0.0)
