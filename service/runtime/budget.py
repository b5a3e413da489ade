"""A budget of bytes, which bounds the memory of concurrent requests."""

import threading
from collections import deque
from dataclasses import dataclass, field

from service.errors import Refused
from service.runtime.admission import overloaded

MAX_WAITING = 16
"""Maximum number of requests that wait for bytes of one budget; each of them holds a thread."""


@dataclass(frozen=True, eq=False)
class _Ticket:
    """A request that waits for bytes."""

    count: int
    """Number of bytes that it waits for."""
    held: int
    """Number of bytes that it holds already."""
    granted: threading.Event = field(default_factory=threading.Event)


class ByteBudget:
    """A semaphore that counts bytes and serves its waiting requests in the order of their arrival.

    Small requests therefore cannot delay a large one indefinitely. A request that holds bytes
    already goes before those that hold none, and only one such request may wait: two of them could
    wait for each other.
    """

    def __init__(self, limit: int, deadline_seconds: float, use: str) -> None:
        """Create a budget of which no byte is reserved.

        Args:
            limit: number of bytes to share.
            deadline_seconds: maximum time in seconds that a request waits for its bytes.
            use: what the bytes are used for, such as "request bodies".
        """
        self.limit, self.deadline_seconds, self.use = limit, deadline_seconds, use
        self._free = limit
        self._lock = threading.Lock()
        self._waiting: deque[_Ticket] = deque()

    @property
    def is_contended(self) -> bool:
        """Whether requests wait for bytes."""
        return bool(self._waiting)

    def reserve(self, count: int, held: int = 0) -> int:
        """Wait for `count` bytes and return the number to release() later.

        A request that needs more than the whole budget gets all of it, and so runs alone.

        Args:
            count: number of bytes to reserve.
            held: number of bytes that the same request holds already.

        Raises:
            Refused: 503, the bytes were not free before the deadline, or too many requests wait.
        """
        count = min(count, self.limit - held)
        if not count:
            return 0
        with self._lock:
            if count <= self._free and (held or not self._waiting):
                self._free -= count
                return count
            if held and self._waiting and self._waiting[0].held:
                raise self._refusal(count, held)
            if len(self._waiting) >= MAX_WAITING:
                detail = f"{len(self._waiting)} other requests wait for memory for {self.use}"
                raise overloaded(detail, self.deadline_seconds, reason="memory")
            ticket = _Ticket(count, held)
            (self._waiting.appendleft if held else self._waiting.append)(ticket)
        if not ticket.granted.wait(self.deadline_seconds):
            with self._lock:
                if not ticket.granted.is_set():
                    self._waiting.remove(ticket)
                    self._grant()  # the next request may be smaller
                    raise self._refusal(count, held)
        return count

    def release(self, count: int) -> None:
        """Give back reserved bytes, and give them to the requests that wait."""
        with self._lock:
            self._free += count
            self._grant()

    def _grant(self) -> None:
        while self._waiting and self._waiting[0].count <= self._free:
            ticket = self._waiting.popleft()
            self._free -= ticket.count
            ticket.granted.set()

    def _refusal(self, count: int, held: int) -> Refused:
        others = self.limit - self._free - held
        detail = (
            f"this request needs {count} further bytes for {self.use}, and other requests hold "
            f"{others} of the {self.limit} bytes"
        )
        return overloaded(detail, self.deadline_seconds, reason="memory")
