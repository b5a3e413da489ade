"""Write the metrics of all workers in the text formats of Prometheus."""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from service.observe import metrics
from service.observe.metrics import SharedMetrics

WORKER_GAUGES = {
    "ready": "Whether the worker is ready.",
    "in_flight": "Number of requests in the worker that have no reply yet.",
    "waiting": "Number of requests in the worker that wait to run.",
}
"""Help text by name of the gauge."""


def metrics_text(shared: SharedMetrics, name: str, accept: str) -> tuple[bytes, str]:
    """Return all metrics in the format that the Accept header selects, and its content type."""
    encode, content_type = _encoder(accept)
    return encode(_Collector(shared, name)), content_type


def _encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """Return the function that writes the preferred format, and the content type of the format."""
    try:
        return choose_encoder(accept)
    except Exception:  # prometheus_client raises various errors for a version such as "x"
        return choose_encoder("")


class _Collector(Collector):
    def __init__(self, shared: SharedMetrics, name: str) -> None:
        self._shared, self._name = shared, name

    def collect(self) -> Iterator[Metric]:
        rows = [self._shared.row(slot).tolist() for slot in range(self._shared.workers)]
        total = [sum(cells) for cells in zip(*rows, strict=True)]
        yield from _request_families(total)
        yield from _run_families(total)
        yield from self._worker_families(rows)

    def _worker_families(self, rows: Sequence[Sequence[float]]) -> Iterator[Metric]:
        for gauge, documentation in WORKER_GAUGES.items():
            is_hidden = gauge == "ready" and self._shared.draining
            family = GaugeMetricFamily(f"twolayernet_{gauge}", documentation, labels=["worker"])
            for slot, cells in enumerate(rows):
                value = 0 if is_hidden else cells[metrics.GAUGES.index(gauge)]
                family.add_metric([str(slot)], value)
            yield family
        starts = CounterMetricFamily(
            "twolayernet_worker_starts", "Number of starts of the worker.", labels=["worker"]
        )
        model = GaugeMetricFamily(
            "twolayernet_model",
            "The value 1, labelled with the version that the worker serves.",
            labels=["worker", "name", "version", "digest"],
        )
        for slot, cells in enumerate(rows):
            starts.add_metric([str(slot)], cells[metrics.STARTS])
            if version := int(cells[metrics.GAUGES.index("version")]):
                digest = self._shared.digest(slot).tobytes().decode()
                model.add_metric([str(slot), self._name, str(version), digest], 1)
        yield starts
        yield model


def _request_families(total: Sequence[float]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "twolayernet_requests", "Number of requests answered.", labels=["route", "status"]
    )
    latency = HistogramMetricFamily(
        "twolayernet_request_seconds",
        "Time from the arrival of a request to its reply, in seconds.",
        labels=["route"],
    )
    for index, route in enumerate(metrics.ROUTES):
        counts = total[metrics.REQUESTS + index * metrics.STATUS_CELLS :][: metrics.STATUS_CELLS]
        for status, count in zip((*metrics.STATUSES, "other"), counts, strict=True):
            if count:
                requests.add_metric([route, str(status)], count)
        counts = total[metrics.LATENCY + index * metrics.LATENCY_CELLS :][: metrics.LATENCY_CELLS]
        buckets = _buckets(metrics.LATENCY_BUCKETS_SECONDS, counts)
        latency.add_metric([route], buckets, total[metrics.LATENCY_SUM + index])
    yield requests
    yield latency
    refusals = CounterMetricFamily(
        "twolayernet_refusals", "Number of requests refused, by reason.", labels=["reason"]
    )
    for reason, count in zip(metrics.REASONS, total[metrics.REFUSALS :], strict=False):
        refusals.add_metric([reason], count)
    yield refusals


def _run_families(total: Sequence[float]) -> Iterator[Metric]:
    runs = HistogramMetricFamily("twolayernet_run_rows", "Number of rows in one run.")
    counts = total[metrics.RUNS :][: metrics.ROW_CELLS]
    runs.add_metric([], _buckets(metrics.ROW_BUCKETS, counts), total[metrics.RUN_ROWS])
    yield runs
    yield CounterMetricFamily("twolayernet_rows", "Rows evaluated.", value=total[metrics.RUN_ROWS])
    reloads = CounterMetricFamily(
        "twolayernet_reloads", "Number of versions loaded or refused.", labels=["result"]
    )
    reloads.add_metric(["taken"], total[metrics.RELOADS])
    reloads.add_metric(["refused"], total[metrics.RELOADS + 1])
    yield reloads


def _buckets(bounds: tuple[float, ...], counts: Sequence[float]) -> list[tuple[str, float]]:
    """Return the cumulative counts of a histogram by upper bound."""
    labels = [*(repr(float(bound)) for bound in bounds), "+Inf"]
    return list(zip(labels, accumulate(counts), strict=True))
