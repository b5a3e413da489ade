"""service.web.app: the routes, with the thin dispatch and without it, and their errors."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from flask import Flask
from werkzeug.test import Client

from service.artifact import manifest
from service.observe.metrics import WorkerMetrics
from service.runtime import predictor
from service.runtime.predictor import Predictor
from service.settings import ServiceSettings
from service.web.app import create_app
from service.web.request_path import Dispatch
from tests.stored import StoredArtifact

JSON = "application/json"
ROW = [1.0, 2.0, 3.0, 2001.0]
INSTANCES = {"instances": [ROW]}
TENSOR = {"name": "input", "shape": [1, 4], "datatype": "FP32", "data": ROW}
NOT_READY_PATHS = ("/readyz", "/model", "/v2/health/ready", "/v2/models/flowers/ready")


@pytest.fixture(params=["dispatch", "flask"])
def client(app: Flask, request: pytest.FixtureRequest) -> Client:
    """A client of the thin dispatch, or of Flask behind it."""
    dispatch = app.wsgi_app
    assert isinstance(dispatch, Dispatch)
    return Client(dispatch if request.param == "dispatch" else dispatch.flask)


@pytest.mark.parametrize("version", ["", "/versions/1"])
@pytest.mark.parametrize(
    ("path", "document", "places"),
    [
        ("/v2/models/flowers{}/infer", {"inputs": [TENSOR]}, ("outputs", 1, "data")),
        ("/v1/models/flowers{}:predict", {"inputs": [ROW]}, ("outputs", "probabilities", 0)),
        ("/predict", INSTANCES, ("probabilities", 0)),
    ],
)
def test_predictions(
    client: Client,
    flowers: StoredArtifact,
    version: str,
    path: str,
    document: object,
    places: tuple[str | int, ...],
) -> None:
    """Every protocol returns the artifact's probabilities bit for bit."""
    reply = client.post(path.format(version), json=document)
    values = json.loads(reply.data)
    for place in places:
        values = values[place]
    expected = Predictor(flowers.artifact).predict(np.array([ROW], np.float32))["probabilities"][0]
    assert (200, JSON) == (reply.status_code, reply.mimetype)
    assert np.array_equal(expected, np.array(values, np.float32))


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "detail"),
    [
        ("POST", "/predict", b"", 400, "the body is empty"),
        ("POST", "/predict", b'{"instances": [[1]]}', 422, "instances[0]: expected 4 values"),
        ("POST", "/predict", b"1,2", 415, "expected application/json"),
        ("POST", "/predict", b"x" * 100_001, 413, "expected a body of at most 100000 bytes"),
        ("GET", "/predict", b"", 405, "method is not allowed"),
        ("POST", "/", b"", 405, "method is not allowed"),
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
    """Every error, Flask's own too, has the one shape; 405 lists the allowed methods."""
    override = {"REQUEST_METHOD": method, "PATH_INFO": path}
    reply = client.open("/x", method=method, data=body, environ_overrides=override)
    problem = json.loads(reply.data)
    assert (status, status) == (reply.status_code, problem["status"])
    assert {"type", "title", "status", "detail", "error", "request_id"} == set(problem) - {"where"}
    assert detail in problem["detail"]
    assert (status == 405) == ("Allow" in reply.headers)


@pytest.mark.parametrize("path", ["/predict", "/no"])
def test_request_id(client: Client, path: str) -> None:
    """A client's ID is returned in header and body; an unsafe one is replaced."""
    reply = client.post(path, headers={"X-Request-ID": "abc-1"})
    assert ["abc-1"] * 2 == [reply.headers["X-Request-ID"], json.loads(reply.data)["request_id"]]
    reply = client.post(path, headers={"X-Request-ID": "a b"})
    assert re.fullmatch(r"[0-9a-f]{32}", reply.headers["X-Request-ID"])


def test_internal_errors_reveal_nothing(
    flowers: StoredArtifact, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect is a 500 with an ID, under which the log has the cause."""

    def fail(*_: object) -> None:
        raise RuntimeError("secret path")

    client = create_app(ServiceSettings(artifact=flowers.artifact)).test_client()
    monkeypatch.setattr(predictor.Predictor, "predict", fail)
    reply = client.post("/predict", json=INSTANCES)
    assert 500 == reply.status_code
    assert "secret" not in reply.text
    assert json.loads(reply.data)["request_id"] in caplog.text
    assert "secret path" in caplog.text


def test_information(client: Client, flowers: StoredArtifact) -> None:
    """The service is alive, ready with the digest, and shows the manifest."""
    digest = Predictor(flowers.artifact).digest
    assert {"status": "alive"} == client.get("/healthz").json == client.get("/").json
    ready = {"status": "ready", "model": {"name": "flowers", "version": "1"}, "digest": digest}
    assert ready == client.get("/readyz").json
    content = json.loads((flowers.artifact / manifest.MANIFEST).read_bytes())
    assert {"digest": digest, **content} == client.get("/model").json


def test_broken_artifact(artifact: Path) -> None:
    """A service without a valid artifact is alive, and refuses all else with the reason."""
    model = artifact / manifest.MODEL
    model.write_bytes(model.read_bytes()[:-1])
    client = create_app(ServiceSettings(artifact=artifact)).test_client()
    assert [200, 200] == [client.get(path).status_code for path in ("/healthz", "/metrics")]
    replies = [client.get(path) for path in NOT_READY_PATHS]
    replies.append(client.get("/", headers={"Accept": "text/html"}))
    for reply in (*replies, client.post("/predict", json=INSTANCES)):
        assert (503, "5") == (reply.status_code, reply.headers["Retry-After"])
        assert manifest.MODEL in json.loads(reply.data)["detail"]


def test_draining(flowers: StoredArtifact) -> None:
    """A draining service is not ready, still predicts, and closes its connections."""
    metrics = WorkerMetrics()
    client = create_app(ServiceSettings(artifact=flowers.artifact), metrics).test_client()
    metrics.board.drain()
    for path in ("/readyz", "/v2/health/ready", "/v2/models/flowers/ready"):
        assert 503 == client.get(path).status_code
    reply = client.post("/predict", json=INSTANCES)
    assert (200, "close") == (reply.status_code, reply.headers["Connection"])
    states = json.loads(client.get("/v1/models/flowers").data)["model_version_status"]
    assert ["UNLOADING"] == [state["state"] for state in states]


def test_default_artifact_is_the_last_published(flowers: StoredArtifact) -> None:
    """Without a choice, the newest artifact of the folder is served."""
    client = create_app(ServiceSettings(artifacts=flowers.artifact.parent.parent)).test_client()
    assert 200 == client.get("/readyz").status_code
