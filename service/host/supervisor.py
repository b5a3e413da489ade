"""A supervisor that starts, replaces, drains and stops worker processes.

granian's own supervisor is not used: it stops the whole server when a worker dies twice within
seconds, it cannot drain, and it does not notice a worker that hangs. This one is single-threaded,
because forking with threads is unsafe.
"""

import enum
import functools
import logging
import math
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess

from service.host.heartbeat import Heartbeats
from service.host.replacement import Replacement, ReplacementError
from service.host.signals import open_signal_pipe
from service.host.slots import Slot, Worker
from service.host.sockets import IS_LINUX, assign_connections, close_queued_connections

START_POLL_SECONDS = 0.05
"""Seconds between two checks while a worker is starting."""
MAX_POLL_SECONDS = 1.0
"""Maximum number of seconds between two checks of the heartbeats."""
POLLS_PER_HANG = 8
"""Minimum number of checks before a silent worker counts as hung."""
log = logging.getLogger(__name__)


class Stage(enum.Enum):
    """Stages of a supervisor, in order."""

    SERVING = enum.auto()
    DRAINING = enum.auto()
    STOPPING = enum.auto()


@dataclass(eq=False)
class Supervisor:
    """Keeps one worker running in every slot until SIGTERM or SIGINT.

    On SIGTERM, `on_drain` is called and the workers continue for `drain_seconds`. Then they accept
    no more connections and finish the requests in flight; they are killed after `grace_seconds`.
    SIGINT skips the drain. A further SIGTERM or SIGINT skips the rest of the current step. SIGHUP
    replaces the workers, each when its successor is ready.
    """

    listeners: Sequence[socket.socket]
    """One listening socket per worker."""
    start_worker: Callable[[int, bool], BaseProcess]
    """Starts a worker, by its row in shared memory; raises OSError if that fails.

    The rows `number` and `number + len(listeners)` belong to the slot with this number. With True,
    the worker must end instead of accepting connections if it is not ready to predict.
    """
    heartbeats: Heartbeats
    """Memory with two rows per listener."""
    retire_worker: Callable[[int, BaseProcess], object] = lambda row, process: None
    """Lets a worker, by row and process, accept no more connections and close those it has."""
    on_drain: Callable[[], object] = lambda: None
    on_worker_exit: Callable[[int], object] = lambda row: None
    """Called with the row of a worker that has ended."""
    check_reload: Callable[[], object] = lambda: None
    """Called on SIGHUP; if it raises OSError or ValueError, the workers are not replaced."""
    drain_seconds: float = 2.0
    """Seconds to keep serving after SIGTERM, while load balancers notice that readiness fails, and
    to keep the connections of a worker that is replaced."""
    grace_seconds: float = 6.0
    """Seconds to wait for requests in flight; `docker stop` allows ten, including the drain."""
    retire_seconds: float = 300.0
    """Seconds to wait for the requests of a replaced worker after its SIGTERM."""
    hang_seconds: float = 30.0
    """Seconds without a heartbeat after which a worker is killed."""
    start_seconds: float = 300.0
    """Seconds after which a worker that has not started is killed."""
    abandon_seconds: float = 60.0
    """Seconds for which a slot keeps its queued connections while its workers fail to start."""
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._slots = [Slot(number, listener) for number, listener in enumerate(self.listeners)]
        self._workers: list[Worker] = []  # includes successors and retired workers
        self._stage, self._drain_end = Stage.SERVING, math.inf
        self._replacement: Replacement | None = None
        self._is_reload_pending = False
        self._poll_seconds = min(MAX_POLL_SECONDS, self.hang_seconds / POLLS_PER_HANG)
        self._check_time = self.clock()
        self._failing_slots: list[int] = []  # numbers of the slots that get no new connections

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
        return self._stage is not Stage.SERVING and not self._workers

    def sentinels(self) -> list[int]:
        """Return the sentinels of the running workers."""
        return [worker.process.sentinel for worker in self._workers]

    def seconds_until_due(self) -> float:
        """Return the seconds until the next call of advance()."""
        times = [self._drain_end, self._check_time + self._poll_seconds]
        for worker in self._workers:
            times += [worker.stop_time, math.inf if worker.is_killed else worker.kill_time]
            if not worker.has_started:
                times.append(self._check_time + START_POLL_SECONDS)
        if self._stage is Stage.SERVING:
            times += [slot.restart_time for slot in self._slots if not slot.worker]
        return max(0.0, min(times) - self.clock())

    def advance(self) -> None:
        """Check the workers, and take the steps that are due: starts, replacements, kills."""
        now = self.clock()
        if self._drain_end <= now:
            self._stop()
        self._watch(now)
        for worker in self._workers:
            if worker.stop_time <= now:
                self._terminate(worker, self.retire_seconds)
            if worker.kill_time <= now and not worker.is_killed:
                worker.process.kill()
                worker.is_killed = True  # its exit is handled when its sentinel is ready
        if self._stage is Stage.SERVING:
            for slot in self._slots:
                if not slot.worker and slot.restart_time <= now:
                    self._restart(slot)
            self._replace()
            self._assign_connections(now)

    def handle_signal(self, number: int) -> None:
        """Drain, stop or replace the workers, depending on the signal."""
        if number == signal.SIGHUP:
            # During a replacement the signal takes effect at its end.
            self._is_reload_pending = self._stage is Stage.SERVING
        elif number == signal.SIGTERM and self._stage is Stage.SERVING:
            self._stage, self._drain_end = Stage.DRAINING, self.clock() + self.drain_seconds
            log.info("draining for %g s", self.drain_seconds)
            self.on_drain()
        else:
            self._stop()

    def reap(self, ready: Sequence[object]) -> None:
        """Handle the exit of the workers whose sentinels are ready."""
        for worker in [worker for worker in self._workers if worker.process.sentinel in ready]:
            self._handle_exit(worker)

    def _watch(self, now: float) -> None:
        """Note which workers have started, and kill those that hang.

        Time for which the supervisor itself was suspended, alone or with its workers, counts as
        one check at most: only a worker that is silent while it is watched hangs.
        """
        seconds = min(now - self._check_time, 2 * self._poll_seconds)
        self._check_time = now
        for worker in self._workers:
            beats, row = self.heartbeats, worker.row
            worker.observe(beats.count(row), beats.has_started(row), seconds, now)
            fault = worker.fault(self.hang_seconds, self.start_seconds)
            if fault and worker.kill_time == math.inf:
                log.error("%s %s; it is killed", worker, fault)
                worker.kill_time = now

    def _restart(self, slot: Slot) -> None:
        try:
            slot.worker = self._start(slot, must_be_ready=False)
        except OSError as error:
            seconds = slot.delay_restart(self.clock())
            message = "worker %d cannot be started: %s; next try in %.1f s"
            log.error(message, slot.number, error, seconds)

    def _start(self, slot: Slot, *, must_be_ready: bool) -> Worker:
        """Start a worker in the row of the slot that is free; raise OSError if that fails."""
        used = {worker.row for worker in self._workers}
        row = next(row for row in (slot.number, slot.number + len(self._slots)) if row not in used)
        self.heartbeats.reset(row)
        process = self.start_worker(row, must_be_ready)
        worker = Worker(slot, row, process, process.pid, self.clock())
        self._workers.append(worker)
        return worker

    def _handle_exit(self, worker: Worker) -> None:
        """Log how a worker ended, and decide when the next one of its slot starts."""
        process, now = worker.process, self.clock()
        process.join()
        code = process.exitcode or 0
        cause = f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"
        death = f"{worker} ended after {now - worker.fork_time:.1f} s: {cause}"
        process.close()
        self._workers.remove(worker)
        worker.has_ended = True
        self.on_worker_exit(worker.row)
        slot = worker.slot
        if slot.worker is worker and self._stage is Stage.SERVING:
            slot.worker, seconds = None, slot.delay_restart(now, worker)
            start = f"in {seconds:.1f} s" if seconds else "now"
            log.error("%s; the next one starts %s", death, start)
        else:
            log.log(logging.INFO if code in (0, -signal.SIGTERM) else logging.WARNING, death)

    def _replace(self) -> None:
        """Continue a replacement, or begin the one that SIGHUP has requested."""
        if self._replacement:
            try:
                if self._replacement.advance():
                    log.info("SIGHUP: all workers are replaced")
                    self._replacement = None
            except ReplacementError as error:
                log.error("SIGHUP: %s; the old workers stay", error)
                self._replacement = None
        elif self._is_reload_pending:
            self._is_reload_pending = False
            try:
                self.check_reload()
            except (OSError, ValueError) as error:
                log.error("SIGHUP: %s; the workers are not replaced", error)
            else:
                log.info("SIGHUP: replacing the workers")
                self._replacement = Replacement(
                    self._slots,
                    start=functools.partial(self._start, must_be_ready=True),
                    retire=self._retire,
                )
                self._replace()

    def _retire(self, worker: Worker) -> None:
        """Let a worker finish the requests on its connections, and schedule its SIGTERM."""
        log.info("%s is retired; its successor is ready", worker)
        if worker.has_started:  # otherwise it has no connections
            self.retire_worker(worker.row, worker.process)
        drain_seconds = self.drain_seconds if worker.has_started else 0.0
        worker.stop_time = self.clock() + drain_seconds

    def _assign_connections(self, now: float) -> None:
        """Keep new connections away from slots whose workers fail, unless all fail.

        Connections that such a slot has queued wait for `abandon_seconds`. Then they are closed,
        and the clients may connect to another worker.
        """
        for slot in self._slots:
            if slot.worker and slot.worker.has_started:
                slot.failure_time = math.inf
        failing = [slot.number for slot in self._slots if slot.failure_time < math.inf]
        if failing != self._failing_slots:
            self._failing_slots = failing
            assign_connections(self.listeners, excluded=failing)
        if IS_LINUX and any(worker.has_started for worker in self._workers):
            for slot in self._slots:
                if slot.failure_time + self.abandon_seconds > now:
                    continue
                if count := close_queued_connections(slot.listener):
                    message = "worker %d does not start: closed %d connections that waited for it"
                    log.warning(message, slot.number, count)

    def _stop(self) -> None:
        """Stop accepting connections and end the workers; a second call kills the workers."""
        grace_seconds = 0.0 if self._stage is Stage.STOPPING else self.grace_seconds
        if self._stage is not Stage.STOPPING:
            self._stage, self._drain_end = Stage.STOPPING, math.inf
            log.info("stopping")
            for listener in self.listeners:
                listener.close()
        for worker in self._workers:
            self._terminate(worker, grace_seconds)

    def _terminate(self, worker: Worker, grace_seconds: float) -> None:
        """Send SIGTERM to a worker, and schedule its kill after the grace period."""
        worker.process.terminate()
        worker.stop_time = math.inf
        worker.kill_time = min(worker.kill_time, self.clock() + grace_seconds)
