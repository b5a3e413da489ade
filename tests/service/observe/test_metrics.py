"""service.metrics: what several workers count adds up, whoever is asked and whoever has died."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.observe import prometheus_text
from service.observe.metrics import SharedMetrics, WorkerMetrics

PREFIX = "twolayernet_"


def samples(board: SharedMetrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return what Prometheus would read: by name and labels."""
    text, content_type = prometheus_text.metrics_text(board, "flowers", "")
    assert content_type.startswith("text/plain")
    families = text_string_to_metric_families(text.decode())
    return {
        (sample.name.removeprefix(PREFIX), frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def at(
    found: dict[tuple[str, frozenset[tuple[str, str]]], float], sample: str, /, **labels: str
) -> float:
    """Return one sample."""
    return found[sample, frozenset(labels.items())]


def test_workers_add_up() -> None:
    """Counters and histograms are the sums over workers; gauges are told apart by worker."""
    board = SharedMetrics(workers=2)
    one, two = WorkerMetrics(board, 0), WorkerMetrics(board, 1)
    for figures in (one, two, two):
        figures.entered()
        figures.answered(0, 200, 0.002)
    two.entered()
    two.answered(1, 503, 0.3, "overloaded")
    one.entered()
    two.ran(3)
    two.ran(100)
    found = samples(board)
    assert 3 == at(found, "requests_total", route="/predict", status="200")
    assert 1 == at(found, "requests_total", route="/v2/infer", status="503")
    assert 1 == at(found, "refusals_total", reason="overloaded")
    assert 0 == at(found, "request_seconds_bucket", route="/predict", le="0.001")
    assert 3 == at(found, "request_seconds_bucket", route="/predict", le="0.0025")
    assert 3 == at(found, "request_seconds_count", route="/predict")
    assert pytest.approx(0.006) == at(found, "request_seconds_sum", route="/predict")
    assert (1, 0) == (at(found, "in_flight", worker="0"), at(found, "in_flight", worker="1"))
    assert 103 == at(found, "rows_total")
    assert 1 == at(found, "run_rows_bucket", le="4.0")
    assert 2 == at(found, "run_rows_bucket", le="256.0")


def test_a_successor_keeps_the_counters() -> None:
    """Counters never fall when a worker dies, because its successor goes on with them; its gauges begin anew."""
    board = SharedMetrics()
    first = WorkerMetrics(board)
    first.entered()
    first.answered(0, 200, 0.01)
    first.entered()
    first.ready(True)
    first.serves(3, "ab" * 32)
    WorkerMetrics(board)
    found = samples(board)
    assert 1 == at(found, "requests_total", route="/predict", status="200")
    assert 2 == at(found, "worker_starts_total", worker="0")
    assert (0, 0) == (at(found, "in_flight", worker="0"), at(found, "ready", worker="0"))
    assert [] == [name for name, _ in found if name == "model"]


def test_what_is_forgotten() -> None:
    """Of a worker that has ended nothing is true; while draining nobody is ready."""
    board = SharedMetrics(workers=2)
    for slot in (0, 1):
        figures = WorkerMetrics(board, slot)
        figures.entered()
        figures.ready(True)
    board.forget(0)
    found = samples(board)
    assert (0, 1) == (at(found, "ready", worker="0"), at(found, "ready", worker="1"))
    assert (0, 1) == (at(found, "in_flight", worker="0"), at(found, "in_flight", worker="1"))
    board.drain()
    assert 0 == at(samples(board), "ready", worker="1")


def test_what_a_forked_worker_counts_is_seen() -> None:
    """The board is the memory of all processes that were forked after it was made."""
    board = SharedMetrics(workers=2)
    if (child := os.fork()) == 0:
        figures = WorkerMetrics(board, 1)
        figures.entered()
        figures.answered(0, 200, 0.01)
        figures.serves(7, "cd" * 32)
        board.drain()
        os._exit(0)
    os.waitpid(child, 0)
    found = samples(board)
    assert 1 == at(found, "requests_total", route="/predict", status="200")
    assert 1 == at(found, "model", worker="1", name="flowers", version="7", digest="cd" * 32)
    assert board.draining


def test_threads_lose_nothing() -> None:
    """Every count of every thread arrives, however often they take turns."""
    figures = WorkerMetrics()

    def count(_: int) -> None:
        for _ in range(2000):
            figures.entered()
            figures.ran(2)
            figures.answered(3, 404, 9.0)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(count, range(8)))
    finally:
        sys.setswitchinterval(interval)
    found = samples(figures.board)
    assert 16_000 == at(found, "requests_total", route="other", status="404")
    assert 16_000 == at(found, "refusals_total", reason="not_found")
    assert 32_000 == at(found, "rows_total")
    assert 0 == at(found, "in_flight", worker="0")
    assert 16_000 == at(found, "request_seconds_bucket", route="other", le="+Inf")
    assert 0 == at(found, "request_seconds_bucket", route="other", le="5.0")


def test_openmetrics_on_request() -> None:
    """Whoever asks for OpenMetrics has it."""
    text, content_type = prometheus_text.metrics_text(
        SharedMetrics(), "x", "application/openmetrics-text; version=1.0.0"
    )
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")
