"""Large replies, whose memory stays reserved until the client has read them."""

from collections.abc import Iterator
from time import monotonic

from service.runtime.budget import ByteBudget

MIN_HELD_BYTES = 1 << 18
"""Size in bytes above which the memory of a reply stays reserved until it has been sent."""
PART_BYTES = 1 << 16
"""Size in bytes of a part of a large reply; granian accepts a few parts before they are sent."""
MAX_HELD_REPLIES = 8
"""Maximum number of large replies that are being sent; each of them holds a thread."""
MAX_SEND_SECONDS = 300
"""Maximum time in seconds to send a large reply, checked before each part.

A client that reads a few bytes now and then is not noticed by `send_seconds`.
"""


class HeldParts:
    """The parts of a large reply for the WSGI host; close() gives its memory back."""

    def __init__(self, body: bytes, replies: ByteBudget) -> None:
        """Reserve the memory; raise Refused (503) if clients have not read too many replies."""
        self._body, self._replies = body, replies
        self._reserved = replies.reserve(max(len(body), replies.limit // MAX_HELD_REPLIES))

    def __iter__(self) -> Iterator[bytes]:
        deadline = monotonic() + MAX_SEND_SECONDS
        for start in range(0, len(self._body), PART_BYTES):
            if monotonic() > deadline:
                return  # the host closes the connection because the reply is incomplete
            yield self._body[start : start + PART_BYTES]

    def close(self) -> None:
        """Give back the memory; the host calls this at the end, also if the client is gone."""
        self._replies.release(self._reserved)
        self._reserved = 0
