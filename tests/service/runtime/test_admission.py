"""service.admission: no more at work, no more inside, and no longer a wait than was said."""

import contextlib
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty
from time import monotonic, sleep

import pytest

from service.errors import Refused
from service.runtime import admission as admissions
from service.runtime.admission import Admission


def test_no_more_inside_than_allowed() -> None:
    """One too many is refused, with Retry-After; when one leaves, the next may come."""
    admission = Admission(at_work=1, inside=2, deadline_seconds=1.5)
    admission.enter()
    admission.enter()
    with pytest.raises(
        Refused, match="overloaded: 2 requests are being answered already"
    ) as caught:
        admission.enter()
    assert (503, "overloaded", (("Retry-After", "2"),)) == (
        caught.value.status,
        caught.value.reason,
        caught.value.headers,
    )
    admission.leave()
    admission.enter()


@contextlib.contextmanager
def at_the_door(admission: Admission) -> Iterator[Future[None]]:
    """Have somebody wait at the door; whatever happens is in the future."""
    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(admission.enter)
        while not admission._door.locked():
            assert not future.done()
        yield future


def test_a_place_that_is_free_soon_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is at the door when somebody leaves comes inside."""
    monkeypatch.setattr(admissions, "SHORT_WAIT_SECONDS", 60)
    admission = Admission(at_work=1, inside=1, deadline_seconds=60)
    admission.enter()
    with at_the_door(admission) as waiting:
        admission.leave()
        waiting.result(timeout=30)
    with pytest.raises(Empty):
        admission._inside.get_nowait()


def test_nobody_waits_for_ever_at_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython forgets the time of one whose place somebody else takes as it runs out; others are refused even then."""
    monkeypatch.setattr(admissions, "SHORT_WAIT_SECONDS", 0.05)
    admission = Admission(at_work=1, inside=1, deadline_seconds=60)
    admission.enter()
    interval = sys.getswitchinterval()
    with at_the_door(admission) as waiting:
        sleep(0.01)
        sys.setswitchinterval(10)  # nobody else runs until this thread lets it
        try:
            admission.leave()
            admission.enter()
            until = monotonic() + 0.1
            while monotonic() < until:
                pass
        finally:
            sys.setswitchinterval(interval)
        with pytest.raises(Refused):
            admission.enter()
        admission.leave()
        waiting.exception(timeout=30)


def test_the_door_closes_where_no_place_is_free_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once one has waited in vain the next are refused without a wait; a place is taken at once even then."""
    monkeypatch.setattr(admissions, "BACK_OFF_SECONDS", 3600)
    admission = Admission(at_work=1, inside=1, deadline_seconds=60)
    admission.enter()
    with pytest.raises(Refused):
        admission.enter()
    monkeypatch.setattr(admissions, "_door", None)
    for _ in range(100):
        with pytest.raises(Refused):
            admission.enter()
    admission.leave()
    admission.enter()


def test_no_longer_a_wait_than_the_deadline() -> None:
    """Whoever has no turn in time is refused, and is counted as waiting only while it waits."""
    waits: list[int] = []
    admission = Admission(at_work=1, inside=9, deadline_seconds=0.01, waits=waits.append)
    admission.begin()
    with pytest.raises(Refused, match=r"overloaded: no turn within 0\.01 s") as caught:
        admission.begin()
    assert ("deadline", [1, -1]) == (caught.value.reason, waits)
    admission.end()
    admission.begin()
    assert [1, -1] == waits


def test_never_more_at_work() -> None:
    """Of many threads no more than `at_work` are between begin() and end(), and all have their turn."""
    admission = Admission(at_work=3, inside=99, deadline_seconds=60)
    lock, inside, most = threading.Lock(), 0, 0

    def work(_: int) -> None:
        nonlocal inside, most
        for _ in range(50):
            admission.begin()
            with lock:
                inside += 1
                most = max(most, inside)
            with lock:
                inside -= 1
            admission.end()

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(16)))
    assert most <= 3
    assert 0 == inside
