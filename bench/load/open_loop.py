"""An open loop: requests leave when they are due, whatever has become of those before, as independent callers send.

A process that generates load: it answers JSON lines, a job each, with what it found. Latencies count from the moment
at which a request was due, not from when it left. There are so many connections at most; a request that is due while
none is free does not leave at all, and is counted. It never sleeps: a core of its own is meant for it.
"""

import contextlib
import json
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

CHUNK = 1 << 18
UNSENT, BROKEN, UNANSWERED = 0, 1, 2
"""In the place of a status: no connection was free; the connection was lost; no answer before the end."""


@dataclass
class Caller:
    """A connection, and the request that is under way on it."""

    connection: socket.socket
    number: int = -1
    """Of the request."""
    left: memoryview = field(default_factory=lambda: memoryview(b""))
    """What is still to be sent of it."""
    writes: bool = False
    """Whether the selector watches for room to send."""
    answer: bytes = b""
    """What has come."""


class Loop:
    """Sends requests to one address as they fall due, and notes status and latency of each."""

    def __init__(
        self, port: int, requests: list[bytes], due: np.ndarray[Any, Any], most_connections: int
    ) -> None:
        """Take what to send.

        Args:
            port: of 127.0.0.1.
            requests: complete ones, which are sent in turn.
            due: seconds from the start at which they are, in order.
            most_connections: open at a time.
        """
        self.port, self.requests, self.due, self.most_connections = (
            port,
            requests,
            due.tolist(),
            most_connections,
        )
        self.status = [UNSENT] * len(due)
        self.latency = [0.0] * len(due)
        self.late: list[float] = []
        """Seconds by which each left after it was due: what this generator itself adds."""
        self.selector = selectors.DefaultSelector()
        self.idle: list[Caller] = []
        self.open = 0

    def run(self, start: float, grace: float) -> None:
        """Send everything; then wait for what is under way.

        Args:
            start: of the clock time.monotonic().
            grace: seconds after the last request is due.
        """
        number, count, due = 0, len(self.due), self.due
        self.start = start
        while (now := time.monotonic() - start) < 0:
            pass
        end = (due[-1] if count else 0.0) + grace
        while number < count or (now < end and len(self.idle) < self.open):
            while number < count and due[number] <= now:
                self.send(number, now)
                number += 1
            for key, events in self.selector.select(0):
                caller: Caller = key.data
                if events & selectors.EVENT_READ:
                    self.take(caller)
                elif events & selectors.EVENT_WRITE:
                    self.push(caller)
            now = time.monotonic() - start
        for key in list(self.selector.get_map().values()):
            key.data.connection.close()

    def send(self, number: int, now: float) -> None:
        """Begin a request, on a connection that is free or on a new one."""
        if self.idle:
            caller = self.idle.pop()
        elif self.open < self.most_connections:
            caller = Caller(socket.socket())
            caller.connection.setblocking(False)
            caller.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            caller.connection.connect_ex(("127.0.0.1", self.port))
            self.selector.register(caller.connection, selectors.EVENT_READ, caller)
            self.open += 1
        else:
            return
        self.late.append(now - self.due[number])
        self.status[number] = UNANSWERED
        caller.number, caller.left = number, memoryview(self.requests[number % len(self.requests)])
        self.push(caller)

    def push(self, caller: Caller) -> None:
        """Send what the connection takes, and come back for the rest."""
        try:
            caller.left = caller.left[caller.connection.send(caller.left) :]
        except BlockingIOError:
            pass
        except OSError:  # the other end has closed, perhaps after an answer
            self.take(caller)
            return
        if bool(caller.left) != caller.writes:
            caller.writes = bool(caller.left)
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if caller.writes else 0)
            self.selector.modify(caller.connection, events, caller)

    def take(self, caller: Caller) -> None:
        """Receive; note the answer when it is complete."""
        part = b""
        with contextlib.suppress(OSError):
            part = caller.connection.recv(CHUNK)
        if not part:
            self.drop(caller)
            return
        caller.answer += part
        head, separator, body = caller.answer.partition(b"\r\n\r\n")
        if not separator or len(body) < length_of(head):
            return
        self.status[caller.number] = int(head[9:12])
        self.latency[caller.number] = time.monotonic() - self.start - self.due[caller.number]
        caller.number, caller.answer = -1, b""
        if (
            caller.left or b"onnection: close" in head
        ):  # an answer before the whole request: what is left is not sent
            self.close(caller)
        else:
            self.idle.append(caller)

    def drop(self, caller: Caller) -> None:
        """Note that a connection was lost."""
        if caller.number >= 0:
            self.status[caller.number] = BROKEN
        elif caller in self.idle:
            self.idle.remove(caller)
        self.close(caller)

    def close(self, caller: Caller) -> None:
        """Give a connection up."""
        self.selector.unregister(caller.connection)
        caller.connection.close()
        self.open -= 1


def length_of(head: bytes) -> int:
    """Return the Content-Length of a reply."""
    lower = head.lower()
    place = lower.find(b"content-length:") + 15
    return int(lower[place : (lower + b"\r\n").find(b"\r\n", place)])


def main() -> None:
    """Do jobs from stdin until it ends."""
    for line in sys.stdin:
        job = json.loads(line)
        requests = [Path(path).read_bytes() for path in job["requests"]]
        random = np.random.default_rng(job["seed"])
        count = int(job["rate"] * job["seconds"])
        due = np.sort(
            random.uniform(0, job["seconds"], count)
        )  # what a Poisson process looks like, given its count
        loop = Loop(job["port"], requests, due, job["connections"])
        loop.run(job["start"], job["grace"])
        kind = np.arange(count) % len(requests)
        status, latency = np.array(loop.status, np.int16), np.array(loop.latency)
        np.savez(job["result"], due=due, kind=kind, status=status, latency=latency)
        print(json.dumps({"late_s": float(np.quantile(loop.late or [0.0], 0.99))}), flush=True)


if __name__ == "__main__":
    main()
