"""Tests of service.runtime.batcher: requests share runs, and each receives its own outputs."""

import gc
import signal
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import Refused
from service.runtime import batcher as module
from service.runtime.batcher import Batcher, batching_pays
from service.runtime.session import Outputs, Rows
from tests.serving import DEADLINE_SECONDS, until

BAD, WORSE = 500, 600
"""Lowest first values of a row for which the network raises ValueError, or SystemExit."""


def network(rows: Rows) -> Outputs:
    """Compute the outputs of each row from that row alone, or raise an exception for a bad row."""
    if (rows[:, 0] >= WORSE).any():
        raise SystemExit
    if (rows[:, 0] >= BAD).any():
        raise ValueError
    return {"logits": rows[:, ::-1] * np.float32(2), "label": rows[:, 1].astype(np.int64)}


def rows_from(first: float, count: int, serial: int = 0) -> Rows:
    """Return rows (first, serial), (first, serial + 1), ..."""
    serials = np.arange(serial, serial + count, dtype=np.float32)
    return np.stack([np.full_like(serials, first), serials, -serials], axis=1)


def assert_outputs(rows: Rows, outputs: Outputs) -> None:
    """Assert that the outputs are exactly those of the rows."""
    expected = network(rows)
    assert list(expected) == list(outputs)
    for name, values in expected.items():
        assert values.dtype == outputs[name].dtype
        np.testing.assert_array_equal(values, outputs[name])


class Blocked(AbstractContextManager["Blocked"]):
    """A batcher for a network whose runs block until release() or the end of the context."""

    def __init__(
        self, max_rows: int = 99, deadline: float = DEADLINE_SECONDS, wait: float = 0
    ) -> None:
        self.runs: list[Rows] = []
        self.batches: list[int] = []
        self.waits: list[int] = []
        self._released = threading.Event()
        self._threads = ThreadPoolExecutor(99)
        record = self.batches.append, self.waits.append
        self.batcher = Batcher(self._run, max_rows, wait, deadline, *record)

    @property
    def waiting(self) -> int:
        """Number of requests that wait."""
        return sum(self.waits)

    def _run(self, rows: Rows) -> Outputs:
        self.runs.append(rows)
        assert self._released.wait(DEADLINE_SECONDS)
        return network(rows)

    def call(self, rows: Rows) -> "Future[Outputs]":
        """Call the batcher from another thread."""
        return self._threads.submit(self.batcher, rows)

    def occupy(self) -> list["Future[Outputs]"]:
        """Block a run of a caller and a run of the batcher's thread; all later calls then wait."""
        calls: list[Future[Outputs]] = []
        while len(calls) < 2:
            calls.append(self.call(rows_from(0, 1)))
            until(lambda: len(calls) == len(self.runs))
        return calls

    def queue(self, rows: Rows) -> "Future[Outputs]":
        """Call the batcher from another thread; return once the call waits."""
        waiting = self.waiting
        call = self.call(rows)
        until(lambda: waiting + 1 == self.waiting)
        return call

    def release(self, *_: object) -> None:
        """Let every run finish."""
        self._released.set()
        self._threads.shutdown()

    __exit__ = release


def test_single_caller_runs_its_rows_in_its_own_thread() -> None:
    """No thread is started for a single caller, whatever its number of rows."""
    batches: list[int] = []
    idents: set[int] = set()

    def run(rows: Rows) -> Outputs:
        idents.add(threading.get_ident())
        return network(rows)

    batcher = Batcher(run, 8, 0, 1, batches.append)
    for count in (2, 0, 9):
        assert_outputs(rows_from(5, count), batcher(rows_from(5, count)))
    assert ([2, 0, 9], {threading.get_ident()}) == (batches, idents)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    max_rows=st.integers(1, 12),
    layout=st.sampled_from(["C", "F"]),
)
def test_waiting_requests_are_batched_in_order(
    counts: list[int], max_rows: int, layout: Literal["C", "F"]
) -> None:
    """A batch contains the oldest requests that fit, or a single request that is too large."""
    requests = [rows_from(i, count).copy(layout) for i, count in enumerate(counts)]
    batches: list[list[Rows]] = [[]]
    for rows in requests:
        if batches[-1] and sum(map(len, batches[-1])) + len(rows) > max_rows:
            batches.append([])
        batches[-1].append(rows)
    with Blocked(max_rows) as model:
        model.occupy()
        calls = [model.queue(rows) for rows in requests]
        model.release()
        for rows, call in zip(requests, calls, strict=True):
            assert_outputs(rows, call.result())
    for batch, run in zip(batches, model.runs[2:], strict=True):
        np.testing.assert_array_equal(np.concatenate(batch), run)
    assert list(map(len, model.runs)) == model.batches
    assert 0 == model.waiting


