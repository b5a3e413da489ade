"""Counters and gauges of the workers, in memory that all workers share.

Each worker writes float64 cells of its own row, and whichever worker is scraped adds up the rows
(prometheus_text.py), including those of workers that have died. The multiprocess mode of
prometheus_client would add about ten microseconds to a request, and keeps a file for every worker
that ever ran.
"""

import mmap
from bisect import bisect_left
from itertools import accumulate

ROUTES = ("/predict", "/v2/infer", "/v1/predict", "other")
STATUSES = (200, 400, 401, 404, 405, 406, 411, 413, 415, 422, 500, 503)
REASONS = (
    "unparseable", "wrong_for_this_model", "length_required", "too_large", "unsupported_media_type",
    "not_acceptable", "unauthorized", "not_found", "method_not_allowed", "not_ready", "overloaded",
    "deadline", "failed", "other",
)  # fmt: skip
DEFAULT_REASONS = {
    400: "unparseable",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    422: "wrong_for_this_model",
    500: "failed",
}
"""Reason label by HTTP status, for refusals that carry no reason."""
LATENCY_BUCKETS_SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
)  # fmt: skip
"""Upper bounds of the histogram of latencies."""
ROW_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096)
"""Upper bounds of the histogram of rows per run."""
GAUGES = ("ready", "version", "in_flight", "waiting")
"""Current values of a worker. They start at zero in its successor; counters continue."""

STATUS_CELLS = len(STATUSES) + 1
"""Number of request counters of a route: one for each status, and one for all others."""
LATENCY_CELLS = len(LATENCY_BUCKETS_SECONDS) + 1
"""Number of latency counters of a route: one for each bucket, and one for longer times."""
ROW_CELLS = len(ROW_BUCKETS) + 1
"""Number of counters of runs: one for each bucket, and one for larger runs."""
REQUESTS, LATENCY, LATENCY_SUM, REFUSALS, RUNS, RUN_ROWS, RELOADS, STARTS, CELLS = accumulate(
    (
        len(GAUGES),
        len(ROUTES) * STATUS_CELLS,  # REQUESTS
        len(ROUTES) * LATENCY_CELLS,  # LATENCY
        len(ROUTES),  # LATENCY_SUM
        len(REASONS),  # REFUSALS
        ROW_CELLS,  # RUNS
        1,  # RUN_ROWS
        2,  # RELOADS: loaded, refused
        1,  # STARTS
    )
)
"""Index of the first cell of each group after the gauges, and the number of cells in a row."""
_READY, _VERSION, _IN_FLIGHT, _WAITING = range(len(GAUGES))
_STATUS_INDEX = {status: index for index, status in enumerate(STATUSES)}
_REASON_INDEX = {reason: index for index, reason in enumerate(REASONS)}
_FLAG_BYTES = 8
_DIGEST_BYTES = 64


class SharedMetrics:
    """Memory that the workers of a service share; it must be created before they are forked.

    Its layout is a flag that tells whether the service is draining, the row of CELLS float64 cells
    of each worker, and the digest that each worker serves.
    """

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        cells_end = _FLAG_BYTES + workers * CELLS * 8
        self._memory = mmap.mmap(-1, cells_end + workers * _DIGEST_BYTES)
        view = memoryview(self._memory)
        self._cells = view[_FLAG_BYTES:cells_end].cast("d")
        self._digests = view[cells_end:]

    @property
    def draining(self) -> bool:
        """Whether the service is about to stop: it still answers but is no longer ready."""
        return self._memory[0] != 0

    def drain(self) -> None:
        """Tell all workers that the service is about to stop."""
        self._memory[0] = 1

    def forget(self, slot: int) -> None:
        """Set the gauges of a worker that has ended to zero, and keep its counters."""
        self.row(slot)[: len(GAUGES)] = memoryview(bytes(8 * len(GAUGES))).cast("d")

    def row(self, slot: int) -> "memoryview[float]":
        """Return a writable view of the cells of a worker."""
        return self._cells[slot * CELLS : (slot + 1) * CELLS]

    def digest(self, slot: int) -> "memoryview[int]":
        """Return a writable view of the digest that a worker serves, 64 hexadecimal digits."""
        return self._digests[slot * _DIGEST_BYTES : (slot + 1) * _DIGEST_BYTES]


class WorkerMetrics:
    """The metrics of one worker. Thread-safe without a lock, which would take a microsecond.

    CPython switches threads only at calls and backward jumps (CHECK_EVAL_BREAKER in ceval.c), and
    therefore never within `cells[i] += n`. A free-threaded build needs a lock here.
    """

    def __init__(self, shared: SharedMetrics | None = None, slot: int = 0) -> None:
        """Take over a row, by default of private memory, and the counters of its last worker."""
        self.shared = shared or SharedMetrics()
        self._cells, self._digest = self.shared.row(slot), self.shared.digest(slot)
        self.shared.forget(slot)
        self._cells[STARTS] += 1

    def entered(self) -> None:
        """Count a request as in flight."""
        self._cells[_IN_FLIGHT] += 1

    def answered(self, route: int, status: int, seconds: float, reason: str | None = None) -> None:
        """Count a request that is in flight as answered.

        Args:
            route: index into ROUTES.
            status: HTTP status of the reply.
            seconds: time from the arrival of the request to its reply.
            reason: reason of a refusal; by default that of its status.
        """
        request = REQUESTS + route * STATUS_CELLS + _STATUS_INDEX.get(status, len(STATUSES))
        bucket = bisect_left(LATENCY_BUCKETS_SECONDS, seconds)
        cells = self._cells
        cells[_IN_FLIGHT] -= 1
        cells[request] += 1
        cells[LATENCY + route * LATENCY_CELLS + bucket] += 1
        cells[LATENCY_SUM + route] += seconds
        if status >= 400:
            refusal = reason or DEFAULT_REASONS.get(status, "other")
            cells[REFUSALS + _REASON_INDEX.get(refusal, len(REASONS) - 1)] += 1

    def waits(self, change: int) -> None:
        """Count a request that begins (1) or stops (-1) waiting to run."""
        self._cells[_WAITING] += change

    def ran(self, rows: int) -> None:
        """Count a run of the network over this number of rows."""
        self._cells[RUNS + bisect_left(ROW_BUCKETS, rows)] += 1
        self._cells[RUN_ROWS] += rows

    def reloaded(self, good: bool) -> None:
        """Count a version that was loaded, or refused if it is not good."""
        self._cells[RELOADS + (not good)] += 1

    def serves(self, version: int, digest: str) -> None:
        """Record the version that this worker answers with."""
        self._cells[_VERSION] = version
        self._digest[:] = digest.encode()

    def ready(self, ready: bool) -> None:
        """Record whether this worker is ready."""
        self._cells[_READY] = ready
