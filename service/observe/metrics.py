"""What is counted, for Prometheus: right whichever worker is asked, whichever has died.

The workers write float64 cells of one piece of memory that they share, each its own row of them, and whoever is
asked adds the rows up (exposition.py). prometheus_client's own multiprocess mode would cost a request about ten
microseconds, and leaves a file for every worker that has ever lived.
"""

import mmap
from bisect import bisect_left

ROUTES = ("/predict", "/v2/infer", "/v1/predict", "other")
STATUSES = (200, 400, 401, 404, 405, 406, 411, 413, 415, 422, 500, 503)
REASONS = (
    "unparseable",
    "wrong_for_this_model",
    "length_required",
    "too_large",
    "unsupported_media_type",
    "not_acceptable",
    "unauthorized",
    "not_found",
    "method_not_allowed",
    "not_ready",
    "overloaded",
    "deadline",
    "failed",
    "other",
)
DEFAULT_REASONS = {
    400: "unparseable",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    422: "wrong_for_this_model",
    500: "failed",
}
"""Of a refusal that gives no reason of its own."""
LATENCY_BUCKETS_SECONDS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
)
ROW_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096)
GAUGES = ("ready", "version", "in_flight", "waiting")
"""What is true of a worker now; its successor begins at zero. The counters go on."""
REQUESTS = len(GAUGES)
LATENCY = REQUESTS + len(ROUTES) * (len(STATUSES) + 1)
LATENCY_SUM = LATENCY + len(ROUTES) * (len(LATENCY_BUCKETS_SECONDS) + 1)
REFUSALS = LATENCY_SUM + len(ROUTES)
RUNS = REFUSALS + len(REASONS)
RUN_ROWS = RUNS + len(ROW_BUCKETS) + 1
RELOADS = RUN_ROWS + 1
STARTS = RELOADS + 2
CELLS = STARTS + 1
_DIGEST = 64
_IN_FLIGHT, _WAITING = GAUGES.index("in_flight"), GAUGES.index("waiting")
_STATUS = {status: index for index, status in enumerate(STATUSES)}
_REASON = {reason: index for index, reason in enumerate(REASONS)}


class SharedMetrics:
    """The memory that the workers of one service share; made before they are forked."""

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self._memory = mmap.mmap(-1, 8 + workers * (8 * CELLS + _DIGEST))
        view = memoryview(self._memory)
        self._cells = view[8 : 8 + 8 * CELLS * workers].cast("d")
        self._digests = view[8 + 8 * CELLS * workers :]

    @property
    def draining(self) -> bool:
        """Whether the service is about to stop: it still answers, and is no longer ready."""
        return self._memory[0] != 0

    def drain(self) -> None:
        """Say to every worker that the service is about to stop."""
        self._memory[0] = 1

    def forget(self, slot: int) -> None:
        """Clear what was true of a worker that has ended; what it counted stays."""
        self.row(slot)[: len(GAUGES)] = memoryview(bytes(8 * len(GAUGES))).cast("d")

    def row(self, slot: int) -> "memoryview[float]":
        """Return the cells of a worker, live."""
        return self._cells[slot * CELLS : (slot + 1) * CELLS]

    def digest(self, slot: int) -> "memoryview[int]":
        """Return the 64 characters of the digest that a worker serves, live."""
        return self._digests[slot * _DIGEST : (slot + 1) * _DIGEST]


class WorkerMetrics:
    """One worker's row of the board; thread-safe without locks, which would cost a request a microsecond of thirty.

    CPython looks whether another thread should run at calls and at jumps (CHECK_EVAL_BREAKER in its ceval.c), so never
    within `cells[i] += n`, where i and n are at hand. A build without its global lock needs a lock here.
    """

    def __init__(self, board: SharedMetrics | None = None, slot: int = 0) -> None:
        """Take a slot, which a worker that died may have left behind.

        Args:
            board: shared with the other workers; alone without it.
            slot: from 0.
        """
        self.board = board or SharedMetrics()
        self._cells, self._digest = self.board.row(slot), self.board.digest(slot)
        self.board.forget(slot)
        self._cells[STARTS] += 1

    def entered(self) -> None:
        """Count a request in flight."""
        self._cells[_IN_FLIGHT] += 1

    def answered(self, route: int, status: int, seconds: float, reason: str | None = None) -> None:
        """Count a request that entered and has its answer now.

        Args:
            route: index into ROUTES.
            status: of HTTP.
            seconds: from the request's arrival to its answer.
            reason: of a refusal.
        """
        request = REQUESTS + route * (len(STATUSES) + 1) + _STATUS.get(status, len(STATUSES))
        latency = (
            LATENCY
            + route * (len(LATENCY_BUCKETS_SECONDS) + 1)
            + bisect_left(LATENCY_BUCKETS_SECONDS, seconds)
        )
        cells = self._cells
        cells[_IN_FLIGHT] -= 1
        cells[request] += 1
        cells[latency] += 1
        cells[LATENCY_SUM + route] += seconds
        if status >= 400:
            refusal = reason or DEFAULT_REASONS.get(status, "other")
            cells[REFUSALS + _REASON.get(refusal, len(REASONS) - 1)] += 1

    def waits(self, change: int) -> None:
        """Count a request that begins (1) or ceases (-1) to wait for its turn."""
        self._cells[_WAITING] += change

    def ran(self, rows: int) -> None:
        """Count one run of the network over so many rows."""
        self._cells[RUNS + bisect_left(ROW_BUCKETS, rows)] += 1
        self._cells[RUN_ROWS] += rows

    def reloaded(self, good: bool) -> None:
        """Count a version that was taken up, or refused."""
        self._cells[RELOADS + (not good)] += 1

    def serves(self, version: int, digest: str) -> None:
        """Say which version this worker answers with, from now on."""
        self._cells[GAUGES.index("version")] = version
        self._digest[:] = digest.encode()

    def ready(self, ready: bool) -> None:
        """Say whether this worker is ready."""
        self._cells[GAUGES.index("ready")] = ready
