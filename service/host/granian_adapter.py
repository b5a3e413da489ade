"""Worker processes that run granian; the only module that uses granian's private attributes."""

import contextlib
import ctypes
import functools
import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIApplication

import granian.server.mp
from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer
from granian.wsgi import _callback_wrapper

from service.host.abort import ABORT, abort
from service.host.heartbeat import Heartbeats, HeartbeatThread, beat_interval
from service.host.memory import return_large_blocks
from service.host.signals import HANDLED_SIGNALS, STOP_SIGNALS
from service.host.sockets import IS_LINUX, MAX_CONNECTIONS
from service.host.tls import KeyPair

SPARE_FILES = 256
"""Number of open files per worker besides connections; at the file limit, granian busy-waits."""
HEADER_TIMEOUT_SECONDS = 75
"""Seconds to wait for request headers; load balancers keep idle connections for 60 seconds."""
PR_SET_PDEATHSIG = 1
"""Operation number of prctl(2), from <linux/prctl.h>."""
RETIRE_SIGNAL = signal.SIGUSR1
"""Signal after which a worker accepts no more connections."""
log = logging.getLogger(__name__)


class GranianWorkers(MPServer):
    """Starts workers: forks of this process in which granian serves HTTP on one socket each.

    Only the configuration and the worker code of MPServer are used; the caller supervises.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        load: Callable[[int], WSGIApplication],
        heartbeats: Heartbeats,
        *,
        threads: int,
        key_pair: KeyPair | None = None,
        is_ready: Callable[[int], bool] = lambda row: True,
        hang_seconds: float = 30.0,
    ) -> None:
        """Configure granian.

        Args:
            listeners: one socket per worker, from listen().
            load: returns the application for a row of shared memory; called in the worker.
            heartbeats: memory with two rows per listener: the rows `number` and `number +
                len(listeners)` are for the two workers that a listener may have at a time.
            threads: number of request threads per worker; a stalled upload occupies one.
            key_pair: certificate and key for HTTPS; each new worker reads them again.
            is_ready: returns whether the application of a row is ready; called in the worker.
            hang_seconds: seconds without a heartbeat after which a worker counts as hung.
        """
        super().__init__(
            "service",
            interface=Interfaces.WSGI,
            workers=len(listeners),
            blocking_threads=threads,
            backpressure=max(MAX_CONNECTIONS, threads),
            # With HTTP/2, even without TLS, granian would never close idle connections.
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT_SECONDS * 1000),
            log_level=LogLevels.error,
            log_dictconfig={"handlers": {}, "loggers": {"_granian": {"propagate": True}}},
            ssl_cert=key_pair.certificate if key_pair else None,
            ssl_key=key_pair.key if key_pair else None,
            ssl_protocol_min=SSLProtocols.tls12,
        )
        if key_pair:
            # granian has resolved the links, but a link is often replaced to renew a certificate.
            paths = (str(key_pair.certificate.absolute()), str(key_pair.key.absolute()))
            self.ssl_ctx = (True, *paths, *self.ssl_ctx[3:])  # type: ignore[assignment]
        self._ssp = self._sso = None  # granian's other ways to pass a socket
        self._listeners, self._load, self._heartbeats = listeners, load, heartbeats
        self._is_ready, self._beat_interval = is_ready, beat_interval(hang_seconds)
        granian.server.mp._wsgi_call_wrap = _call_with_abort  # type: ignore[assignment, attr-defined]
        # Forked workers share the modules that this process has imported. Fork is the default on
        # Linux only up to Python 3.13.
        multiprocessing.set_start_method("fork", force=True)
        self.serve(target_loader=load, wrap_loader=False)

    def _serve(self, spawn_target: Callable[..., None], target_loader: object) -> None:
        # MPServer would start and supervise the workers here.
        self._spawn_target = spawn_target

    def start(self, row: int, must_be_ready: bool = False) -> BaseProcess:
        """Fork the worker of a row; raise OSError if the system refuses.

        If it must be ready and is not, the worker ends without accepting connections.
        """
        slot = row % len(self._listeners)
        backlog = [MAX_CONNECTIONS] if IS_LINUX else []
        # False leaves the ownership of the descriptor to this process.
        self._shd = SocketHolder(self._listeners[slot].fileno(), False, *backlog)  # type: ignore[assignment,call-arg]
        begin = functools.partial(self._begin, row, must_be_ready)
        process: BaseProcess = self._spawn_worker(slot, self._spawn_target, begin).inner
        # Until _begin() runs, a worker has the supervisor's handlers, which would write its signals
        # into the supervisor's pipe. The signals are thus blocked until _begin() unblocks them.
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)
        return process

    def _begin(self, row: int, must_be_ready: bool) -> WSGIApplication:
        """Reset the signals and sockets inherited from the supervisor; return the application."""
        signal.set_wakeup_fd(-1)
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        # A terminal sends SIGHUP to every process, but only the supervisor may act on it.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        slot = row % len(self._listeners)
        listener = self._listeners[slot]
        for other in self._listeners:
            if other is not listener:
                other.close()
        signal.signal(
            RETIRE_SIGNAL, functools.partial(_stop_accepting, os.fstat(listener.fileno()))
        )
        listener.detach()  # granian owns the descriptor from here on
        _raise_file_limit(self.backpressure + SPARE_FILES)
        _schedule_as_batch()
        _die_with_parent()
        return_large_blocks()
        heartbeat = HeartbeatThread(self._heartbeats, row, self._beat_interval)
        heartbeat.start()
        # SIGINT stays blocked: Ctrl-C reaches every process of a terminal, but only the supervisor
        # may act on it, by sending SIGTERM to the workers.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGHUP})
        try:
            application = self._load(row)
        except Exception:
            log.exception("worker %d cannot create its application", slot)
            sys.exit(1)
        if must_be_ready and not self._is_ready(row):
            log.error("worker %d is not ready; it ends, and the old one stays", slot)
            sys.exit(1)
        heartbeat.confirm_application()
        return application


def retire(process: BaseProcess) -> None:
    """Tell a worker that has started to accept no more connections, and to serve those it has."""
    if process.pid is None:
        raise ValueError("expected a process that has been started")
    with contextlib.suppress(ProcessLookupError):  # it may have ended
        os.kill(process.pid, RETIRE_SIGNAL)


def _stop_accepting(listener: os.stat_result, number: int, frame: object) -> None:
    """Replace the listener in this process by a socket to which nobody connects.

    The successor shares the listener, therefore shutdown() would stop both. SIGTERM would end
    keep-alive connections between two requests, which a client may be sending at that moment.
    """
    unused = socket.create_server(("127.0.0.1", 0), backlog=0)
    unused.setblocking(False)
    for path in Path("/dev/fd").iterdir():
        with contextlib.suppress(OSError):  # the folder's own descriptor is closed by now
            if os.path.samestat(os.fstat(int(path.name)), listener):
                os.dup2(unused.fileno(), int(path.name))


def _call_with_abort(*arguments: Any) -> Callable[[Any, dict[str, Any]], int]:
    """Return granian's function that calls an application, extended by ABORT in the environ."""
    call = _callback_wrapper(*arguments)

    def handle(protocol: Any, scope: dict[str, Any]) -> int:
        scope[ABORT] = functools.partial(abort, protocol)
        return call(protocol, scope)  # type: ignore[no-any-return]

    return handle


def _raise_file_limit(count: int) -> None:
    """Raise the limit of open files to `count`, or to the hard limit if that is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        limit = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _schedule_as_batch() -> None:
    """Set the policy SCHED_BATCH, under which a thread that wakes up does not preempt another.

    The threads of a worker wake each other at every request. Measured with 8 connections on one
    core: 0.25 context switches per request instead of 1.3, and 1.3 times the throughput.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox may not support it
            if os.sched_getscheduler(0) == os.SCHED_OTHER:  # keep a policy that an operator chose
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _die_with_parent() -> None:
    """Have the kernel kill this process when the supervisor dies: an orphan would keep the port."""
    parent = multiprocessing.parent_process()
    if IS_LINUX and parent:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent.pid:  # the supervisor died before the line above
            os.kill(os.getpid(), signal.SIGKILL)
