"""Micro-batching: concurrent requests are evaluated in one run, and each receives its own outputs.

A wide network reads its weights from memory in every run, so a run of many rows costs little more
than a run of one row. Requests that arrive while a batch is running form the next batch, as in the
group commit of a database; by default no request is delayed to fill a batch.
"""

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

import numpy as np

from service.runtime.admission import deadline_exceeded
from service.runtime.session import Outputs, Rows

IDLE_THREAD_SECONDS = 5.0
"""Idle time in seconds after which the thread ends, which lets a replaced version be freed."""
MIN_BATCHED_WEIGHT_BYTES = 1 << 20
"""Minimum size of the weights in bytes at which batching increases throughput.

With 32 clients that send one row at a time, batching multiplies the throughput by 0.93 at 0.03 MiB,
0.98 at 0.5, 1.09 at 1.0, 1.6 at 4, and 2.2 at 16 (`grid` of bench/serve/compare.py). The p99
latency improves at every size.
"""


class _PendingRequest:
    """A request that waits for its batch."""

    __slots__ = ("arrival", "done", "outputs", "rows")

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.arrival = monotonic()
        self.outputs: Outputs | None = None
        # Released when the batch has run. An Event would take three times as long.
        self.done = threading.Lock()
        self.done.acquire()


class Batcher:
    """A thread-safe callable with the signature of `run`, which it calls with batches of rows.

    A single caller runs its own rows, which adds one microsecond to `run`. Concurrent callers wait
    for a thread of the batcher, which concatenates their rows and runs them. If a caller ran the
    batch instead, it would acquire the GIL two more times: after the run, and to start the next
    batch. With 32 callers that reduced the throughput by 30%.

    If a batch fails, each of its callers runs its own rows, so an error affects only the caller
    whose rows caused it.
    """

    def __init__(
        self,
        run: Callable[[Rows], Outputs],
        max_rows: int,
        wait_seconds: float,
        deadline_seconds: float,
        on_batch: Callable[[int], object],
        on_wait: Callable[[int], object] = lambda change: None,
    ) -> None:
        """Create an idle batcher.

        Args:
            run: thread-safe function from float32 (batch, in_features) to outputs with one row per
                input row; each output row depends only on its input row.
            max_rows: maximum number of rows in a batch; a request with more rows runs alone.
            wait_seconds: maximum time in seconds that a request waits for its batch to fill.
            deadline_seconds: maximum time in seconds that a request waits to run.
            on_batch: called before each run with its number of rows.
            on_wait: called with the change in the number of waiting requests: 1, -1, or minus the
                number of requests in a batch.
        """
        self._run, self._on_batch, self._on_wait = run, on_batch, on_wait
        self._max_rows, self._wait_seconds = max_rows, wait_seconds
        self._deadline_seconds = deadline_seconds
        self._lock = threading.Lock()
        self._arrival = threading.Condition(self._lock)
        self._pending: deque[_PendingRequest] = deque()
        self._callers, self._has_thread = 0, False

    def __call__(self, rows: Rows) -> Outputs:
        """Evaluate rows, float32 of shape (batch, in_features); an empty batch is allowed.

        Returns:
            The outputs of `run` for these rows, possibly views of the outputs of the whole batch.
            The rounding of a row may depend on its batch, within the proved bounds.

        Raises:
            Refused: 503, the deadline passed before the rows were evaluated.
            Exception: any exception that `run` raises for these rows.
        """
        with self._lock:
            # Count a caller until it returns, even after its batch has run. Otherwise the first
            # thread to wake would return, come back with its next request, and run it alone.
            is_alone = not self._callers and not self._wait_seconds
            self._callers += 1
        try:
            outputs = None if is_alone else self._run_in_batch(rows)
            return self._evaluate(rows) if outputs is None else outputs
        finally:
            with self._lock:
                self._callers -= 1

    def _evaluate(self, rows: Rows) -> Outputs:
        self._on_batch(len(rows))
        return self._run(rows)

    def _run_in_batch(self, rows: Rows) -> Outputs | None:
        """Evaluate rows in a batch; return their outputs, or None if the batch fails."""
        request = _PendingRequest(rows)
        try:
            with self._lock:
                if not self._has_thread:
                    threading.Thread(target=self._run_batches, name="batcher", daemon=True).start()
                    self._has_thread = True
                self._pending.append(request)
                self._on_wait(1)
                self._arrival.notify()
            is_in_time = request.done.acquire(timeout=self._deadline_seconds)
        except BaseException:  # A signal handler may raise anything.
            self._withdraw(request)
            raise
        if not is_in_time:
            if self._withdraw(request):
                raise deadline_exceeded(self._deadline_seconds)
            request.done.acquire()  # The batch of the request is already running.
        return request.outputs

    def _withdraw(self, request: _PendingRequest) -> bool:
        """Remove a pending request; return False if its batch is already running."""
        with self._lock:
            try:
                self._pending.remove(request)
            except ValueError:
                return False
            self._on_wait(-1)
        return True

    def _run_batches(self) -> None:
        """Run batches until no request has been pending for IDLE_THREAD_SECONDS."""
        while batch := self._next_batch():
            try:
                self._run_batch(batch)
            except BaseException:  # Each caller runs its rows again, and the error recurs there.
                for request in batch:
                    request.outputs = None
            finally:
                for request in batch:
                    request.done.release()

    def _next_batch(self) -> list[_PendingRequest]:
        """Return the oldest pending requests that fit, or [] after IDLE_THREAD_SECONDS."""
        with self._lock:
            while True:
                if not self._arrival.wait_for(lambda: self._pending, IDLE_THREAD_SECONDS):
                    self._has_thread = False
                    return []
                if self._wait_seconds:
                    timeout = self._pending[0].arrival + self._wait_seconds - monotonic()
                    self._arrival.wait_for(self._is_full, timeout)
                if self._pending:  # All requests may have been withdrawn during the wait.
                    break
            batch = [self._pending.popleft()]
            rows = len(batch[0].rows)
            while self._pending and rows + len(self._pending[0].rows) <= self._max_rows:
                batch.append(self._pending.popleft())
                rows += len(batch[-1].rows)
        return batch

    def _is_full(self) -> bool:
        return sum(len(request.rows) for request in self._pending) >= self._max_rows

    def _run_batch(self, batch: list[_PendingRequest]) -> None:
        self._on_wait(-len(batch))
        outputs = self._evaluate(_concatenate([request.rows for request in batch]))
        start = 0
        for request in batch:
            stop = start + len(request.rows)
            request.outputs = {name: values[start:stop] for name, values in outputs.items()}
            start = stop


def batching_pays(weight_bytes: int) -> bool:
    """Return whether batching increases the throughput of a network with weights of this size."""
    return weight_bytes >= MIN_BATCHED_WEIGHT_BYTES


def _concatenate(parts: list[Rows]) -> Rows:
    """Return the rows of all parts, in order.

    np.concatenate would release the GIL while it copies, and the threads that have just been woken
    would then run before the batch.
    """
    if len(parts) == 1:
        return parts[0]
    data = b"".join([part.tobytes() for part in parts])
    return np.frombuffer(data, np.float32).reshape(sum(map(len, parts)), parts[0].shape[1])
