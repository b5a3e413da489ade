"""Tests of service.observe.metrics and prometheus_text: sums over workers, dead ones included."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from service.observe.metrics import SharedMetrics, WorkerMetrics
from service.observe.prometheus_text import metrics_text


def samples(shared: SharedMetrics) -> dict[str, float]:
    """Return the values that Prometheus reads, by name and labels, such as "ready 0"."""
    text, content_type = metrics_text(shared, "flowers", "")
    assert content_type.startswith("text/plain")
    values = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = [sample.labels[label] for label in sorted(sample.labels)]
            values[" ".join((sample.name.removeprefix("twolayernet_"), *labels))] = sample.value
    return values


def test_workers_are_added_up() -> None:
    """Counters and histograms are sums over workers; gauges are labelled with the worker."""
    shared = SharedMetrics(workers=2)
    one, two = WorkerMetrics(shared, 0), WorkerMetrics(shared, 1)
    for worker in (one, two, two):
        worker.count_arrival()
        worker.count_reply(0, 200, 0.002)
    for route, status, seconds, reason in ((1, 503, 0.3, "overloaded"), (3, 418, 9.0, "unknown")):
        two.count_arrival()
        two.count_reply(route, status, seconds, reason)
    one.count_arrival()
    one.count_wait(1)
    two.count_run(3)
    two.count_run(100)
    one.count_reload(True)
    two.count_reload(False)
    expected = {
        "requests_total /predict 200": 3,
        "requests_total /v2/infer 503": 1,
        "requests_total other other": 1,
        "refusals_total overloaded": 1,
        "refusals_total other": 1,
        "request_seconds_bucket 0.001 /predict": 0,
        "request_seconds_bucket 0.0025 /predict": 3,
        "request_seconds_count /predict": 3,
        "request_seconds_sum /predict": pytest.approx(0.006),
        "request_seconds_bucket 5.0 other": 0,
        "in_flight 0": 1,
        "in_flight 1": 0,
        "waiting 0": 1,
        "rows_total": 103,
        "run_rows_sum": 103,
        "run_rows_bucket 4.0": 1,
        "run_rows_bucket 256.0": 2,
        "reloads_total taken": 1,
        "reloads_total refused": 1,
        "worker_starts_total 1": 1,
    }
    values = samples(shared)
    assert expected == {name: values[name] for name in expected}


def test_successor_resets_gauges_and_continues_counters() -> None:
    """The gauges of a dead worker are zero, and those of other workers are unaffected."""
    shared = SharedMetrics(workers=2)
    for slot in (0, 1):
        worker = WorkerMetrics(shared, slot)
        worker.count_arrival()
        worker.count_reply(0, 200, 0.01)
        worker.count_arrival()
        worker.set_ready(True)
        worker.set_version(3, "ab" * 32)
    shared.forget(0)
    for starts in (1, 2):
        values = samples(shared)
        for gauge in ("ready", "in_flight"):
            assert (0, 1) == (values[f"{gauge} 0"], values[f"{gauge} 1"])
        assert 2 == values["requests_total /predict 200"]
        assert starts == values["worker_starts_total 0"]
        models = [name for name in values if name.startswith("model ")]
        assert [f"model {'ab' * 32} flowers 3 1"] == models
        WorkerMetrics(shared, 0)
    shared.drain()
    assert 0 == samples(shared)["ready 1"]


def test_a_worker_and_its_successor_count_as_one() -> None:
    """Two rows of a worker have one label; what they count is added, and readiness is 0 or 1."""
    shared = SharedMetrics(workers=2)
    old, new = WorkerMetrics(shared, 1), WorkerMetrics(shared, 3)
    for worker in (old, new):
        worker.count_arrival()
        worker.set_ready(True)
        worker.set_version(3, "ab" * 32)
    values = samples(shared)
    expected = {"ready 0": 0, "ready 1": 1, "in_flight 1": 2, "worker_starts_total 1": 2}
    assert expected == {name: values[name] for name in expected}
    assert 1 == values[f"model {'ab' * 32} flowers 3 1"]
    shared.close_connections(1)
    assert (True, False) == (old.closing, new.closing)
    shared.drain()
    assert new.closing
    assert WorkerMetrics(shared, 3).closing


def test_forked_worker_writes_shared_memory() -> None:
    """The parent process sees the counters, the digest and the draining flag of its child."""
    shared = SharedMetrics(workers=2)
    if (child := os.fork()) == 0:
        worker = WorkerMetrics(shared, 1)
        worker.count_arrival()
        worker.count_reply(0, 200, 0.01)
        worker.set_version(7, "cd" * 32)
        shared.drain()
        os._exit(0)
    os.waitpid(child, 0)
    values = samples(shared)
    assert 1 == values["requests_total /predict 200"] == values[f"model {'cd' * 32} flowers 7 1"]
    assert shared.draining


def test_threads_lose_no_counts() -> None:
    """No count is lost, however often the threads switch."""
    worker = WorkerMetrics()

    def count(_: int) -> None:
        for _ in range(2000):
            worker.count_arrival()
            worker.count_run(2)
            worker.count_reply(3, 404, 9.0)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(count, range(8)))
    finally:
        sys.setswitchinterval(interval)
    values = samples(worker.shared)
    assert 16_000 == values["requests_total other 404"] == values["refusals_total not_found"]
    assert 16_000 == values["request_seconds_count other"] == values["rows_total"] / 2
    assert 0 == values["in_flight 0"]


@pytest.mark.parametrize("parameters", ["", "; version=1.0.0", "; q=0.5"])
def test_accept_selects_openmetrics(parameters: str) -> None:
    """A client whose Accept header names OpenMetrics gets this format."""
    accept = f"application/openmetrics-text{parameters}, text/plain;q=0.1"
    text, content_type = metrics_text(SharedMetrics(), "x", accept)
    assert "application/openmetrics-text" == content_type[:28]
    assert b"# EOF" == text[-6:-1]


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from(["text/plain", "application/openmetrics-text"]),
    st.sampled_from(["version", "escaping", "q", ""]),
    st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"])) | st.from_regex(r"[\d.]+"),
)
def test_any_accept_gives_metrics(media_type: str, parameter: str, value: str) -> None:
    """No value of a parameter prevents a reply, and the content type stays one line."""
    text, content_type = metrics_text(
        SharedMetrics(), "x", f"{media_type};{parameter}={value},text/plain;version=x"
    )
    assert b"twolayernet_requests" in text
    assert content_type.isprintable()
