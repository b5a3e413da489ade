"""The host: one process that answers nothing, and the workers that it starts, replaces, drains and stops.

Sockets, HTTP and TLS are granian's. Its own supervision is not used: it ends the whole server when a worker dies
twice within seconds, and it has no drain. What stands here instead keeps to one thread, so that it may always fork.
"""

import contextlib
import ctypes
import enum
import functools
import logging
import math
import multiprocessing
import os
import resource
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer

from service.settings import SettingsError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
from service.host.sockets import IS_LINUX, MAX_CONNECTIONS

FILES = 256
"""Of one worker, beside its connections; where none is left, granian tries to accept without a pause."""
IDLE_SECONDS = 75
"""For the head of a request to arrive: more than the minute for which load balancers keep an idle connection."""
EARLY_DEATH_SECONDS = 1.0
"""A worker that lives for less may not live at all, so the next one waits a little."""
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.1, 5.0
PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>."""
ENDING = (signal.SIGTERM, signal.SIGINT)
HANDLED = (*ENDING, signal.SIGHUP)
log = logging.getLogger(__name__)


class Stage(enum.Enum):
    """Of the host's life."""

    SERVING = enum.auto()
    DRAINING = enum.auto()
    STOPPING = enum.auto()


@dataclass(eq=False)
class Slot:
    """The place of one worker. Its socket outlives the worker: connections wait there for the next one.

    Times are time.monotonic()'s seconds.
    """

    number: int
    listener: socket.socket
    process: BaseProcess | None = None
    born: float = 0.0
    deadline: float = math.inf
    """Of a worker that was asked to end: it is killed then."""
    due: float = 0.0
    """When the next worker is started."""
    early_deaths: int = 0
    """In a row."""