@pytest.mark.parametrize(
    ("idle_seconds", "deadline_seconds"),
    [(0.0, DEADLINE_SECONDS), (5.0, DEADLINE_SECONDS), (5.0, 0.002)],
)
def test_every_caller_has_its_own_outcome(
    idle_seconds: float, deadline_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each thread gets its outputs, its rows' error, or a refusal; refused rows never run."""
    monkeypatch.setattr(module, "IDLE_THREAD_SECONDS", idle_seconds)
    evaluated_rows: set[float] = set()
    refused_rows: set[float] = set()

    def run(rows: Rows) -> Outputs:
        evaluated_rows.update(rows[:, 1].tolist())
        if deadline_seconds < 1:
            np.linalg.svd(np.ones((60, 60)))  # This takes about as long as the deadline.
        return network(rows)

    batcher = Batcher(run, 16, 0, deadline_seconds, lambda rows: None)
    barrier = threading.Barrier(16)

    def work(number: int) -> None:
        barrier.wait(DEADLINE_SECONDS)
        random = np.random.default_rng(number)
        for turn in range(50):
            rows = rows_from(number, int(random.integers(1, 20)), 10_000 * number + 100 * turn)
            error = (None, None, ValueError, SystemExit)[turn % 4]
            if error:
                rows[-1, 0] = {ValueError: BAD, SystemExit: WORSE}[error]
            try:
                outputs = batcher(rows)
            except Refused:
                refused_rows.update(rows[:, 1].tolist())
            except (ValueError, SystemExit) as exception:
                assert error is type(exception)
            else:
                assert error is None
                assert_outputs(rows, outputs)

    with ThreadPoolExecutor(16) as executor:
        list(executor.map(work, range(16)))
    assert not evaluated_rows & refused_rows
    assert deadline_seconds < 1 or not refused_rows


def test_bad_row_fails_only_its_own_request() -> None:
    """After a failed batch each request runs alone, and only those with bad rows fail."""
    with Blocked() as model:
        model.occupy()
        good = [model.queue(rows_from(i, 2)) for i in range(3)]
        bad = model.queue(rows_from(BAD, 1))
        worse = model.queue(rows_from(WORSE, 1))
        model.release()
        for i, call in enumerate(good):
            assert_outputs(rows_from(i, 2), call.result())
        assert (ValueError, SystemExit) == (type(bad.exception()), type(worse.exception()))
    assert [8, 1, 1, 2, 2, 2] == [len(model.runs[2]), *sorted(map(len, model.runs[3:]))]
    assert list(map(len, model.runs)) == model.batches


def test_deadline_applies_to_requests_that_wait() -> None:
    """Waiting requests are refused and never run; running requests finish after the deadline."""
    with Blocked(deadline=0.05) as model:
        running = model.occupy()
        with pytest.raises(Refused, match=r"^overloaded: the request waited longer") as error:
            model.batcher(rows_from(1, 3))
        expected = (503, "deadline", (("Retry-After", "1"),))
        assert expected == (error.value.status, error.value.reason, error.value.headers)
        assert 0 == model.waiting
        model.release()
        for call in running:
            assert_outputs(rows_from(0, 1), call.result())
        assert 2 == len(model.runs)
        assert_outputs(rows_from(1, 3), model.batcher(rows_from(1, 3)))


def test_interrupted_request_is_withdrawn() -> None:
    """If a signal handler interrupts a waiting thread, only its own request is withdrawn."""
    interrupted = threading.Event()

    def interrupt(number: int, frame: object) -> None:
        if not interrupted.is_set():
            interrupted.set()
            raise InterruptedError

    old_handler = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with Blocked() as model:
            model.occupy()

            def send() -> None:
                until(lambda: 1 == model.waiting)
                while not interrupted.wait(0.01):  # A signal before the thread blocks is lost.
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

            sender = threading.Thread(target=send)
            sender.start()
            with pytest.raises(InterruptedError):
                model.batcher(rows_from(1, 1))
            sender.join()
            assert 0 == model.waiting
            other = model.queue(rows_from(2, 2))
            model.release()
            assert_outputs(rows_from(2, 2), other.result())
            assert [rows_from(2, 2).tolist()] == [rows.tolist() for rows in model.runs[2:]]
    finally:
        signal.signal(signal.SIGUSR1, old_handler)


def test_batch_waits_until_it_is_full_or_time_is_up() -> None:
    """A batch runs as soon as it is full, and a partial batch runs when the wait ends."""
    with Blocked(max_rows=5, wait=DEADLINE_SECONDS) as model:
        first, second = model.queue(rows_from(1, 2)), model.call(rows_from(2, 3))
        model.release()
        assert_outputs(rows_from(1, 2), first.result())
        assert_outputs(rows_from(2, 3), second.result())
    assert [5] == model.batches
    batches: list[int] = []
    batcher = Batcher(network, 5, 0.001, DEADLINE_SECONDS, batches.append)
    assert_outputs(rows_from(1, 2), batcher(rows_from(1, 2)))
    assert [2] == batches


def test_all_requests_of_a_batch_may_be_withdrawn(
    count_threads: Callable[[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing runs, the thread ends, a later request starts a new thread, and memory is freed."""
    monkeypatch.setattr(module, "IDLE_THREAD_SECONDS", 0.01)
    batches: list[int] = []
    batcher = Batcher(network, 2, 0.1, 0.02, batches.append)
    with pytest.raises(Refused):
        batcher(rows_from(1, 1))
    until(lambda: 0 == count_threads("batcher"))

    def evaluate(batcher: Batcher = batcher) -> Outputs | None:
        try:
            return batcher(rows_from(2, 2))
        except Refused:  # On a busy machine the new thread may miss the short deadline.
            return None

    assert_outputs(rows_from(2, 2), until(evaluate))
    assert [2] == batches
    until(lambda: 0 == count_threads("batcher"))
    reference = weakref.ref(batcher)
    del batcher, evaluate
    gc.collect()
    assert reference() is None


def test_batching_pays_from_one_mebibyte() -> None:
    """Batching pays for weights of 1 MiB or more."""
    assert (False, True) == (batching_pays(2**20 - 1), batching_pays(2**20))
