"""A supervisor that starts, replaces, drains and stops worker processes.

granian's own supervisor is not used: it stops the whole server when a worker dies twice within
seconds, and it cannot drain. This one is single-threaded, because forking with threads is unsafe.
"""

import contextlib
import enum
import logging
import math
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess

from service.host.signals import open_signal_pipe
from service.host.sockets import IS_LINUX
from service.settings import SettingsError

EARLY_DEATH_SECONDS = 1.0
"""Age in seconds below which the death of a worker counts as early and causes back-off."""
MIN_BACKOFF_SECONDS = 0.1
"""Seconds to wait after the first early death; doubled after each further one in a row."""
MAX_BACKOFF_SECONDS = 5.0
"""Maximum number of seconds to wait before starting the next worker."""
log = logging.getLogger(__name__)


class Stage(enum.Enum):
    """Stages of a supervisor, in order."""

    SERVING = enum.auto()
    DRAINING = enum.auto()
    STOPPING = enum.auto()


@dataclass(eq=False)
class Slot:
    """One worker and its listening socket, which outlives the worker and serves its successor.

    Times are in seconds on the supervisor's clock.
    """

    number: int
    listener: socket.socket
    process: BaseProcess | None = None
    start_time: float = 0.0
    kill_time: float = math.inf
    """Time at which to kill the worker; infinity until it has received SIGTERM."""
    restart_time: float = 0.0
    """Earliest time at which to start the next worker."""
    early_deaths: int = 0
    """Number of early deaths in a row."""