class Supervisor(MPServer):
    """Serves until a signal ends it.

    SIGTERM: `draining` is called, the workers go on for `drain_seconds`, then accept no more, finish what is in flight
    within `grace_seconds`, and are killed after that. SIGINT leaves out the drain. Another of the two, at any time,
    leaves out the rest of the step. SIGHUP replaces the workers, which read certificate and token anew; connections
    wait for the new ones. A terminal that closes sends it too, and that is SIGINT.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        *,
        threads: int,
        draining: Callable[[], object] = lambda: None,
        ended: Callable[[int], object] = lambda slot: None,
        drain_seconds: float = 2.0,
        grace_seconds: float = 6.0,
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        """Take what to serve with.

        Args:
            listeners: from listen(), one for each worker.
            threads: of a worker, that answer requests; an upload that stalls holds one of them.
            draining: is called in this process, to tell the workers.
            ended: is called in this process with the slot of a worker that has ended.
            drain_seconds: during which load balancers notice.
            grace_seconds: with the drain's less than ten, after which `docker stop` kills.
            certificate: PEM, with its chain, to answer HTTPS.
            key: the certificate's, PEM.

        Raises:
            SettingsError: certificate and key are no pair.
            OSError: one of them cannot be read.
        """
        self._pair = (certificate, key) if certificate and key else None
        self._check_pair()
        super().__init__(
            "service",
            interface=Interfaces.WSGI,
            workers=len(listeners),
            blocking_threads=threads,
            backpressure=max(MAX_CONNECTIONS, threads),
            # With HTTP/2 beside it, in clear even, a connection that sends nothing would never be closed.
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=IDLE_SECONDS * 1000),
            log_level=LogLevels.error,
            log_dictconfig={"handlers": {}, "loggers": {"_granian": {"propagate": True}}},
            ssl_cert=certificate,
            ssl_key=key,
            ssl_protocol_min=SSLProtocols.tls12,
        )
        if self._pair:
            # granian follows links once and for all; a certificate that is renewed is a link to another file.
            self.ssl_ctx = (True, *(str(path.absolute()) for path in self._pair), *self.ssl_ctx[3:])  # type: ignore[assignment]
        self._ssp = self._sso = None  # granian's other ways to a socket
        self._draining, self._drain_seconds, self._grace_seconds = (
            draining,
            drain_seconds,
            grace_seconds,
        )
        self._ended = ended
        self._slots = [Slot(number, listener) for number, listener in enumerate(listeners)]
        self._stage, self._drained = Stage.SERVING, math.inf

    def run(self, load: Callable[[int], "WSGIApplication"]) -> None:
        """Serve; return when a signal has ended it.

        Args:
            load: makes the application, in a worker, from its slot: 0 to workers - 1; a worker that takes the place of
                another has the other's.
        """
        # Up to Python 3.13 it is Linux' default. All else would import what this process holds anew in each worker.
        multiprocessing.set_start_method("fork", force=True)
        _allow_files(self.backpressure + FILES)
        self.serve(target_loader=load, wrap_loader=False)

    def _serve(
        self, spawn_target: Callable[..., None], target_loader: Callable[[int], "WSGIApplication"]
    ) -> None:
        """Be the parent process, in place of granian's, whose serve() ends in a call of this."""
        start = functools.partial(self._start, spawn_target, target_loader)
        terminal = _has_terminal()
        with _signals() as arrived:
            while True:
                now = time.monotonic()
                for slot in self._slots:
                    if slot.process and slot.deadline <= now:
                        slot.process.kill()
                        self._bury(slot, slot.process)
                    if not slot.process and slot.due <= now and self._stage is Stage.SERVING:
                        start(slot)
                alive = {
                    slot.process.sentinel: (slot, slot.process)
                    for slot in self._slots
                    if slot.process
                }
                if not alive and self._stage is not Stage.SERVING:
                    return
                due = [
                    slot.due
                    for slot in self._slots
                    if not slot.process and self._stage is Stage.SERVING
                ]
                wake = min(self._drained, *due, *(slot.deadline for slot, _ in alive.values()))
                happened = connection.wait(
                    [arrived, *alive], max(0.0, wake - now) if wake < math.inf else None
                )
                for number in os.read(arrived, 64) if arrived in happened else b"":
                    if number in ENDING or (terminal and not _has_terminal()):
                        self._stop(drain=number == signal.SIGTERM)
                    else:
                        self._replace()
                for sentinel in alive.keys() & set(happened):
                    self._bury(*alive[sentinel])
                if self._drained <= time.monotonic():
                    self._stop()

    def _start(
        self,
        spawn_target: Callable[..., None],
        load: Callable[[int], "WSGIApplication"],
        slot: Slot,
    ) -> None:
        """Fork a worker."""
        self._shd = _holder(slot.listener)  # type: ignore[assignment] # granian's own begins as None
        others = [other.listener for other in self._slots if other.listener is not slot.listener]
        begin = functools.partial(_begin, load, slot, others, os.getpid())
        worker = self._spawn_worker(slot.number, spawn_target, begin)
        slot.born, slot.deadline = time.monotonic(), math.inf
        # This process' handlers, in the worker for a moment, would take the worker's signals for its own.
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        try:
            worker.inner.start()
            slot.process = worker.inner
        except OSError as error:
            log.error(
                "worker %d cannot be started: %s; again in %.1f s",
                slot.number,
                error,
                self._pause(slot),
            )
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)

    def _bury(self, slot: Slot, process: BaseProcess) -> None:
        """Say how a worker ended, and when the next one is due."""
        process.join()
        code, lived = process.exitcode or 0, time.monotonic() - slot.born
        how = f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"
        end = f"worker {slot.number} (process {process.pid}) ended after {lived:.1f} s: {how}"
        process.close()
        slot.process = None
        self._ended(slot.number)
        if slot.deadline < math.inf or self._stage is not Stage.SERVING:
            log.log(logging.INFO if code in (0, -signal.SIGTERM) else logging.WARNING, end)
        elif lived < EARLY_DEATH_SECONDS:
            log.error("%s; the next one starts in %.1f s", end, self._pause(slot))
        else:
            slot.early_deaths = 0
            log.error("%s; the next one starts", end)

    def _pause(self, slot: Slot) -> float:
        """Put off a worker that may not live at all, for longer each time; return the seconds."""
        seconds = min(FIRST_PAUSE_SECONDS * 2.0 ** min(slot.early_deaths, 10), MAX_PAUSE_SECONDS)
        slot.early_deaths += 1
        slot.due = time.monotonic() + seconds
        if slot.early_deaths > 1 and IS_LINUX:
            # No connection waits here any longer: other workers get it, or it is refused. The next worker listens anew.
            with contextlib.suppress(OSError):  # it never listened
                slot.listener.shutdown(socket.SHUT_RDWR)
        return seconds

    def _replace(self) -> None:
        """Ask the workers to end, for others to take their places."""
        if self._stage is not Stage.SERVING:
            return
        try:
            self._check_pair()
        except (SettingsError, OSError) as error:
            log.error("SIGHUP: %s; the workers stay", error)
        else:
            log.info("SIGHUP: the workers are replaced")
            self._ask_to_end(self._grace_seconds)

    def _stop(self, *, drain: bool = False) -> None:
        """Take the next step to the end."""
        if self._stage is Stage.SERVING and drain:
            self._stage, self._drained = Stage.DRAINING, time.monotonic() + self._drain_seconds
            log.info("draining for %g s", self._drain_seconds)
            self._draining()
        elif self._stage is not Stage.STOPPING:
            self._stage, self._drained = Stage.STOPPING, math.inf
            log.info("stopping")
            for slot in self._slots:
                slot.listener.close()
            self._ask_to_end(self._grace_seconds)
        else:
            self._ask_to_end(0.0)

    def _ask_to_end(self, seconds: float) -> None:
        """Tell the workers to accept no more and to finish, within so many seconds."""
        for slot in self._slots:
            if slot.process:
                slot.process.terminate()
                slot.deadline = min(slot.deadline, time.monotonic() + seconds)

    def _check_pair(self) -> None:
        """Raise SettingsError, or OSError, where certificate and key cannot be used."""
        if self._pair is None:
            return
        for path in self._pair:
            path.open("rb").close()  # OpenSSL's error would not name the file
        try:
            # An empty password, or OpenSSL asks the terminal for one.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*self._pair, password="")
        except ssl.SSLError as error:
            certificate, key = self._pair
            why = f" ({error.reason.lower().replace('_', ' ')})" if error.reason else ""
            raise SettingsError(
                f"{certificate}, {key}: expected a certificate and its key in PEM, the key without a password{why}"
            ) from None


