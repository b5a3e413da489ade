"""service.batcher: callers are joined, and nobody can tell but by the clock."""

import gc
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.proof.bound import reference
from service.errors import Refused
from service.runtime import batcher as batching
from service.runtime.batcher import Batcher
from service.runtime.predictor import Predictor
from service.runtime.session import Outputs, Rows
from tests.serving import DEADLINE_SECONDS
from tests.stored import StoredArtifact

WIDTH = 3


def exact(rows: Rows) -> Outputs:
    """Answer row by row, to the bit, whatever the batch: a network of permutations."""
    return {"logits": rows[:, ::-1] * np.float32(2), "label": rows[:, 0].astype(np.int64)}


def numbered(first: int, count: int) -> Rows:
    """Return rows that nobody else has: their first column counts from `first`."""
    rows = np.arange(first, first + count, dtype=np.float32)
    return np.stack([rows, -rows, rows % 7], axis=1, dtype=np.float32)


def assert_own(rows: Rows, outputs: Outputs) -> None:
    """These rows' answers, and nothing else."""
    assert list(exact(rows)) == list(outputs)
    for name, values in exact(rows).items():
        assert values.dtype == outputs[name].dtype
        np.testing.assert_array_equal(values, outputs[name])


class Held:
    """A network whose runs wait until they are let go, behind a batcher; and a count of who waits for a turn."""

    def __init__(
        self,
        most_rows: int = 8,
        deadline_seconds: float = DEADLINE_SECONDS,
        wait_seconds: float = 0,
    ) -> None:
        self.runs: list[Rows] = []
        self.sizes: list[int] = []
        self.waiting = 0
        self._changed = threading.Condition()
        self._free = threading.Event()
        self._threads = ThreadPoolExecutor(99)
        self.batcher = Batcher(
            self._run, most_rows, wait_seconds, deadline_seconds, self.sizes.append, self._waits
        )

    def _run(self, rows: Rows) -> Outputs:
        with self._changed:
            self.runs.append(rows)
            self._changed.notify_all()
        assert self._free.wait(DEADLINE_SECONDS)
        return exact(rows)

    def _waits(self, change: int) -> None:
        with self._changed:
            self.waiting += change
            self._changed.notify_all()

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something about `runs` or `waiting`."""
        with self._changed:
            assert self._changed.wait_for(holds, DEADLINE_SECONDS)

    def call(self, rows: Rows) -> "Future[Outputs]":
        """Call from a thread of its own."""
        return self._threads.submit(self.batcher, rows)

    def occupy(self) -> None:
        """Have one run in a caller's thread and one in the batcher's, so that all who come now have to wait."""
        for count in (1, 2):
            self.call(numbered(-9, 1))
            self.until(lambda count=count: count == len(self.runs))  # type: ignore[misc] # a default binds it

    def queue(self, rows: Rows) -> "Future[Outputs]":
        """Call, and return once it waits for its turn."""
        before = self.waiting
        called = self.call(rows)
        self.until(lambda: before + 1 == self.waiting)
        return called

    def let_go(self) -> None:
        """Let every run finish."""
        self._free.set()
        self._threads.shutdown()


@contextmanager
def held(**bounds: float) -> Iterator[Held]:
    """Yield one that is let go whatever happens."""
    network = Held(**bounds)  # type: ignore[arg-type] # most_rows is an int
    try:
        yield network
    finally:
        network.let_go()


def together(calls: int, work: Callable[[int], None]) -> None:
    """Work in many threads that begin together; an exception of theirs is the test's."""
    begin = threading.Barrier(calls)

    def each(number: int) -> None:
        begin.wait(DEADLINE_SECONDS)
        work(number)

    with ThreadPoolExecutor(calls) as threads:
        for done in [threads.submit(each, number) for number in range(calls)]:
            done.result(DEADLINE_SECONDS)


def test_one_who_is_alone_runs_in_its_own_thread() -> None:
    """Nobody else is waited for, woken or started."""
    threads: list[int] = []

    def run(rows: Rows) -> Outputs:
        threads.append(threading.get_ident())
        return exact(rows)

    sizes: list[int] = []
    batcher = Batcher(run, 8, 0, 1, sizes.append)
    for count in (2, 0, 9):
        assert_own(numbered(5, count), batcher(numbered(5, count)))
    assert [2, 0, 9] == sizes
    assert {threading.get_ident()} == set(threads)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    most_rows=st.integers(1, 12),
    layout=st.sampled_from(["C", "F"]),
)
def test_those_who_wait_are_joined_in_turn(
    counts: list[int], most_rows: int, layout: Literal["C", "F"]
) -> None:
    """A batch takes who came first, as many as fit, or one who alone is too large; each gets its own answers."""
    requests = [numbered(100 * i, count).copy(layout) for i, count in enumerate(counts)]
    expected: list[list[int]] = [[]]
    for i, count in enumerate(counts):
        if expected[-1] and sum(counts[j] for j in expected[-1]) + count > most_rows:
            expected.append([])
        expected[-1].append(i)
    with held(most_rows=most_rows) as network:
        network.occupy()
        calls = [network.queue(rows) for rows in requests]
        network.let_go()
        for rows, call in zip(requests, calls, strict=True):
            assert_own(rows, call.result(DEADLINE_SECONDS))
        found = network.runs[2:]
        assert [np.concatenate([requests[i] for i in batch]).tolist() for batch in expected] == [
            rows.tolist() for rows in found
        ]
        assert [1, 1, *map(len, found)] == network.sizes
        assert 0 == network.waiting


