"""Counters and gauges of the workers, in memory that all workers share.

Each worker writes float64 cells of its own row. The worker that Prometheus scrapes adds up all rows
(prometheus_text.py), including those of workers that have died. The multiprocess mode of
prometheus_client would add about ten microseconds to a request, and it keeps a file for every
worker that has ever run.
"""

import mmap
from bisect import bisect_left
from itertools import accumulate

ROUTES = ("/predict", "/v2/infer", "/v1/predict", "other")
STATUSES = (200, 400, 401, 404, 405, 406, 408, 411, 413, 415, 422, 500, 503)
REASONS = (
    "unparseable", "wrong_for_this_model", "length_required", "too_large", "unsupported_media_type",
    "not_acceptable", "unauthorized", "not_found", "method_not_allowed", "not_ready", "overloaded",
    "deadline", "memory", "slow_upload", "failed", "other",
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
"""Reason of a refusal by HTTP status, for refusals without an explicit reason."""
LATENCY_BUCKETS_SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
)  # fmt: skip
"""Upper bounds of the buckets of the latency histogram, in seconds."""
ROW_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096)
"""Upper bounds of the buckets of the histogram of rows per run."""
GAUGES = ("ready", "version", "in_flight", "waiting", "closing")
"""Names of the gauges of a worker; the next worker in its row resets them, but not the counters."""

STATUS_CELLS = len(STATUSES) + 1
"""Number of request counters of a route: one for each status, and one for all other statuses."""
LATENCY_CELLS = len(LATENCY_BUCKETS_SECONDS) + 1
"""Number of latency counters of a route: one for each bucket, and one for longer latencies."""
ROW_CELLS = len(ROW_BUCKETS) + 1
"""Number of run counters: one for each bucket, and one for larger runs."""
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
"""Index of the first cell of each group of counters, and the number of cells in a row."""
_READY, _VERSION, _IN_FLIGHT, _WAITING, _CLOSING = range(len(GAUGES))
_STATUS_INDEX = {status: index for index, status in enumerate(STATUSES)}
_REASON_INDEX = {reason: index for index, reason in enumerate(REASONS)}
_FLAG_BYTES = 8
_DIGEST_BYTES = 64


class SharedMetrics:
    """Memory that all workers share; create it before the workers are forked.

    The memory holds a flag that is set while the service drains, then rows of CELLS float64 cells,
    then the digest of the version that the worker of each row serves. Every worker has two rows,
    `number` and `number + workers`: when it is replaced, it and its successor run at the same time,
    and two processes must not add to the same cell.
    """

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self.rows = 2 * workers
        cells_end = _FLAG_BYTES + self.rows * CELLS * 8
        self._memory = mmap.mmap(-1, cells_end + self.rows * _DIGEST_BYTES)
        view = memoryview(self._memory)
        self._cells = view[_FLAG_BYTES:cells_end].cast("d")
        self._digests = view[cells_end:]

    @property
    def draining(self) -> bool:
        """Whether the service is about to stop: it still predicts but is no longer ready."""
        return self._memory[0] != 0

    def drain(self) -> None:
        """Tell all workers that the service is about to stop."""
        self._memory[0] = 1
        for row in range(self.rows):
            self.close_connections(row)

    def close_connections(self, row: int) -> None:
        """Tell the worker of a row to close each connection after its next reply."""
        self.row(row)[_CLOSING] = 1

    def is_ready(self, row: int) -> bool:
        """Return whether the worker of a row has loaded a version."""
        return self.row(row)[_READY] != 0

    def forget(self, row: int) -> None:
        """Set the gauges of a worker that has exited to zero, but keep its counters."""
        self.row(row)[: len(GAUGES)] = memoryview(bytes(8 * len(GAUGES))).cast("d")

    def row(self, row: int) -> "memoryview[float]":
        """Return a writable view of the cells of a row."""
        return self._cells[row * CELLS : (row + 1) * CELLS]

    def digest(self, row: int) -> "memoryview[int]":
        """Return a writable view of the digest of a row's version, 64 hexadecimal digits."""
        return self._digests[row * _DIGEST_BYTES : (row + 1) * _DIGEST_BYTES]


class WorkerMetrics:
    """The metrics of one worker. They are thread-safe without a lock, which saves a microsecond.

    CPython switches threads only at calls and backward jumps (CHECK_EVAL_BREAKER in ceval.c), and
    therefore never within `cells[i] += n`. A free-threaded build would need a lock here.
    """

    def __init__(self, shared: SharedMetrics | None = None, row: int = 0) -> None:
        """Take over a row and its counters, by default in private memory."""
        self.shared = shared or SharedMetrics()
        self._cells, self._digest = self.shared.row(row), self.shared.digest(row)
        self.shared.forget(row)
        if self.shared.draining:
            self.shared.close_connections(row)
        self._cells[STARTS] += 1

    @property
    def closing(self) -> bool:
        """Whether to close each connection after a reply: this worker is about to stop."""
        return self._cells[_CLOSING] != 0

    def count_arrival(self) -> None:
        """Count a request as in flight."""
        self._cells[_IN_FLIGHT] += 1

    def count_reply(
        self, route: int, status: int, seconds: float, reason: str | None = None
    ) -> None:
        """Count a request in flight as answered.

        Args:
            route: index into ROUTES.
            status: HTTP status of the reply.
            seconds: time from the arrival of the request to its reply, in seconds.
            reason: reason of a refusal, by default that of the status in DEFAULT_REASONS.
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

    def count_wait(self, change: int) -> None:
        """Add a change to the number of requests that wait to run."""
        self._cells[_WAITING] += change

    def count_run(self, rows: int) -> None:
        """Count a run of the network and its number of rows."""
        self._cells[RUNS + bisect_left(ROW_BUCKETS, rows)] += 1
        self._cells[RUN_ROWS] += rows

    def count_reload(self, is_good: bool) -> None:
        """Count a version as loaded if it is good, and as refused otherwise."""
        self._cells[RELOADS + (not is_good)] += 1

    def set_version(self, version: int, digest: str) -> None:
        """Record the number and the digest of this worker's current version."""
        self._cells[_VERSION] = version
        self._digest[:] = digest.encode()

    def set_ready(self, is_ready: bool) -> None:
        """Record whether this worker is ready."""
        self._cells[_READY] = is_ready
