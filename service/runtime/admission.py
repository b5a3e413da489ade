"""Backpressure: a bounded number of requests at work, a bounded number before them, and a deadline on the wait."""

import math
import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic

from service.errors import Refused

SHORT_WAIT_SECONDS = 0.001
"""For which one at the door waits for a place: of many small answers one is done sooner."""
BACK_OFF_SECONDS = 10 * SHORT_WAIT_SECONDS
"""For which everybody is refused once that was in vain; and after which those behind look whether they should go."""


class Admission:
    """Lets `at_work` requests compute at a time; `inside` in all may be read, wait, or be at work.

    What is beyond that is refused before its body is read, so that an overloaded service answers what it can in time
    instead of everything too late, and uploads that stall leave room for those who ask after its health.

    Of a small network a refusal costs about as much as an answer, and who is refused asks again: when all were refused
    at once, four times the load left a quarter of the answers. So one of those who find no place waits at the door,
    the others behind it, and those for whom the host has no thread wait there. Where answers take microseconds a place
    is free before the one's patience ends. Where they take milliseconds it is not, and the door closes for a while.
    """

    def __init__(
        self,
        at_work: int,
        inside: int,
        deadline_seconds: float,
        waits: Callable[[int], object] = lambda change: None,
    ) -> None:
        """Take the bounds.

        Args:
            at_work: requests that compute at a time.
            inside: requests in all.
            deadline_seconds: of the wait.
            waits: called with 1 when a request begins to wait, and with -1 when it ceases to.
        """
        self.inside, self.deadline_seconds, self._waits = inside, deadline_seconds, waits
        self._door, self._patience_ends, self._closed_until = threading.Lock(), 0.0, 0.0
        # Queues of tokens are the cheapest semaphores with a deadline: a tenth of a microsecond.
        self._inside, self._at_work = _tokens(inside), _tokens(at_work)
        self.leave = partial(self._inside.put, None)
        """Go: what must follow enter()."""
        self.end = partial(self._at_work.put, None)
        """Give the place at work to the next: what must follow begin()."""

    def enter(self) -> None:
        """Come inside, perhaps by way of the door; leave() must follow.

        Raises:
            Refused: 503 with Retry-After, because too many are inside and none leaves soon.
        """
        try:
            self._inside.get_nowait()
        except Empty:
            if not self._place_soon():
                raise overloaded(
                    f"{self.inside} requests are being answered already", self.deadline_seconds
                ) from None

    def _place_soon(self) -> bool:
        """Wait at the door for a place; False where none is free soon, or just was not."""
        came = monotonic()
        if came < self._closed_until:
            return False
        while not self._door.acquire(timeout=BACK_OFF_SECONDS):
            if monotonic() > min(self._patience_ends, came + self.deadline_seconds):
                return False
        try:
            if monotonic() < self._closed_until:
                return False
            self._patience_ends = monotonic() + SHORT_WAIT_SECONDS
            # Where somebody else takes the place just as the time runs out, CPython's get() waits on for the next one.
            # Those behind then see that its patience has ended.
            self._inside.get(timeout=SHORT_WAIT_SECONDS)
        except Empty:
            self._closed_until = monotonic() + BACK_OFF_SECONDS
            return False
        finally:
            self._door.release()
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
                raise deadline_exceeded(self.deadline_seconds) from None
            finally:
                self._waits(-1)


def overloaded(why: str, deadline_seconds: float, *, reason: str = "overloaded") -> Refused:
    """Return the refusal of a request for which there is no room now."""
    headers = (("Retry-After", str(max(1, math.ceil(deadline_seconds)))),)
    return Refused(503, f"overloaded: {why}", reason=reason, headers=headers)


def deadline_exceeded(deadline_seconds: float) -> Refused:
    """Return the refusal of a request that has waited for too long."""
    return overloaded(f"no turn within {deadline_seconds:g} s", deadline_seconds, reason="deadline")


def _tokens(count: int) -> SimpleQueue[None]:
    tokens: SimpleQueue[None] = SimpleQueue()
    for _ in range(count):
        tokens.put(None)
    return tokens
