"""Tests of service.web.app: errors, internal errors, broken artifacts, and draining."""

import json
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.test import Client

from service.artifact import manifest
from service.observe.metrics import WorkerMetrics
from service.runtime.predictor import Predictor
from service.settings import ServiceSettings
from service.web.app import create_app
from service.web.request_path import Dispatch
from tests.stored import StoredArtifact

INSTANCES = {"instances": [[1.0, 2.0, 3.0, 2001.0]]}


@pytest.fixture(params=["dispatch", "flask"])
def client(app: Flask, request: pytest.FixtureRequest) -> Client:
    """A client of the Dispatch middleware, or of the Flask application that it wraps."""
    dispatch = app.wsgi_app
    assert isinstance(dispatch, Dispatch)
    return Client(dispatch if request.param == "dispatch" else dispatch.flask)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "detail"),
    [
        ("POST", "/predict", b'{"instances": [[1]]}', 422, "instances[0]: expected 4 values"),
        ("POST", "/predict", b"1,2", 415, "expected application/json"),
        ("POST", "/predict", b"x" * 100_001, 413, "expected a body of at most 100000 bytes"),
        ("GET", "/predict", b"", 405, "method is not allowed"),
        ("GET", "/no", b"", 404, "not found"),
        ("POST", "//predict", b"{}", 404, "expected one slash at the beginning, found '//predict'"),
        ("get", "/healthz", b"", 405, "expected a method in upper case"),
        ("GET", "/v2/models/no", b"", 404, "expected the model flowers, found 'no'"),
        ("GET", "/v1/models/flowers/versions/7", b"", 404, "expected version 1, found '7'"),
    ],
)
def test_errors(
    client: Client, method: str, path: str, body: bytes, status: int, detail: str
) -> None:
    """All errors, even those of Flask, have the same members; 405 lists the allowed methods."""
    override = {"REQUEST_METHOD": method, "PATH_INFO": path}
    reply = client.open("/x", method=method, data=body, environ_overrides=override)
    problem = json.loads(reply.data)
    assert (status, status) == (reply.status_code, problem["status"])
    assert {"type", "title", "status", "detail", "error", "request_id"} == set(problem) - {"where"}
    assert detail in problem["detail"]
    assert (status == 405) == ("Allow" in reply.headers)


def test_internal_errors_reveal_nothing(
    flowers: StoredArtifact, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect gives status 500 and an ID; the log has the traceback with the same ID."""
    client = create_app(ServiceSettings(artifact=flowers.artifact)).test_client()
    monkeypatch.setattr(Predictor, "predict", lambda *_: int("secret"))
    reply = client.post("/predict", json=INSTANCES)
    assert (500, False) == (reply.status_code, "secret" in reply.text)
    assert json.loads(reply.data)["request_id"] in caplog.text
    assert "ValueError: invalid literal for int() with base 10: 'secret'" in caplog.text


def test_broken_artifact(artifact: Path) -> None:
    """Without a valid artifact, /healthz and /metrics work; all other paths give the reason."""
    model = artifact / manifest.MODEL
    model.write_bytes(model.read_bytes()[:-1])
    client = create_app(ServiceSettings(artifact=artifact)).test_client()
    assert [200, 200] == [client.get(path).status_code for path in ("/healthz", "/metrics")]
    paths = ("/readyz", "/model", "/v2/health/ready", "/v2/models/flowers/ready")
    replies = [client.get(path, headers={"Accept": "text/html"}) for path in ("/", *paths)]
    for reply in (*replies, client.post("/predict", json=INSTANCES)):
        assert (503, "5") == (reply.status_code, reply.headers["Retry-After"])
        assert manifest.MODEL in json.loads(reply.data)["detail"]


def test_a_retired_worker(flowers: StoredArtifact) -> None:
    """A worker that is replaced is ready, because the service is, but closes its connections."""
    metrics = WorkerMetrics()
    client = create_app(ServiceSettings(artifact=flowers.artifact), metrics).test_client()
    for connection in (None, "close"):
        for reply in (client.get("/readyz"), client.post("/predict", json=INSTANCES)):
            assert (200, connection) == (reply.status_code, reply.headers.get("Connection"))
        metrics.shared.close_connections(0)


def test_draining(flowers: StoredArtifact) -> None:
    """A draining service is not ready, but still predicts, and closes its connections."""
    metrics = WorkerMetrics()
    client = create_app(ServiceSettings(artifact=flowers.artifact), metrics).test_client()
    metrics.shared.drain()
    for path in ("/readyz", "/v2/health/ready", "/v2/models/flowers/ready"):
        assert 503 == client.get(path).status_code
    reply = client.post("/predict", json=INSTANCES)
    assert (200, "close") == (reply.status_code, reply.headers["Connection"])
    states = json.loads(client.get("/v1/models/flowers").data)["model_version_status"]
    assert ["UNLOADING"] == [state["state"] for state in states]
