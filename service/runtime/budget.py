"""A budget of bytes, which bounds the memory of concurrent requests."""

import threading
from collections import deque

from service.errors import Refused
from service.runtime.admission import overloaded

MAX_WAITING = 16
"""Maximum number of requests that wait for bytes of one budget; each of them holds a thread."""


class ByteBudget:
    """A semaphore that counts bytes and serves its waiting requests in the order of their arrival.

    A large request is therefore never overtaken for ever by small ones.
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
        self._waiting: deque[tuple[int, threading.Event]] = deque()

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
        with self._lock:
            if not self._waiting and count <= self._free:
                self._free -= count
                return count
            if len(self._waiting) >= MAX_WAITING:
                raise self._refusal(count)
            ticket = (count, threading.Event())
            self._waiting.append(ticket)
        if not ticket[1].wait(self.deadline_seconds):
            with self._lock:
                if not ticket[1].is_set():
                    self._waiting.remove(ticket)
                    self._grant()  # the next request may be smaller
                    raise self._refusal(count)
        return count

    def release(self, count: int) -> None:
        """Give back reserved bytes, and give them to the requests that wait."""
        with self._lock:
            self._free += count
            self._grant()

    def _grant(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            count, is_granted = self._waiting.popleft()
            self._free -= count
            is_granted.set()

    def _refusal(self, count: int) -> Refused:
        detail = (
            f"this request needs {count} bytes for {self.use}, and other requests hold "
            f"{self.limit - self._free} of the {self.limit} bytes"
        )
        return overloaded(detail, self.deadline_seconds, reason="memory")
