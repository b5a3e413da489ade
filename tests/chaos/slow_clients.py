"""Clients that stop in the middle: stalled uploads, unread replies, and both a byte at a time."""

import contextlib
import http.client
import select
import socket
import threading
import time
from typing import Literal, NamedTuple

from tests.chaos.journal import Journal
from tests.chaos.load import LoadRequest

Kind = Literal["stalled upload", "drip writer", "unread reply", "drip reader"]
KINDS: tuple[Kind, ...] = ("stalled upload", "drip writer", "unread reply", "drip reader")
UPLOADS = 32
"""Number of concurrent uploads of a group."""
UPLOADED_BYTES = 1000
"""Number of bytes of a body that a stalled upload sends."""
UNREAD_REPLIES = 30
"""Number of concurrent requests of a group whose large replies are not read."""
RECEIVE_BUFFER_BYTES = 4096
TICK_SECONDS = 0.1
"""Seconds between two bytes of a drip."""
MAX_HOLD_SECONDS = 20.0
"""Seconds after which a group of slow clients closes the connections that the server has kept."""


class SlowConnection(NamedTuple):
    """A connection of a slow client at its end."""

    local_port: int
    """The client's port."""
    seconds: float
    """Time of the end on the clock time.monotonic()."""
    closed_by_limit: bool
    """Whether the server refused the upload (408), or left the reply incomplete."""


class SlowClients(threading.Thread):
    """Opens one group of slow clients after the other until `stop` is set."""

    def __init__(
        self, kind: Kind, port: int, request: LoadRequest, journal: Journal, stop: threading.Event
    ) -> None:
        """Prepare the clients; `request` has a large body and a large reply."""
        super().__init__()
        self.kind, self.port, self.journal, self.stop = kind, port, journal, stop
        self.is_upload = kind in ("stalled upload", "drip writer")
        self.groups: list[list[SlowConnection]] = []
        """The connections of each group held until its end that a limit closed, or nothing."""
        fields = {"Host": "localhost", "Content-Type": "application/json", **request.headers}
        body = request.body or b""
        fields["Content-Length"] = str(len(body))
        lines = [f"POST {request.path} HTTP/1.1", *(f"{n}: {v}" for n, v in fields.items())]
        self.content = "\r\n".join(lines).encode() + b"\r\n\r\n"
        self.content += body[:UPLOADED_BYTES] if self.is_upload else body

    def closed_without_hit(self) -> list[list[bool]]:
        """Return whether a limit closed each connection whose worker was not hit, by group."""
        explains = self.journal.explains
        groups = [
            [each.closed_by_limit for each in group if not explains(each.local_port, each.seconds)]
            for group in self.groups
        ]
        return [group for group in groups if group]

    def run(self) -> None:
        """Open groups of slow clients until `stop` is set."""
        while not self.stop.is_set():
            with contextlib.ExitStack() as stack:
                self._hold(self._open(stack))

    def _open(self, stack: contextlib.ExitStack) -> dict[int, socket.socket]:
        """Open the connections of a group, send what its clients send at once; return them."""
        clients = {}
        for _ in range(UPLOADS if self.is_upload else UNREAD_REPLIES):
            client = stack.enter_context(socket.socket())
            client.settimeout(MAX_HOLD_SECONDS)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            # The connection may belong to a worker that is stopped or killed.
            with contextlib.suppress(OSError):
                client.connect(("127.0.0.1", self.port))
                client.sendall(self.content)
                if not self.is_upload:
                    client.recv(1, socket.MSG_PEEK)  # wait until this reply has begun
                client.setblocking(False)
                clients[client.fileno()] = client
            if self.stop.is_set():
                break
        self.journal.write("slow clients", group=self.kind, opened=len(clients))
        return clients

    def _hold(self, clients: dict[int, socket.socket]) -> None:
        """Hold connections until the server has closed them, or for MAX_HOLD_SECONDS."""
        poller, group = select.poll(), list[SlowConnection]()
        for descriptor in clients:
            poller.register(descriptor, select.POLLRDHUP)
        for _ in range(int(MAX_HOLD_SECONDS / TICK_SECONDS)):
            if not clients:
                break
            if self.stop.wait(TICK_SECONDS):
                return
            for descriptor, _ in poller.poll(0):
                poller.unregister(descriptor)
                closed = self._end(clients.pop(descriptor))
                if closed.closed_by_limit:  # A reload also closes connections, which says nothing.
                    group.append(closed)
            for client in clients.values():
                with contextlib.suppress(OSError):
                    if self.kind == "drip writer":
                        client.send(b" ")
                    elif self.kind == "drip reader":
                        client.recv(1)
        # A client that does not read learns only now that the server has closed its connection.
        group += map(self._end, clients.values())
        self.groups.append(group)
        self.journal.write("end of slow clients", group=self.kind, left=len(clients))

    def _end(self, client: socket.socket) -> SlowConnection:
        """Return a connection that ends now, after reading what the server has sent."""
        is_unread = self.kind == "unread reply"
        closed = not reads_reply(client) if is_unread else self.is_upload and is_refused(client)
        return SlowConnection(client.getsockname()[1], time.monotonic(), closed)


def is_refused(client: socket.socket) -> bool:
    """Return whether a client has received status 408, which no reload sends."""
    with contextlib.suppress(OSError):
        return client.recv(RECEIVE_BUFFER_BYTES).startswith(b"HTTP/1.1 408 ")
    return False


def reads_reply(client: socket.socket) -> bool:
    """Return whether a client can read its whole reply, or would wait too long for the rest."""
    client.settimeout(MAX_HOLD_SECONDS)
    try:
        with contextlib.closing(http.client.HTTPResponse(client)) as reply:
            reply.begin()
            reply.read()
    except TimeoutError:
        return True
    except (OSError, http.client.HTTPException):
        return False
    return True
