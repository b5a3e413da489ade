"""Backpressure: a bounded number of requests at work, a bounded number before them, and a deadline on the wait."""

import math
import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic

from service.wire import Refused

PATIENCE_SECONDS = 0.001
"""For which one at the door waits for a place inside."""
CLOSED_SECONDS = 0.01
"""For which the door is closed once nobody made room in that time: whoever comes then is refused at once."""


class Admission:
    """Lets `at_work` requests compute at a time; `inside` in all may be read, wait, or be at work.

    What is beyond that is refused before its body is read, so that an overloaded service answers what it can in time
    instead of everything too late, and uploads that stall leave room for those who ask after its health.

    Of a small network a refusal costs about as much as an answer, and who is refused asks again: at four times the
    load that refuses at once, a quarter of the answers remain. So one of those who find no place waits at the door,
    the others behind it. Where answers take microseconds a place is free before its patience ends, and the crowd waits
    in the host, which costs nothing. Where they take milliseconds the door closes, and everybody is refused at once.
    """

    def __init__(
        self, at_work: int, inside: int, deadline_seconds: float, waits: Callable[[int], object] = lambda change: None
    ) -> None:
        """Take the bounds.

        Args:
            at_work: requests that compute at a time.
            inside: requests in all.
            deadline_seconds: of the wait.
            waits: called with 1 when a request begins to wait, and with -1 when it ceases to.
        """
        self.inside, self.deadline_seconds, self._waits = inside, deadline_seconds, waits
        # Queues of tokens are the cheapest semaphores with a deadline: a tenth of a microsecond.
        self._door, self._closed_until = threading.Lock(), 0.0
        self._inside, self._at_work = _tokens(inside), _tokens(at_work)
        self.leave = partial(self._inside.put, None)
        """Go: what must follow enter()."""
        self.end = partial(self._at_work.put, None)
        """Give the place at work to the next: what must follow begin()."""

    def enter(self) -> None:
        """Come inside; leave() must follow.

        Raises:
            Refused: 503 with Retry-After, because too many are inside and none is about to leave.
        """
        try:
            self._inside.get_nowait()
        except Empty:
            if not self._place_soon():
                raise overloaded(f"{self.inside} requests are being answered already", self.deadline_seconds) from None

    def _place_soon(self) -> bool:
        """Wait at the door for a place; False where none is free soon, or none was to the one before."""
        if monotonic() < self._closed_until:
            return False
        with self._door:
            if monotonic() < self._closed_until:
                return False
            try:
                self._inside.get(timeout=PATIENCE_SECONDS)
            except Empty:
                self._closed_until = monotonic() + CLOSED_SECONDS
                return False
        return True

    def begin(self) -> None:
        """Wait for a place at work; end() must follow.

        Raises:
            Refused: 503 with Retry-After, because the deadline passed.
        """
        try:
            self._at_work.get_nowait()
        except Empty:
            self._waits(1)
            try:
                self._at_work.get(timeout=self.deadline_seconds)
            except Empty:
                raise overdue(self.deadline_seconds) from None
            finally:
                self._waits(-1)


def overloaded(why: str, deadline_seconds: float, *, reason: str = "overloaded") -> Refused:
    """Return the refusal of a request for which there is no room now."""
    headers = (("Retry-After", str(max(1, math.ceil(deadline_seconds)))),)
    return Refused(503, f"overloaded: {why}", reason=reason, headers=headers)


def overdue(deadline_seconds: float) -> Refused:
    """Return the refusal of a request that has waited for too long."""
    return overloaded(f"no turn within {deadline_seconds:g} s", deadline_seconds, reason="deadline")


def _tokens(count: int) -> SimpleQueue[None]:
    tokens: SimpleQueue[None] = SimpleQueue()
    for _ in range(count):
        tokens.put(None)
    return tokens
