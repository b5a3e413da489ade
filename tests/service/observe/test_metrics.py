"""service.observe.metrics and prometheus_text: sums over workers that outlive each of them."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.observe.metrics import SharedMetrics, WorkerMetrics
from service.observe.prometheus_text import metrics_text


class Samples:
    """What Prometheus reads from the shared memory."""

    def __init__(self, shared: SharedMetrics) -> None:
        text, content_type = metrics_text(shared, "flowers", "")
        assert content_type.startswith("text/plain")
        self.values = {
            (
                sample.name.removeprefix("twolayernet_"),
                frozenset(sample.labels.items()),
            ): sample.value
            for family in text_string_to_metric_families(text.decode())
            for sample in family.samples
        }

    def value(self, sample: str, /, **labels: str) -> float:
        """Return the value of a sample."""
        return self.values[sample, frozenset(labels.items())]


def test_workers_are_added_up() -> None:
    """Counters and histograms are sums over workers; gauges are labelled with the worker."""
    shared = SharedMetrics(workers=2)
    one, two = WorkerMetrics(shared, 0), WorkerMetrics(shared, 1)
    for worker in (one, two, two):
        worker.entered()
        worker.answered(0, 200, 0.002)
    two.entered()
    two.answered(1, 503, 0.3, "overloaded")
    two.entered()
    two.answered(3, 418, 9.0, "a reason without a label")
    one.entered()
    one.waits(1)
    two.ran(3)
    two.ran(100)
    one.reloaded(True)
    two.reloaded(False)
    samples = Samples(shared)
    for expected, name, labels in (
        (3, "requests_total", {"route": "/predict", "status": "200"}),
        (1, "requests_total", {"route": "/v2/infer", "status": "503"}),
        (1, "requests_total", {"route": "other", "status": "other"}),
        (1, "refusals_total", {"reason": "overloaded"}),
        (1, "refusals_total", {"reason": "other"}),
        (0, "request_seconds_bucket", {"route": "/predict", "le": "0.001"}),
        (3, "request_seconds_bucket", {"route": "/predict", "le": "0.0025"}),
        (3, "request_seconds_count", {"route": "/predict"}),
        (pytest.approx(0.006), "request_seconds_sum", {"route": "/predict"}),
        (0, "request_seconds_bucket", {"route": "other", "le": "5.0"}),
        (1, "request_seconds_bucket", {"route": "other", "le": "+Inf"}),
        (1, "in_flight", {"worker": "0"}),
        (0, "in_flight", {"worker": "1"}),
        (1, "waiting", {"worker": "0"}),
        (103, "rows_total", {}),
        (103, "run_rows_sum", {}),
        (1, "run_rows_bucket", {"le": "4.0"}),
        (2, "run_rows_bucket", {"le": "256.0"}),
        (1, "reloads_total", {"result": "taken"}),
        (1, "reloads_total", {"result": "refused"}),
        (1, "worker_starts_total", {"worker": "1"}),
    ):
        assert expected == samples.value(name, **labels), (name, labels)


def test_successor_continues_the_counters() -> None:
    """Counters never decrease when a worker dies; its gauges, and its version, are reset."""
    shared = SharedMetrics()
    first = WorkerMetrics(shared)
    first.entered()
    first.answered(0, 200, 0.01)
    first.entered()
    first.ready(True)
    first.serves(3, "ab" * 32)
    WorkerMetrics(shared)
    samples = Samples(shared)
    assert 1 == samples.value("requests_total", route="/predict", status="200")
    assert 2 == samples.value("worker_starts_total", worker="0")
    assert 0 == samples.value("in_flight", worker="0") == samples.value("ready", worker="0")
    assert "model" not in {name for name, _ in samples.values}


def test_gauges_of_a_worker_that_ended_are_reset() -> None:
    """The other workers keep theirs; while the service drains, none is ready."""
    shared = SharedMetrics(workers=2)
    for slot in (0, 1):
        worker = WorkerMetrics(shared, slot)
        worker.entered()
        worker.ready(True)
    shared.forget(0)
    samples = Samples(shared)
    for gauge in ("ready", "in_flight"):
        assert [0, 1] == [samples.value(gauge, worker=worker) for worker in ("0", "1")]
    shared.drain()
    assert 0 == Samples(shared).value("ready", worker="1")


def test_forked_worker_writes_shared_memory() -> None:
    """The parent sees the counters, the digest and the draining flag."""
    shared = SharedMetrics(workers=2)
    if (child := os.fork()) == 0:
        worker = WorkerMetrics(shared, 1)
        worker.entered()
        worker.answered(0, 200, 0.01)
        worker.serves(7, "cd" * 32)
        shared.drain()
        os._exit(0)
    os.waitpid(child, 0)
    samples = Samples(shared)
    assert 1 == samples.value("requests_total", route="/predict", status="200")
    assert 1 == samples.value("model", worker="1", name="flowers", version="7", digest="cd" * 32)
    assert shared.draining


def test_threads_lose_no_counts() -> None:
    """Every count of every thread arrives, however often the threads switch."""
    worker = WorkerMetrics()

    def count(_: int) -> None:
        for _ in range(2000):
            worker.entered()
            worker.ran(2)
            worker.answered(3, 404, 9.0)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(count, range(8)))
    finally:
        sys.setswitchinterval(interval)
    samples = Samples(worker.board)
    assert 16_000 == samples.value("requests_total", route="other", status="404")
    assert 16_000 == samples.value("refusals_total", reason="not_found")
    assert 16_000 == samples.value("request_seconds_count", route="other")
    assert 32_000 == samples.value("rows_total")
    assert 0 == samples.value("in_flight", worker="0")


def test_openmetrics_on_request() -> None:
    """The Accept header selects the format."""
    accept = "application/openmetrics-text; version=1.0.0"
    text, content_type = metrics_text(SharedMetrics(), "x", accept)
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")
