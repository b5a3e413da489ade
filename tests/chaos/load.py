"""Load on a server: threads that send requests until an event is set, and check every reply."""

import contextlib
import http.client
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import psutil

from tests.serving import DEADLINE_SECONDS, until

INTERVAL_SECONDS = 0.01
"""Seconds between two connections of a client that is not persistent."""


@dataclass(frozen=True)
class LoadRequest:
    """A request that clients repeat."""

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers besides Content-Type."""


READYZ = LoadRequest("GET", "/readyz")


class BrokenConnection(NamedTuple):
    """An error, the client's port (0 if connect() failed), and time.monotonic() at the error."""

    error: str
    local_port: int
    seconds: float


class Completion(NamedTuple):
    """A connection over which each request was answered."""

    latency_seconds: float
    """Time from the first reply to the last one."""
    local_port: int
    """The client's port."""
    seconds: float
    """Time of the last reply on the clock time.monotonic()."""


class Hit(NamedTuple):
    """A signal to a worker, and the client's ports of the connections that it may break."""

    seconds: float
    """Time of the signal on the clock time.monotonic()."""
    ports: frozenset[int]


Check = Callable[[int, int, bytes], str | None]
"""Function from a request's position, a status and a body to an error message, or None."""


class Client(threading.Thread):
    """A client that cycles through requests until `stop` is set, with a new check per connection.

    A persistent client reuses a connection until it breaks; other clients open one per cycle.
    """

    def __init__(
        self,
        port: int,
        requests: Sequence[LoadRequest],
        new_check: Callable[[], Check],
        stop: threading.Event,
        persistent: bool = True,
    ) -> None:
        super().__init__()
        self.port, self.new_check, self.stop = port, new_check, stop
        self.requests, self.persistent = requests, persistent
        self.replies = 0
        self.wrong: list[str] = []
        self.broken: list[BrokenConnection] = []
        self.completions: list[Completion] = []
        """The completed connections of a client that is not persistent."""

    def run(self) -> None:
        """Send requests over one connection after the other until `stop` is set."""
        while not self.stop.is_set():
            connection, local_port = connect(self.port), 0
            try:
                connection.connect()
                local_port = connection.sock.getsockname()[1]
                self._send(connection, local_port)
            except (OSError, http.client.HTTPException) as error:
                self.broken.append(BrokenConnection(repr(error), local_port, time.monotonic()))
            finally:
                connection.close()
            if not self.persistent:
                self.stop.wait(INTERVAL_SECONDS)

    def _send(self, connection: http.client.HTTPConnection, local_port: int) -> None:
        check, reply_seconds = self.new_check(), list[float]()
        cycle = enumerate(self.requests)
        for position, request in itertools.cycle(cycle) if self.persistent else cycle:
            status, body = exchange(connection, request)
            self.replies += 1
            if not self.persistent:
                reply_seconds.append(time.monotonic())
            if text := check(position, status, body):
                self.wrong.append(f"{request.path} at {time.monotonic():.3f} s: {text}")
            if self.stop.is_set() or connection.sock is None:
                return  # Without a socket, http.client would connect again, from another port.
        latency = reply_seconds[-1] - reply_seconds[0]
        self.completions.append(Completion(latency, local_port, reply_seconds[-1]))


def connect(port: int, timeout: float = DEADLINE_SECONDS) -> http.client.HTTPConnection:
    """Return a connection to a server, not yet open, with a timeout in seconds."""
    return http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)


def exchange(connection: http.client.HTTPConnection, request: LoadRequest) -> tuple[int, bytes]:
    """Send a request; return status and body of the reply."""
    entity = {"Content-Type": "application/json"} if request.body else {}
    connection.request(request.method, request.path, request.body, {**entity, **request.headers})
    reply = connection.getresponse()
    return reply.status, reply.read()


def client_ports(worker: psutil.Process) -> set[int]:
    """Return the clients' ports of the connections that a worker has accepted."""
    connections = worker.net_connections("tcp")
    return {connection.raddr.port for connection in connections if connection.raddr}


def hit(worker: psutil.Process, number: signal.Signals) -> Hit:
    """Suspend a worker and send it a signal; a worker that is gone has no connections."""
    ports = set[int]()
    with contextlib.suppress(psutil.NoSuchProcess):
        worker.suspend()  # A suspended worker accepts no connection after its ports are listed.
        until(lambda: worker.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE))
        ports = client_ports(worker)
    seconds = time.monotonic()
    with contextlib.suppress(psutil.NoSuchProcess):
        worker.send_signal(number)
    return Hit(seconds, frozenset(ports))


@contextlib.contextmanager
def load(clients: Sequence[threading.Thread], stop: threading.Event) -> Iterator[None]:
    """Run clients, which end once `stop` is set, until the end of the block."""
    for client in clients:
        client.start()
    try:
        yield
    finally:
        stop.set()
        for client in clients:
            client.join()
