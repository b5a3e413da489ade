"""Tests of service.runtime.budget and request_memory: bytes are shared fairly and in time."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from service.errors import Refused
from service.runtime import budget as module
from service.runtime.budget import ByteBudget
from service.runtime.request_memory import split_memory
from tests.serving import DEADLINE_SECONDS

OTHERS = 60
"""Number of bytes that another request holds in these tests, of 100."""


def held() -> ByteBudget:
    """Return a budget of 100 bytes with a deadline of a day, of which another holds OTHERS."""
    budget = ByteBudget(100, 86400, "tests")
    assert budget.reserve(OTHERS) == OTHERS
    return budget


def start(call: Callable[[], int]) -> Future[int]:
    """Start a reservation in a thread; return once it waits."""
    waits, wait = threading.Event(), threading.Event.wait

    class Observed(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.set()
            return wait(self, timeout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "Event", Observed)
        executor = ThreadPoolExecutor(1)
        future = executor.submit(call)
        executor.shutdown(wait=False)
        assert waits.wait(DEADLINE_SECONDS)
    return future


def test_a_large_request_is_not_overtaken() -> None:
    """A request that fits waits behind an earlier one that does not; both run after a release."""
    budget = held()
    large = start(lambda: budget.reserve(80))
    small = start(lambda: budget.reserve(10))
    assert not large.done()
    assert not small.done()
    budget.release(OTHERS)
    assert (80, 10) == (large.result(DEADLINE_SECONDS), small.result(DEADLINE_SECONDS))


def test_a_refused_request_lets_the_next_one_pass() -> None:
    """At its deadline a request is refused with true numbers, and a smaller one is served."""
    budget = held()
    budget.deadline_seconds = 0.05
    large = start(lambda: budget.reserve(80))
    budget.deadline_seconds = 86400
    executor = ThreadPoolExecutor(1)
    small = executor.submit(budget.reserve, 40)
    executor.shutdown(wait=False)
    error = large.exception(DEADLINE_SECONDS)
    assert isinstance(error, Refused)
    detail = "this request needs 80 further bytes for tests, and other requests hold"
    assert f"overloaded: {detail}" in str(error)
    assert (503, "memory") == (error.status, error.reason)
    assert 40 == small.result(DEADLINE_SECONDS)


def test_the_number_of_waiting_requests_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waiting request holds a thread, so the next one is refused at once."""
    monkeypatch.setattr(module, "MAX_WAITING", 1)
    budget = held()
    waiting = start(lambda: budget.reserve(50))
    with pytest.raises(Refused, match="1 other requests wait for memory for tests"):
        budget.reserve(1)
    budget.release(OTHERS)
    assert 50 == waiting.result(DEADLINE_SECONDS)


def test_requests_that_hold_bytes_do_not_wait_for_each_other() -> None:
    """One request with bytes may wait, before those without; a second one is refused at once."""
    budget = ByteBudget(100, 86400, "tests")
    assert (50, 50) == (budget.reserve(50), budget.reserve(50))
    without = start(lambda: budget.reserve(20))
    first = start(lambda: budget.reserve(30, held=50))
    with pytest.raises(
        Refused, match="needs 30 further bytes for tests, and other requests hold 50"
    ):
        budget.reserve(30, held=50)
    budget.release(50)
    assert (30, 20) == (first.result(DEADLINE_SECONDS), without.result(DEADLINE_SECONDS))
    assert 0 == budget.reserve(10, held=100)


def test_a_request_above_the_limit_runs_alone() -> None:
    """An oversized request reserves the whole budget, less what it holds already."""
    budget = ByteBudget(100, 0.01, "tests")
    assert 30 == budget.reserve(30)
    assert 70 == budget.reserve(1000, held=30)
    with pytest.raises(Refused):
        budget.reserve(1)
    budget.release(100)
    assert 100 == budget.reserve(1000)


def test_the_budgets_share_the_memory() -> None:
    """The parts add up to at most the whole."""
    parts = split_memory(8000, 1)
    assert [1000, 6000, 1000] == [parts.bodies.limit, parts.answers.limit, parts.replies.limit]