@pytest.mark.parametrize("idle_seconds", [0.0, 5.0])
def test_many_threads(idle_seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the threads meet, and however often the batcher's own ends and begins, everybody has its own answers."""
    monkeypatch.setattr(batching, "IDLE_THREAD_SECONDS", idle_seconds)
    sizes: list[int] = []
    batcher = Batcher(exact, 16, 0, DEADLINE_SECONDS, sizes.append)
    asked: list[int] = []

    def work(number: int) -> None:
        random = np.random.default_rng(number)
        for turn in range(100):
            rows = numbered(10_000 * number + 100 * turn, int(random.integers(0, 20)))
            asked.append(len(rows))
            assert_own(rows, batcher(rows))

    together(16, work)
    assert sum(asked) == sum(sizes)
    assert len(sizes) <= len(asked)
    assert max(sizes) <= 19


def test_a_row_that_fails_fails_nobody_else() -> None:
    """Where a joint run raises, each runs alone: who brought the cause has the exception, and all others answers."""
    runs: list[int] = []

    def run(rows: Rows) -> Outputs:
        runs.append(len(rows))
        if (rows[:, 0] >= 500).any():
            raise SystemExit("poison") if (rows[:, 0] >= 600).any() else ValueError("poison")
        return network._run(rows)

    with held(most_rows=99) as network:
        network.batcher._run = run
        network.occupy()
        good = [network.queue(numbered(10 * i, 2)) for i in range(3)]
        bad = network.queue(numbered(500, 1))
        worse = network.queue(numbered(600, 1))
        network.let_go()
        for i, call in enumerate(good):
            assert_own(numbered(10 * i, 2), call.result(DEADLINE_SECONDS))
        with pytest.raises(ValueError, match="poison"):
            bad.result(DEADLINE_SECONDS)
        with pytest.raises(SystemExit, match="poison"):
            worse.result(DEADLINE_SECONDS)
    assert [8, 1, 1, 2, 2, 2] == [*runs[2:3], *sorted(runs[3:])]
    assert runs == network.sizes


def test_the_thread_outlives_what_it_runs() -> None:
    """Many callers, one in four of whom fails, one way or the other: every one has its own outcome."""

    def run(rows: Rows) -> Outputs:
        if (rows[:, 2] == 3).any():
            raise SystemExit
        if (rows[:, 2] == 5).any():
            raise ValueError
        return exact(rows)

    batcher = Batcher(run, 16, 0, DEADLINE_SECONDS, lambda rows: None)

    def work(number: int) -> None:
        for turn in range(50):
            rows = numbered(1000 * number + turn, 1)
            if rows[0, 2] in (3, 5):
                with pytest.raises(SystemExit if rows[0, 2] == 3 else ValueError):
                    batcher(rows)
            else:
                assert_own(rows, batcher(rows))

    together(12, work)


def test_who_has_no_turn_in_time_is_refused_and_not_computed() -> None:
    """503 with Retry-After; the rows are withdrawn, those who came with them are answered."""
    with held(deadline_seconds=0.05) as network:
        network.occupy()
        rows = numbered(500, 3)
        with pytest.raises(Refused, match=r"overloaded: no turn within 0\.05 s") as caught:
            network.batcher(rows)
        assert (503, "deadline", (("Retry-After", "1"),)) == (
            caught.value.status,
            caught.value.reason,
            caught.value.headers,
        )
        assert 0 == network.waiting
        network.let_go()
        assert 2 == len(network.runs)
        assert_own(rows, network.batcher(rows))


def test_who_is_being_computed_at_the_deadline_is_answered() -> None:
    """The deadline is of the wait for a turn."""
    with held(deadline_seconds=0.05) as network:
        alone = network.call(numbered(1, 1))
        network.until(lambda: 1 == len(network.runs))
        joined = network.call(numbered(2, 1))
        network.until(lambda: 2 == len(network.runs))
        late = network.queue(numbered(3, 1))
        assert isinstance(
            late.exception(DEADLINE_SECONDS), Refused
        )  # so the others' deadline, too, is over
        network.let_go()
        assert_own(numbered(1, 1), alone.result(DEADLINE_SECONDS))
        assert_own(numbered(2, 1), joined.result(DEADLINE_SECONDS))


def test_under_overload_all_are_answered_or_refused() -> None:
    """With a deadline that many miss: who is answered has its own answers, who is refused was never computed."""
    computed: list[float] = []
    refused: list[float] = []

    def run(rows: Rows) -> Outputs:
        computed.extend(rows[:, 0].tolist())
        np.linalg.svd(np.ones((60, 60)))  # as long as some of the deadlines
        return exact(rows)

    batcher = Batcher(run, 2, 0, 0.002, lambda rows: None)

    def work(number: int) -> None:
        for turn in range(40):
            rows = numbered(1000 * number + turn, 1)
            try:
                assert_own(rows, batcher(rows))
            except Refused:
                refused.append(float(rows[0, 0]))

    together(16, work)
    assert 16 * 40 == len(computed) + len(refused)
    assert not set(computed) & set(refused)


class Cancelled(Exception):
    """What a signal's handler raises."""


def test_who_is_interrupted_is_not_computed() -> None:
    """An exception in a thread that waits leaves its place to the others."""
    cancelled = threading.Event()

    def cancel(number: int, frame: object) -> None:
        if not cancelled.is_set():
            cancelled.set()
            raise Cancelled

    before = signal.signal(signal.SIGUSR1, cancel)
    try:
        with held() as network:
            network.occupy()

            def interrupt() -> None:
                network.until(lambda: 1 == network.waiting)
                while not cancelled.wait(
                    0.01
                ):  # a signal that comes just before a thread blocks does not wake it
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

            interrupter = threading.Thread(target=interrupt)
            interrupter.start()
            with pytest.raises(Cancelled):
                network.batcher(numbered(500, 1))
            interrupter.join()
            assert 0 == network.waiting
            other = network.queue(numbered(7, 2))
            network.let_go()
            assert_own(numbered(7, 2), other.result(DEADLINE_SECONDS))
            assert [numbered(7, 2).tolist()] == [rows.tolist() for rows in network.runs[2:]]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_batch_waits_for_company_until_it_is_full() -> None:
    """With a wait that would end with the test, a full batch runs; with a short one, whoever is there."""
    with held(most_rows=5, wait_seconds=DEADLINE_SECONDS) as network:
        first = network.queue(numbered(10, 2))
        second = network.call(numbered(20, 3))
        network.let_go()
        assert_own(numbered(10, 2), first.result(DEADLINE_SECONDS))
        assert_own(numbered(20, 3), second.result(DEADLINE_SECONDS))
        assert [5] == network.sizes
    sizes: list[int] = []
    batcher = Batcher(exact, 5, 0.001, DEADLINE_SECONDS, sizes.append)
    assert_own(numbered(1, 2), batcher(numbered(1, 2)))
    assert [2] == sizes


def test_all_may_give_up_while_the_batch_waits_for_company() -> None:
    """Then nothing is run, and who comes next is answered."""
    with held(most_rows=2, wait_seconds=0.1, deadline_seconds=0.02) as network:
        network.let_go()
        with pytest.raises(Refused):
            network.batcher(numbered(1, 1))
        assert_own(numbered(2, 2), network.batcher(numbered(2, 2)))
        assert [2] == network.sizes


def test_a_batcher_that_nobody_asks_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread ends, so that a version that was replaced leaves the memory."""
    monkeypatch.setattr(batching, "IDLE_THREAD_SECONDS", 0.01)
    with held() as network:
        others = set(threading.enumerate())
        network.occupy()
        (thread,) = (
            thread for thread in set(threading.enumerate()) - others if thread.name == "batcher"
        )
        network.let_go()
    thread.join(DEADLINE_SECONDS)
    assert not thread.is_alive()
    freed = weakref.ref(network.batcher)
    del network
    gc.collect()
    assert freed() is None


@pytest.mark.parametrize("which", ["flowers", "houses"])
def test_the_artifact_s_answers(which: str, request: pytest.FixtureRequest) -> None:
    """Real rows through the real session, in whatever batches: within the bound of the float64 reference."""
    made: StoredArtifact = request.getfixturevalue(which)
    rows = made.rows
    expected = reference(made.weights, rows)
    batcher = Batcher(Predictor(made.artifact).predict, 16, 0, DEADLINE_SECONDS, lambda rows: None)

    def work(number: int) -> None:
        random = np.random.default_rng(number)
        for start in random.integers(0, len(rows) - 5, 100).tolist():
            part = slice(start, start + int(random.integers(0, 6)))
            answers = batcher(rows[part])
            for name, values in expected.values.items():
                assert (
                    np.abs(answers[name] - values[part]) <= expected.bounds[name][part]
                ).all(), name

    together(8, work)
