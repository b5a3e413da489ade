"""Replies to requests whose bodies do not arrive, which granian cannot end by itself."""

import time
from collections.abc import Callable, Sequence
from typing import Any

ABORT = "service.abort"
"""Key in the environ of the function that aborts the request, of type Abort.

Only granian_adapter.py sets it; under other hosts, a request cannot be aborted."""
FLUSH_SECONDS = 0.05
"""Time in seconds in which hyper sends a reply that it has received from granian."""
CHANNEL_PARTS = 4
"""Number of parts of a reply that granian queues for hyper."""

Headers = Sequence[tuple[str, str]]
Abort = Callable[[int, Headers, bytes], None]
"""Function of a status, headers and a body; it sends this reply and closes the connection."""


def abort(protocol: Any, status: int, headers: Headers, body: bytes) -> None:
    """Send a reply and close the connection while another thread waits for the request's body.

    It returns when the reply has been sent; a client that reads slowly delays this.

    granian has no timeout for bodies and no function that ends the wait. But hyper, its HTTP
    library, drops the connection when a reply ends before its Content-Length, and the wait then
    ends as if the client had closed the connection. The reply therefore announces one byte more
    than it has: a client reads all of `body`, then the loss of the connection.

    Args:
        protocol: granian's object for the reply; it ignores every reply after the first.
        status: HTTP status.
        headers: headers other than Content-Length and Connection.
        body: the body of the reply.
    """
    framing = (("Content-Length", str(len(body) + 1)), ("Connection", "close"))
    protocol.response_iter(status, [*headers, *framing], _Body(body))


class _Body:
    """An iterator over a body, which ends late enough for the body to be sent.

    It adds as many empty parts as granian queues: the last of them waits until hyper has taken the
    body. hyper ignores empty parts.
    """

    def __init__(self, body: bytes) -> None:
        self._parts = [*[b""] * CHANNEL_PARTS, body]

    def __next__(self) -> bytes:
        if self._parts:
            return self._parts.pop()
        # granian has no event for a reply that hyper has written to the socket.
        time.sleep(FLUSH_SECONDS)
        raise StopIteration

    def close(self) -> None:
        """Do nothing; granian calls this at the end."""
