"""Worker processes that run granian; the only module that touches granian's private parts."""

import functools
import multiprocessing
import signal
import socket
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from wsgiref.types import WSGIApplication

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer

from service.host.signals import HANDLED_SIGNALS
from service.host.sockets import IS_LINUX, MAX_CONNECTIONS
from service.host.tls import KeyPair
from service.host.worker import begin_worker

SPARE_FILES = 256
"""Open files of a worker besides its connections. Out of files, granian accepts in a busy loop."""
HEADER_TIMEOUT_SECONDS = 75
"""Seconds to wait for the head of a request: load balancers keep idle connections for a minute."""


class GranianWorkers(MPServer):
    """Starts workers, each a fork of this process in which granian serves one socket over HTTP.

    Only the configuration and the worker's code of MPServer are used; the caller supervises.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        load: Callable[[int], WSGIApplication],
        *,
        threads: int,
        key_pair: KeyPair | None = None,
    ) -> None:
        """Configure granian.

        Args:
            listeners: one socket per worker, from listen().
            load: makes the application, in the worker, from the number of its slot, from 0 on.
            threads: threads per worker that answer requests; a stalled upload holds one of them.
            key_pair: certificate and key to answer HTTPS; each new worker reads them again.
        """
        super().__init__(
            "service",
            interface=Interfaces.WSGI,
            workers=len(listeners),
            blocking_threads=threads,
            backpressure=max(MAX_CONNECTIONS, threads),
            # With HTTP/2 enabled, even in clear text, silent connections would never be closed.
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT_SECONDS * 1000),
            log_level=LogLevels.error,
            log_dictconfig={"handlers": {}, "loggers": {"_granian": {"propagate": True}}},
            ssl_cert=key_pair.certificate if key_pair else None,
            ssl_key=key_pair.key if key_pair else None,
            ssl_protocol_min=SSLProtocols.tls12,
        )
        if key_pair:
            # granian has resolved the links, but renewing a certificate often replaces a link.
            paths = (str(key_pair.certificate.absolute()), str(key_pair.key.absolute()))
            self.ssl_ctx = (True, *paths, *self.ssl_ctx[3:])  # type: ignore[assignment]
        self._ssp = self._sso = None  # granian's other ways to pass a socket
        self._listeners = listeners
        # Up to Python 3.13 fork is Linux' default. Other methods would import in each worker what
        # this process has imported already.
        multiprocessing.set_start_method("fork", force=True)
        self.serve(target_loader=load, wrap_loader=False)

    def _serve(
        self, spawn_target: Callable[..., None], target_loader: Callable[[int], WSGIApplication]
    ) -> None:
        # MPServer would start and supervise the workers here.
        self._spawn_target, self._load = spawn_target, target_loader

    def start(self, slot: int) -> BaseProcess:
        """Fork a worker.

        Raises:
            OSError: the process cannot be started.
        """
        # The holder does not own the descriptor.
        backlog = [MAX_CONNECTIONS] if IS_LINUX else []
        holder = SocketHolder(self._listeners[slot].fileno(), False, *backlog)  # type: ignore[call-arg]
        self._shd = holder  # type: ignore[assignment] # it begins as None
        max_files = self.backpressure + SPARE_FILES
        begin = functools.partial(begin_worker, self._load, slot, self._listeners, max_files)
        process: BaseProcess = self._spawn_worker(slot, self._spawn_target, begin).inner
        # A new worker has the supervisor's handlers for a moment and would write its own signals
        # into the supervisor's pipe. The worker lifts the block itself.
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)
        return process
