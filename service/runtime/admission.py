"""Admission control: limits on running and queued requests, and a deadline in the queue."""

import math
import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic

from service.errors import Refused

SHORT_WAIT_SECONDS = 0.001
"""Maximum time in seconds that a request waits to be admitted."""
BACK_OFF_SECONDS = 10 * SHORT_WAIT_SECONDS
"""Back-off in seconds after a failed wait, in which requests are refused immediately."""


class Admission:
    """Two semaphores: one for the requests that are running, one for all that are admitted.

    An admitted request is being read, is waiting in the queue, or is running. Further requests are
    refused before their bodies are read, which keeps threads of the host free for health checks.

    For a small network a refusal costs about as much as a prediction, and refused clients retry.
    When all excess requests were refused immediately, quadrupling the load cut the predictions per
    second to a quarter. Therefore one excess request waits briefly to be admitted, and later ones
    wait for the lock that it holds. If predictions take microseconds, an admitted request finishes
    during the short wait. If they take milliseconds, the wait fails, and all excess requests are
    refused until the back-off ends.
    """

    def __init__(
        self,
        max_running: int,
        max_admitted: int,
        deadline_seconds: float,
        on_wait: Callable[[int], object] = lambda change: None,
    ) -> None:
        """Create permits for all requests that the limits allow.

        Args:
            max_running: maximum number of running requests.
            max_admitted: maximum number of admitted requests, running or not.
            deadline_seconds: maximum time in seconds that an admitted request waits to run.
            on_wait: called with 1 when a request begins to wait, and with -1 when its wait ends.
        """
        self.max_admitted, self.deadline_seconds = max_admitted, deadline_seconds
        self._on_wait = on_wait
        self._wait_lock, self._wait_ends, self._back_off_ends = threading.Lock(), 0.0, 0.0
        # A queue of permits is the fastest semaphore with a timeout: it takes 0.1 microseconds.
        self._admission_permits, self._run_permits = _permits(max_admitted), _permits(max_running)
        self.leave = partial(self._admission_permits.put, None)
        """Give up the admission of a request that enter() admitted."""
        self.end = partial(self._run_permits.put, None)
        """End the run that begin() started, so the next request can run."""

    def enter(self) -> None:
        """Admit a request, or raise Refused (503); call leave() after the reply."""
        try:
            self._admission_permits.get_nowait()
        except Empty:
            if not self._wait_briefly():
                detail = f"{self.max_admitted} other requests are running or waiting to run"
                raise overloaded(detail, self.deadline_seconds) from None

    def _wait_briefly(self) -> bool:
        """Wait to be admitted; return False if the wait fails or during a back-off."""
        arrival = monotonic()
        if arrival < self._back_off_ends:
            return False
        while not self._wait_lock.acquire(timeout=BACK_OFF_SECONDS):
            if monotonic() > min(self._wait_ends, arrival + self.deadline_seconds):
                return False
        try:
            if monotonic() < self._back_off_ends:
                return False
            self._wait_ends = monotonic() + SHORT_WAIT_SECONDS
            # If another thread takes the permit just as the timeout expires, CPython's get() waits
            # for the next permit without a timeout. The threads that wait for the lock then give up
            # after _wait_ends.
            self._admission_permits.get(timeout=SHORT_WAIT_SECONDS)
        except Empty:
            self._back_off_ends = monotonic() + BACK_OFF_SECONDS
            return False
        finally:
            self._wait_lock.release()
        return True

    def begin(self) -> None:
        """Wait to run, or raise Refused (503) at the deadline; call end() after the run."""
        try:
            self._run_permits.get_nowait()
        except Empty:
            self._on_wait(1)
            try:
                self._run_permits.get(timeout=self.deadline_seconds)
            except Empty:
                raise deadline_exceeded(self.deadline_seconds) from None
            finally:
                self._on_wait(-1)


def overloaded(detail: str, deadline_seconds: float, *, reason: str = "overloaded") -> Refused:
    """Return the exception that refuses a request while the service has no capacity for it."""
    headers = (("Retry-After", str(max(1, math.ceil(deadline_seconds)))),)
    return Refused(503, f"overloaded: {detail}", reason=reason, headers=headers)


def deadline_exceeded(deadline_seconds: float) -> Refused:
    """Return the exception that refuses a request whose deadline has passed."""
    detail = f"the request waited longer than {deadline_seconds:g} s"
    return overloaded(detail, deadline_seconds, reason="deadline")


def _permits(count: int) -> SimpleQueue[None]:
    permits: SimpleQueue[None] = SimpleQueue()
    for _ in range(count):
        permits.put(None)
    return permits