def _begin(
    load: Callable[[int], "WSGIApplication"], slot: Slot, others: Sequence[socket.socket], host: int
) -> "WSGIApplication":
    """Make the application in a worker, which is a fork of the host and forgets what it has from there."""
    signal.set_wakeup_fd(-1)
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal sends it to all; the host decides
    for listener in others:
        listener.close()
    slot.listener.detach()  # granian's, from here on
    if sys.platform == "linux":
        # A worker's threads hand work to one another at every request. As batch work none that is woken interrupts the
        # one that runs: at 8 connections on one core 0.25 switches a request instead of 1.3, and 1.3 times the answers.
        with contextlib.suppress(OSError):  # a sandbox may not know it
            if os.sched_getscheduler(0) == os.SCHED_OTHER:  # and not what somebody chose
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    if IS_LINUX:  # an orphan would go on answering, or keep the port
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != host:  # it died before the line above
            os.kill(os.getpid(), signal.SIGKILL)
    # Ctrl-C goes to all of a terminal's processes; the host alone decides what follows, and says so with SIGTERM.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGHUP})
    try:
        return load(slot.number)
    except Exception:
        log.exception("worker %d cannot make its application", slot.number)
        sys.exit(1)


def _allow_files(count: int) -> None:
    """Let this process, and those that it starts, open so many files, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        most = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _holder(listener: socket.socket) -> SocketHolder:
    """Hand a socket to granian, without the ownership."""
    return SocketHolder(listener.fileno(), False, *([MAX_CONNECTIONS] if IS_LINUX else []))  # type: ignore[call-arg]


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """Turn signals into bytes, of the signal's number, to be read from the descriptor that is given."""
    arrived, put = os.pipe()
    os.set_blocking(put, False)
    signal.set_wakeup_fd(put, warn_on_full_buffer=False)
    # nohup has a process ignore SIGHUP.
    numbers = [number for number in HANDLED if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, frame: None) for number in numbers}
    try:
        yield arrived
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(arrived)
        os.close(put)


def _has_terminal() -> bool:
    """Whether this process has a terminal that could close, or has not yet."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
