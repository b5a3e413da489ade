"""Large replies, whose memory stays reserved until the client has read them."""

from collections.abc import Iterable, Iterator

from service.runtime.budget import ByteBudget

MIN_HELD_BYTES = 1 << 18
"""Size in bytes above which the memory of a reply stays reserved until it has been sent."""
PART_BYTES = 1 << 16
"""Size in bytes of a part of a large reply; granian accepts a few parts before they are sent."""
MAX_HELD_REPLIES = 32
"""Maximum number of large replies that are being sent; each of them holds a thread."""


def hold_reply(body: bytes, replies: ByteBudget) -> None:
    """Reserve the memory of a reply above MIN_HELD_BYTES, which body_parts() gives back.

    Raise Refused (503) if clients have not yet read too many other replies.
    """
    replies.reserve(_held_bytes(body, replies))


def body_parts(body: bytes, replies: ByteBudget) -> Iterable[bytes]:
    """Return the parts of a reply for the WSGI host; those of a large one hold its memory."""
    return [body] if len(body) <= MIN_HELD_BYTES else _HeldBody(body, replies)


class _HeldBody:
    """The parts of a large reply; close() gives its memory back."""

    def __init__(self, body: bytes, replies: ByteBudget) -> None:
        self._body, self._replies = body, replies
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._body), PART_BYTES):
            yield self._body[start : start + PART_BYTES]

    def close(self) -> None:
        """Give back the memory; the host calls this at the end, also if the client is gone."""
        if not self._is_closed:
            self._is_closed = True
            self._replies.release(_held_bytes(self._body, self._replies))


def _held_bytes(body: bytes, replies: ByteBudget) -> int:
    return min(replies.limit, max(len(body), replies.limit // MAX_HELD_REPLIES))
