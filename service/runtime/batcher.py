"""The micro-batcher: rows of callers that come together are evaluated together, and each gets its own answers.

A wide network reads its weights from memory for every run, so one run over many rows costs little more than over one.
Batching is natural, as a database groups its commits: while one batch runs callers gather, and the next takes those
who wait. Nobody waits for company unless told to.
"""

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

import numpy as np

from service.runtime.admission import deadline_exceeded
from service.runtime.session import Outputs, Rows

IDLE_THREAD_SECONDS = 5.0
"""After so long without a caller who had to wait the thread ends, so that a version nobody asks any more is freed."""


class _PendingRequest:
    """One who waits."""

    __slots__ = ("came", "outputs", "rows", "turn")

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.came = monotonic()
        self.outputs: Outputs | None = None
        self.turn = threading.Lock()  # an Event is three times as slow
        self.turn.acquire()


class Batcher:
    """Stands before `run` and is called as it is, from any thread.

    A caller who is alone runs its own rows: that costs a microsecond more than `run`. Others wait for a thread that
    joins their rows and runs them. The thread is the batcher's own because a caller that led the others would have to
    win Python's lock from them twice, when its run ends and when it takes the lead; measured at 32 callers, that
    answered 0.7 times the requests.

    Where a joint run fails, every caller runs its own rows alone: what is wrong with one's rows fails nobody else.
    """

    def __init__(
        self,
        run: Callable[[Rows], Outputs],
        most_rows: int,
        wait_seconds: float,
        deadline_seconds: float,
        on_batch: Callable[[int], object],
        waits: Callable[[int], object] = lambda change: None,
    ) -> None:
        """Take what evaluates rows, and the bounds.

        Args:
            run: (batch, in_features) float32 to outputs with as many rows, each row's its own; thread-safe.
            most_rows: joined in one run; a request that has more runs alone.
            wait_seconds: for which the first of a batch that is not full waits for company; 0 for not at all.
            deadline_seconds: of a caller's wait for its turn.
            on_batch: called with the number of rows before every run.
            waits: called with 1 when a caller begins to wait, and with -1, or minus the size of a batch, when it is
                its turn or it gives up.
        """
        self._run, self._on_batch, self._waits = run, on_batch, waits
        self._most_rows, self._wait_seconds, self._deadline_seconds = (
            most_rows,
            wait_seconds,
            deadline_seconds,
        )
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._waiting: deque[_PendingRequest] = deque()
        self._inside = 0  # callers, until they have returned
        self._running = False  # the thread is there

    def __call__(self, rows: Rows) -> Outputs:
        """Evaluate rows, (batch, in_features) float32, which the parsers have checked; none is (0, in_features).

        Returns:
            What `run` answers to these rows, perhaps as views of the whole batch's answers. In ONNX Runtime a row's
            last bits can depend on the rows beside it, within the bounds that export proved.

        Raises:
            Refused: 503, it was not its turn before the deadline; the rows are not evaluated.
            Exception: what `run` raises for these rows.
        """
        with self._lock:
            # Whoever has an answer and not yet returned is inside too. Otherwise the one thread that is awake would
            # come back with its next request, find nobody waiting, and go ahead with a batch of one, again and again.
            alone = not self._inside and not self._wait_seconds
            self._inside += 1
        try:
            outputs = None if alone else self._join(rows)
            return self._evaluate(rows) if outputs is None else outputs
        finally:
            with self._lock:
                self._inside -= 1

    def _evaluate(self, rows: Rows) -> Outputs:
        self._on_batch(len(rows))
        return self._run(rows)

    def _join(self, rows: Rows) -> Outputs | None:
        """Have rows evaluated together with others'; None where that failed."""
        caller = _PendingRequest(rows)
        try:
            with self._lock:
                if not self._running:
                    threading.Thread(target=self._serve, name="batcher", daemon=True).start()
                    self._running = True
                self._waiting.append(caller)
                self._waits(1)
                self._arrived.notify()
            in_time = caller.turn.acquire(timeout=self._deadline_seconds)
        except BaseException:  # such as a signal's handler raises
            self._withdraw(caller)
            raise
        if not in_time:
            if self._withdraw(caller):
                raise deadline_exceeded(self._deadline_seconds)
            caller.turn.acquire()  # its rows are being run
        return caller.outputs

    def _withdraw(self, caller: _PendingRequest) -> bool:
        """Take a caller's rows back; False where it is too late."""
        with self._lock:
            try:
                self._waiting.remove(caller)
            except ValueError:
                return False
            self._waits(-1)
        return True

    def _serve(self) -> None:
        """Run batch after batch, until nobody has come for a while."""
        while batch := self._gather():
            try:
                self._answer(batch)
            except (
                BaseException
            ):  # what is wrong with a caller's rows rises again where that caller runs them
                for caller in batch:
                    caller.outputs = None
            finally:
                for caller in batch:
                    caller.turn.release()

    def _gather(self) -> list[_PendingRequest]:
        """Wait for callers, and take those of the next batch in the order they came; none when it is time to end."""
        with self._lock:
            while True:
                if not self._arrived.wait_for(lambda: self._waiting, IDLE_THREAD_SECONDS):
                    self._running = False
                    return []
                if self._wait_seconds:
                    left = self._waiting[0].came + self._wait_seconds - monotonic()
                    self._arrived.wait_for(self._full, left)
                if self._waiting:  # nobody has given up meanwhile
                    break
            batch: list[_PendingRequest] = []
            rows = 0
            while self._waiting and (
                not batch or rows + len(self._waiting[0].rows) <= self._most_rows
            ):
                batch.append(self._waiting.popleft())
                rows += len(batch[-1].rows)
        return batch

    def _full(self) -> bool:
        return sum(len(caller.rows) for caller in self._waiting) >= self._most_rows

    def _answer(self, batch: list[_PendingRequest]) -> None:
        """Evaluate the rows of a batch in one run, and give every caller the answers to its own."""
        self._waits(-len(batch))
        outputs = self._evaluate(_concatenate([caller.rows for caller in batch]))
        start = 0
        for caller in batch:
            stop = start + len(caller.rows)
            caller.outputs = {name: values[start:stop] for name, values in outputs.items()}
            start = stop


def batching_pays(weight_bytes: int) -> bool:
    """Say whether a network with so many bytes of weights gains by batching: from a mebibyte on.

    Answers with it to those without, one row from each of 32 callers (`python bench/serve.py grid`): 0.93 at 0.03 MiB,
    0.98 at 0.5, 1.09 at 1.0, 1.6 at 4, 2.2 at 16; p99 is the better everywhere.
    """
    return weight_bytes >= 1 << 20


def _concatenate(parts: list[Rows]) -> Rows:
    """Return the rows of all parts, in order.

    np.concatenate gives up Python's lock while it copies, and everybody who was just woken would have a turn before the
    run begins.
    """
    if len(parts) == 1:
        return parts[0]
    rows = sum(map(len, parts))
    return np.frombuffer(b"".join([part.tobytes() for part in parts]), np.float32).reshape(
        rows, parts[0].shape[1]
    )