@dataclass(eq=False)
class Supervisor:
    """Keeps one worker running in every slot until SIGTERM or SIGINT.

    On SIGTERM, `on_drain` is called and the workers continue for `drain_seconds`. Then they accept
    no more connections and finish the requests in flight; they are killed after `grace_seconds`.
    SIGINT skips the drain. A further SIGTERM or SIGINT skips the rest of the current step. SIGHUP
    replaces the workers, while the sockets queue new connections.
    """

    listeners: Sequence[socket.socket]
    """One listening socket per worker."""
    start_worker: Callable[[int], BaseProcess]
    """Starts the worker of a slot; raises OSError if that fails."""
    on_drain: Callable[[], object] = lambda: None
    on_worker_exit: Callable[[int], object] = lambda slot: None
    """Called with the number of the slot whose worker has ended."""
    check_reload: Callable[[], object] = lambda: None
    """Called on SIGHUP; if it raises SettingsError or OSError, the workers are not replaced."""
    drain_seconds: float = 2.0
    """Seconds to keep serving after SIGTERM, while load balancers notice that readiness fails."""
    grace_seconds: float = 6.0
    """Seconds to wait for requests in flight; `docker stop` allows ten, including the drain."""
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._slots = [Slot(number, listener) for number, listener in enumerate(self.listeners)]
        self._stage, self._drain_end = Stage.SERVING, math.inf

    def run(self) -> None:
        """Supervise until a signal has ended all workers."""
        with open_signal_pipe() as pipe:
            self.advance()
            while not self.is_finished():
                descriptors = [pipe.descriptor, *self.sentinels()]
                ready = connection.wait(descriptors, self.seconds_until_due())
                if pipe.descriptor in ready:
                    for number in pipe.read():
                        self.handle_signal(number)
                self.reap(ready)
                self.advance()

    def is_finished(self) -> bool:
        """Return whether a signal has ended all workers."""
        return self._stage is not Stage.SERVING and not self.sentinels()

    def sentinels(self) -> list[int]:
        """Return the sentinels of the running workers."""
        return [slot.process.sentinel for slot in self._slots if slot.process]

    def seconds_until_due(self) -> float | None:
        """Return the seconds until advance() has work to do, or None if no work is scheduled."""
        times = [self._drain_end]
        for slot in self._slots:
            if slot.process:
                times.append(slot.kill_time)
            elif self._stage is Stage.SERVING:
                times.append(slot.restart_time)
        return max(0.0, min(times) - self.clock()) if min(times) < math.inf else None

    def advance(self) -> None:
        """End the drain, kill workers after their grace period and start missing ones, if due."""
        if self._drain_end <= self.clock():
            self._stop()
        now = self.clock()
        for slot in self._slots:
            if slot.process and slot.kill_time <= now:
                slot.process.kill()
                self._handle_exit(slot, slot.process)
            if not slot.process and slot.restart_time <= now and self._stage is Stage.SERVING:
                self._start(slot)

    def handle_signal(self, number: int) -> None:
        """Drain, stop or replace the workers, depending on the signal."""
        if number == signal.SIGHUP:
            if self._stage is Stage.SERVING:
                self._replace()
        elif number == signal.SIGTERM and self._stage is Stage.SERVING:
            self._stage, self._drain_end = Stage.DRAINING, self.clock() + self.drain_seconds
            log.info("draining for %g s", self.drain_seconds)
            self.on_drain()
        else:
            self._stop()

    def reap(self, ready: Sequence[object]) -> None:
        """Handle the exit of the workers whose sentinels are ready."""
        for slot in self._slots:
            if slot.process and slot.process.sentinel in ready:
                self._handle_exit(slot, slot.process)

    def _start(self, slot: Slot) -> None:
        slot.start_time, slot.kill_time = self.clock(), math.inf
        try:
            slot.process = self.start_worker(slot.number)
        except OSError as error:
            message = "worker %d cannot be started: %s; next try in %.1f s"
            log.error(message, slot.number, error, self._back_off(slot))

    def _handle_exit(self, slot: Slot, process: BaseProcess) -> None:
        """Log how a worker ended and decide when the next one starts."""
        process.join()
        code, age = process.exitcode or 0, self.clock() - slot.start_time
        cause = f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"
        death = f"worker {slot.number} (process {process.pid}) ended after {age:.1f} s: {cause}"
        process.close()
        slot.process = None
        self.on_worker_exit(slot.number)
        if slot.kill_time < math.inf or self._stage is not Stage.SERVING:
            log.log(logging.INFO if code in (0, -signal.SIGTERM) else logging.WARNING, death)
        elif age < EARLY_DEATH_SECONDS:
            log.error("%s; the next one starts in %.1f s", death, self._back_off(slot))
        else:
            slot.early_deaths = 0
            log.error("%s; the next one starts now", death)

    def _back_off(self, slot: Slot) -> float:
        """Delay a slot's next worker, longer after each early death; return the seconds."""
        doublings = min(slot.early_deaths, 10)  # 2.0 ** 1024 would overflow
        seconds = min(MIN_BACKOFF_SECONDS * 2.0**doublings, MAX_BACKOFF_SECONDS)
        slot.early_deaths += 1
        slot.restart_time = self.clock() + seconds
        if slot.early_deaths > 1 and IS_LINUX:
            # Stop listening: new connections go to the other workers or are refused, instead of
            # waiting for a worker that may never start. The next worker listens again.
            with contextlib.suppress(OSError):  # it may never have listened
                slot.listener.shutdown(socket.SHUT_RDWR)
        return seconds

    def _replace(self) -> None:
        try:
            self.check_reload()
        except (SettingsError, OSError) as error:
            log.error("SIGHUP: %s; the workers are not replaced", error)
        else:
            log.info("SIGHUP: replacing the workers")
            self._terminate(self.grace_seconds)

    def _stop(self) -> None:
        """Stop accepting connections and end the workers; a second call kills the workers."""
        if self._stage is Stage.STOPPING:
            self._terminate(0.0)
            return
        self._stage, self._drain_end = Stage.STOPPING, math.inf
        log.info("stopping")
        for slot in self._slots:
            slot.listener.close()
        self._terminate(self.grace_seconds)

    def _terminate(self, grace_seconds: float) -> None:
        """Send SIGTERM to the workers, and schedule their kill after the grace period."""
        for slot in self._slots:
            if slot.process:
                slot.process.terminate()
                slot.kill_time = min(slot.kill_time, self.clock() + grace_seconds)
