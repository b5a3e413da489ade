"""The metrics of all workers as the text that Prometheus reads."""

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
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


def metrics_text(board: SharedMetrics, name: str, accept: str) -> tuple[bytes, str]:
    """Return the metrics of all workers as text, and its media type.

    Args:
        board: shared by the workers.
        name: of the model.
        accept: the caller's Accept header: Prometheus' own format, or OpenMetrics.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(board, name))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Collector(Collector):
    """Adds the workers' rows up, in prometheus_client's terms."""

    def __init__(self, board: SharedMetrics, name: str) -> None:
        self._board, self._name = board, name

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        rows = [self._board.row(slot).tolist() for slot in range(self._board.workers)]
        total = [sum(cells) for cells in zip(*rows, strict=True)]

        requests = CounterMetricFamily(
            "twolayernet_requests", "Requests answered.", labels=["route", "status"]
        )
        latency = HistogramMetricFamily(
            "twolayernet_request_seconds",
            "Seconds from a request's arrival to its answer.",
            labels=["route"],
        )
        for index, route in enumerate(metrics.ROUTES):
            first = metrics.REQUESTS + index * (len(metrics.STATUSES) + 1)
            for status, count in zip((*metrics.STATUSES, "other"), total[first:], strict=False):
                if count:
                    requests.add_metric([route, str(status)], count)
            first = metrics.LATENCY + index * (len(metrics.LATENCY_BUCKETS_SECONDS) + 1)
            buckets = _cumulative(
                metrics.LATENCY_BUCKETS_SECONDS,
                total[first : first + len(metrics.LATENCY_BUCKETS_SECONDS) + 1],
            )
            latency.add_metric([route], buckets, total[metrics.LATENCY_SUM + index])
        yield requests
        yield latency

        refusals = CounterMetricFamily(
            "twolayernet_refusals", "Requests refused, by reason.", labels=["reason"]
        )
        for reason, count in zip(metrics.REASONS, total[metrics.REFUSALS :], strict=False):
            refusals.add_metric([reason], count)
        yield refusals

        runs = HistogramMetricFamily("twolayernet_run_rows", "Rows in one run of the network.")
        runs.add_metric(
            [],
            _cumulative(
                metrics.ROW_BUCKETS,
                total[metrics.RUNS : metrics.RUNS + len(metrics.ROW_BUCKETS) + 1],
            ),
            total[metrics.RUN_ROWS],
        )
        yield runs
        yield CounterMetricFamily(
            "twolayernet_rows", "Rows evaluated.", value=total[metrics.RUN_ROWS]
        )

        reloads = CounterMetricFamily(
            "twolayernet_reloads", "Versions taken up, or refused.", labels=["result"]
        )
        reloads.add_metric(["taken"], total[metrics.RELOADS])
        reloads.add_metric(["refused"], total[metrics.RELOADS + 1])
        yield reloads

        for gauge, metrics_text in (
            ("ready", "Whether the worker is ready."),
            ("in_flight", "Requests in the worker that have no answer yet."),
            ("waiting", "Requests in the worker that wait for their turn."),
        ):
            family = GaugeMetricFamily(f"twolayernet_{gauge}", metrics_text, labels=["worker"])
            for slot, cells in enumerate(rows):
                value = cells[metrics.GAUGES.index(gauge)]
                family.add_metric(
                    [str(slot)], 0 if gauge == "ready" and self._board.draining else value
                )
            yield family
        starts = CounterMetricFamily(
            "twolayernet_worker_starts", "Times that a worker began.", labels=["worker"]
        )
        model = GaugeMetricFamily(
            "twolayernet_model",
            "1 for what the worker serves.",
            labels=["worker", "name", "version", "digest"],
        )
        for slot, cells in enumerate(rows):
            starts.add_metric([str(slot)], cells[metrics.STARTS])
            if version := int(cells[metrics.GAUGES.index("version")]):
                model.add_metric(
                    [
                        str(slot),
                        self._name,
                        str(version),
                        self._board.digest(slot).tobytes().decode(),
                    ],
                    1,
                )
        yield starts
        yield model


def _cumulative(bounds: tuple[float, ...], counts: list[float]) -> list[tuple[str, float]]:
    """Return Prometheus' buckets: each holds all that is no larger than its bound."""
    labels = [*(repr(float(bound)) for bound in bounds), "+Inf"]
    return list(zip(labels, accumulate(counts), strict=True))
