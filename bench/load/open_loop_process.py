"""A process that generates open-loop load: it reads jobs as JSON lines and answers each with one.

Requests leave when they are due, whatever became of the previous ones, as independent clients send
them. A latency starts at the time at which the request was due. A request that is due while every
connection waits for a response is not sent, and is counted. The process never sleeps, so it needs a
core of its own.
"""

import contextlib
import json
import selectors
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

RECEIVE_BYTES = 1 << 18
UNSENT, BROKEN, UNANSWERED = 0, 1, 2
"""Stand-ins for a status: no connection was free, the connection was lost, no response in time."""


@dataclass(frozen=True)
class Job:
    """One load, as sent to the process."""

    port: int
    requests: Sequence[str]
    """Paths of files with complete requests, sent in turn."""
    rate: float
    """Requests per second."""
    seconds: float
    connections: int
    """Maximum number of open connections."""
    start: float
    """Time of the start on the clock time.monotonic()."""
    grace_seconds: float
    """Time to wait for responses after the last request was due."""
    seed: int
    result: str
    """Path of the NPZ file to write."""


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


class Loop:
    """Sends requests when they are due, and records the status and latency of each.

    Attributes:
        status: HTTP status, UNSENT, BROKEN or UNANSWERED, by request.
        latency: seconds from the due time to the response, by request.
        lags: seconds from the due time to the sending, by request sent.
    """

    def __init__(
        self, port: int, requests: Sequence[bytes], due: Sequence[float], connections: int
    ) -> None:
        """Prepare a load.

        Args:
            port: TCP port on 127.0.0.1.
            requests: complete requests, sent in turn.
            due: times at which requests are due, ascending, in seconds from the start.
            connections: maximum number of open connections.
        """
        self.port, self.requests, self.due, self.connections = port, requests, due, connections
        self.status = [UNSENT] * len(due)
        self.latency = [0.0] * len(due)
        self.lags: list[float] = []
        self.selector = selectors.DefaultSelector()
        self.idle: list[Client] = []
        self.open_count = 0
        self.start = 0.0

    def run(self, start: float, grace_seconds: float) -> None:
        """Send all requests from a time of time.monotonic() on, then wait for the responses."""
        number, count, due = 0, len(self.due), self.due
        self.start = start
        while (now := time.monotonic() - start) < 0:
            pass
        end = (due[-1] if count else 0.0) + grace_seconds
        while number < count or (now < end and len(self.idle) < self.open_count):
            while number < count and due[number] <= now:
                self.send(number, now)
                number += 1
            for key, events in self.selector.select(0):
                client: Client = key.data
                if events & selectors.EVENT_READ:
                    self.read(client)
                elif events & selectors.EVENT_WRITE:
                    self.write(client)
            now = time.monotonic() - start
        for key in list(self.selector.get_map().values()):
            key.data.connection.close()

    def send(self, number: int, now: float) -> None:
        """Start a request on an idle or new connection; without one it stays UNSENT."""
        if self.idle:
            client = self.idle.pop()
        elif self.open_count < self.connections:
            client = Client(socket.socket())
            client.connection.setblocking(False)
            client.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.connection.connect_ex(("127.0.0.1", self.port))
            self.selector.register(client.connection, selectors.EVENT_READ, client)
            self.open_count += 1
        else:
            return
        self.lags.append(now - self.due[number])
        self.status[number] = UNANSWERED
        request = self.requests[number % len(self.requests)]
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
        self.latency[client.number] = time.monotonic() - self.start - self.due[client.number]
        client.number, client.response = -1, b""
        # A response to a request that is not fully sent: the rest must not follow.
        if client.unsent or b"onnection: close" in head:
            self.close(client)
        else:
            self.idle.append(client)

    def close(self, client: Client) -> None:
        """Close a connection, which makes room for a new one."""
        self.selector.unregister(client.connection)
        client.connection.close()
        self.open_count -= 1


def content_length(head: bytes) -> int:
    """Return the Content-Length of a response from its status line and headers."""
    lower = head.lower()
    start = lower.find(b"content-length:") + 15
    return int(lower[start : (lower + b"\r\n").find(b"\r\n", start)])


def run_job(job: Job) -> float:
    """Run one load and write its result; return the 99th percentile of the lags, in seconds."""
    requests = [Path(path).read_bytes() for path in job.requests]
    count = int(job.rate * job.seconds)
    # Given their number, the arrivals of a Poisson process are uniformly distributed.
    due = np.sort(np.random.default_rng(job.seed).uniform(0, job.seconds, count))
    loop = Loop(job.port, requests, due.tolist(), job.connections)
    loop.run(job.start, job.grace_seconds)
    kind = np.arange(count) % len(requests)
    status, latency = np.array(loop.status, np.int16), np.array(loop.latency)
    np.savez(job.result, due=due, kind=kind, status=status, latency=latency)
    return float(np.quantile(loop.lags or [0.0], 0.99))


def main() -> None:
    """Run jobs from stdin until it ends."""
    for line in sys.stdin:
        print(json.dumps({"lag_s": run_job(Job(**json.loads(line)))}), flush=True)


if __name__ == "__main__":
    main()
