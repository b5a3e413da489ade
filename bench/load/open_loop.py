"""Open-loop load: requests leave at random times that do not depend on the responses.

Like independent clients, the generators send each request at its due time, even if earlier ones
have no response yet, and measure its latency from that time. A request that is due while every
connection waits for a response is not sent, but is counted as UNSENT. A generator polls without
sleeping, so it needs a core of its own.
"""

import contextlib
import multiprocessing
import os
import selectors
import socket
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

GRACE_SECONDS = 5
"""Time to wait for responses after the last request was due."""
RECEIVE_BYTES = 1 << 18
UNSENT, BROKEN, UNANSWERED = 0, 1, 2
"""Statuses of requests without a response: no free connection, lost connection, or timeout."""


@dataclass(frozen=True)
class Load:
    """Requests to send, and the rate and the duration at which to send them."""

    port: int
    """TCP port on 127.0.0.1."""
    requests: Sequence[bytes]
    """Complete requests, sent in turn."""
    rate: float
    """Mean number of requests per second; their due times are random."""
    seconds: float
    start: float
    """Start of the load, in seconds on the clock of time.monotonic()."""
    connections: int
    """Maximum number of open connections."""
    seed: int


@dataclass(frozen=True)
class Responses:
    """Result of a load; the first four arrays have one element per request."""

    due: NDArray[np.float64]
    """Time at which the request was due, in seconds from the start."""
    kind: NDArray[np.int64]
    """Index into the sequence of requests."""
    status: NDArray[np.int64]
    """HTTP status, or UNSENT, BROKEN or UNANSWERED."""
    latency: NDArray[np.float64]
    """Seconds from the due time to the complete response; 0 if there is none."""
    lag: NDArray[np.float64]
    """Seconds from the due time of each request sent to the moment when it was sent."""


@dataclass
class Client:
    """A connection, and the request in flight on it."""

    connection: socket.socket
    number: int = -1
    """Index of the request in flight; -1 when idle."""
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    """Bytes of the request that are still to be sent."""
    writing: bool = False
    """Whether the selector waits for room in the send buffer."""
    response: bytes = b""
    """Bytes received so far."""


class Generator:
    """Sends the requests of one load when they are due, and records status and latency of each."""

    def __init__(self, load: Load) -> None:
        self.load = load
        count = int(load.rate * load.seconds)
        # Given their number, the arrivals of a Poisson process are uniformly distributed.
        times = np.random.default_rng(load.seed).uniform(0, load.seconds, count)
        self.due = np.sort(times).tolist()
        self.status = [UNSENT] * count
        self.latency = [0.0] * count
        self.lag: list[float] = []
        self.selector = selectors.DefaultSelector()
        self.idle: list[Client] = []
        self.open_count = 0

    def run(self) -> Responses:
        """Send all requests, wait for the responses, and return the result."""
        number, count, start = 0, len(self.due), self.load.start
        while (now := time.monotonic() - start) < 0:
            pass
        end = self.load.seconds + GRACE_SECONDS
        while number < count or (now < end and len(self.idle) < self.open_count):
            while number < count and self.due[number] <= now:
                self.send(number, now)
                number += 1
            for key, events in self.selector.select(0):
                if events & selectors.EVENT_READ:
                    self.read(key.data)
                elif events & selectors.EVENT_WRITE:
                    self.write(key.data)
            now = time.monotonic() - start
        for key in list(self.selector.get_map().values()):
            key.data.connection.close()
        kind = np.arange(count) % len(self.load.requests)
        arrays = map(np.array, (self.due, kind, self.status, self.latency, self.lag))
        return Responses(*arrays)

    def send(self, number: int, now: float) -> None:
        """Send a request on an idle or new connection; at the connection limit it stays UNSENT."""
        if self.idle:
            client = self.idle.pop()
        elif self.open_count < self.load.connections:
            client = Client(socket.socket())
            client.connection.setblocking(False)
            client.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.connection.connect_ex(("127.0.0.1", self.load.port))
            self.selector.register(client.connection, selectors.EVENT_READ, client)
            self.open_count += 1
        else:
            return
        self.lag.append(now - self.due[number])
        self.status[number] = UNANSWERED
        request = self.load.requests[number % len(self.load.requests)]
        client.number, client.unsent = number, memoryview(request)
        self.write(client)

    def write(self, client: Client) -> None:
        """Send what fits in the send buffer; the selector reports when the rest can follow."""
        try:
            client.unsent = client.unsent[client.connection.send(client.unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            # The server has closed the connection, perhaps after a response.
            self.read(client)
            return
        if bool(client.unsent) != client.writing:
            client.writing = bool(client.unsent)
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.writing else 0)
            self.selector.modify(client.connection, events, client)

    def read(self, client: Client) -> None:
        """Receive bytes; record the response when it is complete."""
        part = b""
        with contextlib.suppress(OSError):
            part = client.connection.recv(RECEIVE_BYTES)
        if not part:
            if client.number >= 0:
                self.status[client.number] = BROKEN
            elif client in self.idle:
                self.idle.remove(client)
            self.close(client)
            return
        client.response += part
        head, separator, body = client.response.partition(b"\r\n\r\n")
        if not separator or len(body) < content_length(head):
            return
        self.status[client.number] = int(head[9:12])
        self.latency[client.number] = time.monotonic() - self.load.start - self.due[client.number]
        client.number, client.response = -1, b""
        # After an early response the connection still expects the rest of the request.
        # Servers differ in the case of the first letter of "connection".
        if client.unsent or b"onnection: close" in head:
            self.close(client)
        else:
            self.idle.append(client)

    def close(self, client: Client) -> None:
        """Close a connection; a later request may open a new one."""
        self.selector.unregister(client.connection)
        client.connection.close()
        self.open_count -= 1


def content_length(head: bytes) -> int:
    """Return the Content-Length of a response from its status line and headers."""
    lower = head.lower()
    start = lower.find(b"content-length:") + 15
    return int(lower[start : (lower + b"\r\n").find(b"\r\n", start)])


def generate(load: Load) -> Responses:
    """Run one load in this process."""
    return Generator(load).run()


class OpenLoop:
    """Context manager for generator processes, one per core, that share each load."""

    def __init__(self, cores: Sequence[int]) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.executors = [
            ProcessPoolExecutor(1, spawn, initializer=os.sched_setaffinity, initargs=(0, {core}))
            for core in cores
        ]
        for executor in self.executors:
            executor.submit(int).result()  # Starts the process.

    def start(self, load: Load) -> list["Future[Responses]"]:
        """Start a load; `collect` waits for its end."""
        count = len(self.executors)
        share = replace(load, rate=load.rate / count, connections=load.connections // count)
        return [
            executor.submit(generate, replace(share, seed=load.seed * count + number))
            for number, executor in enumerate(self.executors)
        ]

    def __enter__(self) -> "OpenLoop":
        return self

    def __exit__(self, *_: object) -> None:
        for executor in self.executors:
            executor.shutdown()


def collect(futures: Sequence["Future[Responses]"]) -> Responses:
    """Wait for the end of a load, and return the result over all generators."""
    parts = [vars(future.result()) for future in futures]
    return Responses(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
