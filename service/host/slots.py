"""Worker processes as the supervisor sees them, and the rule that delays their restart."""

import math
import socket
from dataclasses import dataclass
from multiprocessing.process import BaseProcess

MIN_BACKOFF_SECONDS = 0.1
"""Seconds to wait after the first failure; doubled after each further one in a row."""
MAX_BACKOFF_SECONDS = 5.0
"""Maximum number of seconds to wait before starting the next worker."""
STABLE_SECONDS = 5.0
"""Seconds from a worker's start until its death no longer counts as a failure."""


@dataclass(eq=False)
class Worker:
    """A running process. Times are in seconds on the supervisor's clock."""

    slot: "Slot"
    row: int
    """Row of the worker in shared memory."""
    process: BaseProcess
    process_id: int | None
    """Process ID, which the process object forgets when it is closed."""
    fork_time: float
    start_time: float = math.inf
    """Time at which the worker began to accept connections; infinity while it is starting."""
    starting_seconds: float = 0.0
    """Seconds for which the supervisor has watched the worker start."""
    beats: int = 0
    """Number of heartbeats that the supervisor has seen."""
    silent_seconds: float = 0.0
    """Seconds for which the supervisor has watched the worker without a new heartbeat."""
    stop_time: float = math.inf
    """Time at which to send SIGTERM."""
    kill_time: float = math.inf
    """Time at which to kill the worker; infinity until it has received SIGTERM."""
    is_killed: bool = False
    has_ended: bool = False

    @property
    def has_started(self) -> bool:
        """Whether the worker accepts connections."""
        return self.start_time < math.inf

    def observe(self, beats: int, has_started: bool, seconds: float, now: float) -> None:
        """Note what the heartbeat shows; `seconds` is the time since the last call that counts."""
        self.silent_seconds = self.silent_seconds + seconds if beats == self.beats else 0.0
        self.beats = beats
        if not self.has_started:
            self.starting_seconds += seconds
            if has_started:
                self.start_time = now

    def fault(self, hang_seconds: float, start_seconds: float) -> str | None:
        """Return why the worker counts as hung, or None."""
        if self.silent_seconds >= hang_seconds:
            return f"has not responded for {self.silent_seconds:.1f} s"
        if not self.has_started and self.starting_seconds >= start_seconds:
            return f"has not started within {self.starting_seconds:.0f} s"
        return None

    def __str__(self) -> str:
        """Return the words that name the worker in the log."""
        return f"worker {self.slot.number} (process {self.process_id})"


@dataclass(eq=False)
class Slot:
    """A listening socket, which outlives its workers, and the worker that accepts from it."""

    number: int
    listener: socket.socket
    worker: Worker | None = None
    restart_time: float = 0.0
    """Earliest time at which to start the next worker."""
    failures: int = 0
    """Number of failures in a row: failed starts, and deaths soon after a start."""
    failure_time: float = math.inf
    """Time of the first pause after a failure; infinity if a worker has started since."""

    def delay_restart(self, now: float, worker: Worker | None = None) -> float:
        """Schedule the next worker after a death or a failed fork; return the seconds to wait.

        A worker that had started is replaced at once, unless the deaths soon after a start repeat:
        a request may kill every worker that receives it. The time to start does not count, because
        a slow machine needs long to import the libraries.
        """
        has_started = worker is not None and worker.has_started
        if worker and has_started and now - worker.start_time >= STABLE_SECONDS:
            self.failures, seconds = 0, 0.0
        else:
            doublings = min(self.failures, 10)  # 2.0 ** 1024 would overflow
            seconds = min(MIN_BACKOFF_SECONDS * 2.0**doublings, MAX_BACKOFF_SECONDS)
            if has_started and self.failures == 0:
                seconds = 0.0
            self.failures += 1
        self.failure_time = min(self.failure_time, now) if seconds else math.inf
        self.restart_time = now + seconds
        return seconds
