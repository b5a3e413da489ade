"""Tests of service.runtime.admission: limits on running and admitted requests, and deadlines."""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic

import pytest

from service.errors import Refused
from service.runtime import admission as module
from service.runtime.admission import Admission
from tests.serving import DEADLINE_SECONDS, until


def full() -> Admission:
    """Return an Admission with a limit of one, one admitted request, and a deadline of a day."""
    admission = Admission(max_running=1, max_admitted=1, deadline_seconds=86400)
    admission.enter()
    return admission


def start(call: Callable[[], None]) -> Future[None]:
    """Start a call in a thread; return once it executes code of service.runtime.admission."""
    identity: Future[int] = Future()

    def run() -> None:
        identity.set_result(threading.get_ident())
        call()

    executor = ThreadPoolExecutor(1)
    future = executor.submit(run)
    executor.shutdown(wait=False)
    thread = identity.result(DEADLINE_SECONDS)
    until(lambda: sys._current_frames()[thread].f_code.co_filename == module.__file__)
    return future


def test_requests_beyond_the_limit_are_refused() -> None:
    """The refusal has status 503 and Retry-After; after leave() the next request is admitted."""
    admission = Admission(max_running=1, max_admitted=2, deadline_seconds=1.5)
    admission.enter()
    admission.enter()
    with pytest.raises(Refused, match=r"^overloaded: 2 other requests are running") as error:
        admission.enter()
    expected = (503, "overloaded", (("Retry-After", "2"),))
    assert expected == (error.value.status, error.value.reason, error.value.headers)
    admission.leave()
    admission.enter()


def test_request_waits_briefly_to_be_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """When one request leaves, one waiting request is admitted, and the next is refused."""
    monkeypatch.setattr(module, "SHORT_WAIT_SECONDS", DEADLINE_SECONDS)
    admission = full()
    waiting = start(admission.enter)
    assert not waiting.done()
    admission.leave()
    waiting.result(DEADLINE_SECONDS)
    monkeypatch.setattr(module, "SHORT_WAIT_SECONDS", 0.001)
    with pytest.raises(Refused):
        admission.enter()


def test_failed_wait_starts_a_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """During a back-off requests are refused at once, but admitted if there is capacity."""
    monkeypatch.setattr(module, "BACK_OFF_SECONDS", 3600)
    admission = full()
    with pytest.raises(Refused):
        admission.enter()
    monkeypatch.setattr(module, "SHORT_WAIT_SECONDS", 3600)
    with ThreadPoolExecutor(1) as threads:
        calls = [threads.submit(admission.enter) for _ in range(100)]
        try:
            assert all(isinstance(call.exception(DEADLINE_SECONDS), Refused) for call in calls)
        finally:
            for _ in calls:
                admission.leave()
    admission.enter()


@pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="queue.get() of CPython 3.13 ends at its timeout"
)
def test_no_request_waits_behind_one_that_waits_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython's get() ignores its timeout if another thread takes the item as the time expires."""
    monkeypatch.setattr(module, "SHORT_WAIT_SECONDS", 0.05)
    admission = full()
    interval = sys.getswitchinterval()
    waiting = start(admission.enter)
    sys.setswitchinterval(10)  # From here to the reset no other thread runs Python code.
    try:
        admission.leave()
        admission.enter()
        end = monotonic() + 0.1
        while monotonic() < end:
            pass
    finally:
        sys.setswitchinterval(interval)
    with ThreadPoolExecutor(1) as threads:
        try:
            refusal = threads.submit(admission.enter).exception(DEADLINE_SECONDS)
            assert isinstance(refusal, Refused)
        finally:
            admission.leave()
            admission.leave()
    waiting.exception(DEADLINE_SECONDS)


def test_deadline_limits_the_wait_to_run() -> None:
    """A request is refused at the deadline, and counts as waiting only until then."""
    waits: list[int] = []
    admission = Admission(1, 9, deadline_seconds=0.01, on_wait=waits.append)
    admission.begin()
    with pytest.raises(Refused, match=r"^overloaded: .* longer than 0\.01 s$") as error:
        admission.begin()
    assert (503, "deadline") == (error.value.status, error.value.reason)
    assert [1, -1] == waits
    admission.end()
    admission.begin()
    assert [1, -1] == waits
