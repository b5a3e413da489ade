"""service.app: the routes, the one error shape, and readiness that tells the truth."""

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask
from werkzeug.test import Client, TestResponse

from service.artifact import manifest
from service.runtime import predictor
from service.runtime.predictor import Predictor
from service.settings import ServiceSettings
from service.web.app import create_app
from service.web.request_path import Dispatch
from tests.stored import StoredArtifact
from tests.tables import CLASSES

JSON = "application/json"
ROW = [1.0, 2.0, 3.0, 2001.0]


@pytest.fixture(params=["dispatch", "flask"])
def client(app: Flask, request: pytest.FixtureRequest) -> Client:
    """A client of the classifier, by each of the two ways in: the thin dispatch, and Flask's own behind it."""
    dispatch = app.wsgi_app
    assert isinstance(dispatch, Dispatch)
    return Client(dispatch if request.param == "dispatch" else dispatch.flask)


def post(
    client: Client, body: object, content_type: str | None = JSON, **headers: str
) -> TestResponse:
    """Post a body to /predict; what is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post("/predict", data=data, content_type=content_type, headers=headers)


def document(reply: TestResponse) -> dict[str, Any]:
    """Return the JSON document of a reply."""
    found: dict[str, Any] = json.loads(reply.data)
    return found


def test_classification(client: Client, flowers: StoredArtifact) -> None:
    """Labels in the column's own words, the probabilities of the artifact bit for bit, classes and model."""
    rows = flowers.rows
    reply = post(client, {"instances": rows.tolist()})
    outputs = Predictor(flowers.artifact).predict(rows)
    assert (200, JSON) == (reply.status_code, reply.mimetype)
    assert ["predictions", "probabilities", "classes", "model"] == list(document(reply))
    assert [CLASSES[label] for label in outputs["label"]] == document(reply)["predictions"]
    assert np.array_equal(
        outputs["probabilities"], np.array(document(reply)["probabilities"], np.float32)
    )
    assert list(CLASSES) == document(reply)["classes"]
    assert {"name": "flowers", "version": "1"} == document(reply)["model"]


def test_regression(houses: StoredArtifact) -> None:
    """Predictions in the target's own units, bit for bit the artifact's."""
    client = create_app(ServiceSettings(artifact=houses.artifact)).test_client()
    reply = post(client, {"instances": houses.rows.tolist()})
    assert ["predictions", "model"] == list(document(reply))
    expected = Predictor(houses.artifact).predict(houses.rows)["output"]
    assert np.array_equal(expected, np.array(document(reply)["predictions"], np.float32))


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (
            {
                "instances": [
                    dict(
                        zip(
                            ("sepal width", "year", "petal, length", "größe"),
                            (2, 2001, 1, 3),
                            strict=True,
                        )
                    )
                ]
            },
            JSON,
        ),
        ({"instances": [ROW]}, f"{JSON}; charset=utf-8"),
        ({"instances": [ROW]}, None),
        ({"instances": [ROW]}, "application/x-www-form-urlencoded"),
        (b"1,2,3,2001\n", "text/csv"),
        (
            "year;größe;sepal width;petal, length\r\n2001;3;2;1\r\n".encode("utf-8-sig"),
            "text/csv; header=present",
        ),
        (np.array(ROW, "<f4").tobytes(), "application/octet-stream"),
    ],
    ids=["records", "rows", "no type", "curl's default", "csv", "csv with header", "bytes"],
)
def test_every_form_of_request(client: Client, body: object, content_type: str | None) -> None:
    """The same row in every form has the same answer."""
    assert post(client, {"instances": [ROW]}).json == post(client, body, content_type).json


def test_example_of_the_artifact_works(client: Client, flowers: StoredArtifact) -> None:
    """`curl -d @example.json`, with curl's own Content-Type, is answered."""
    body = (flowers.artifact / manifest.EXAMPLE).read_bytes()
    assert 200 == post(client, body, "application/x-www-form-urlencoded").status_code


@pytest.mark.parametrize(
    ("body", "content_type", "status", "where", "detail"),
    [
        (b"", JSON, 400, None, "the body is empty"),
        (b"", None, 400, None, "the body is empty"),
        (b"{]", JSON, 400, None, "not JSON"),
        (b"[[1, 2, 3, 4]]", JSON, 422, None, 'expected an object with the member "instances"'),
        ({"rows": [ROW]}, JSON, 422, None, 'expected an object with the member "instances"'),
        (
            {"instances": [ROW], "more": 1},
            JSON,
            422,
            "more",
            'expected no member beside "instances"',
        ),
        ({"instances": [ROW, [1, 2, 3]]}, JSON, 422, "instances[1]", "expected 4 values, found 3"),
        (
            {"instances": [[3e38, -3e38, 3e38, 3e38]]},
            JSON,
            422,
            "instances[0]",
            "overflows float32",
        ),
        (b"a,b\n", "text/csv", 422, "line 1", "unknown feature 'a'"),
        (b"123", "application/octet-stream", 422, None, "expected a multiple of 16 bytes"),
        ({"instances": [ROW]}, "text/plain", 415, None, "found text/plain"),
        (b"plain", None, 415, None, "found no Content-Type"),
        (b"x" * 100_001, JSON, 413, None, "expected a body of at most 100000 bytes, found more"),
    ],
)
def test_refusals(
    client: Client,
    body: object,
    content_type: str | None,
    status: int,
    where: str | None,
    detail: str,
) -> None:
    """Every refusal has the one error shape, its status, its place and its reason."""
    reply = post(client, body, content_type)
    problem = document(reply)
    assert (status, status) == (reply.status_code, problem["status"])
    assert {"type", "title", "status", "detail", "error", "request_id"} == set(problem) - {"where"}
    assert where == problem.get("where")
    assert detail in problem["detail"]
    assert problem["detail"] == problem["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/predict", 405), ("POST", "/", 405), ("GET", "/no", 404)],
)
def test_wrong_routes(client: Client, method: str, path: str, status: int) -> None:
    """Errors that Flask itself raises have the same shape, and 405 says what is allowed."""
    reply = client.open(path, method=method)
    assert (status, status) == (reply.status_code, document(reply)["status"])
    assert (status == 405) == ("Allow" in reply.headers)


def test_problem_json_on_request(client: Client) -> None:
    """The media type of RFC 9457 is for those who ask for it."""
    assert (
        "application/problem+json" == post(client, b"", Accept="application/problem+json").mimetype
    )
    assert JSON == post(client, b"").mimetype


def test_request_id(client: Client) -> None:
    """A caller's id is echoed in header and body; one that could forge a log line is replaced."""
    given = post(client, b"", **{"X-Request-ID": "abc-1"})
    assert ("abc-1", "abc-1") == (given.headers["X-Request-ID"], document(given)["request_id"])
    made = post(client, b"", **{"X-Request-ID": "a b"})
    assert re.fullmatch(r"[0-9a-f]{32}", document(made)["request_id"])


def test_internal_errors_show_nothing(
    flowers: StoredArtifact, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of ours is a 500 with an id; what happened is in the log under that id, not in the reply."""

    def fail(*_: object) -> None:
        raise RuntimeError("secret path")

    client: Client = create_app(ServiceSettings(artifact=flowers.artifact)).test_client()
    monkeypatch.setattr(predictor.Predictor, "predict", fail)
    reply = post(client, {"instances": [ROW]})
    assert 500 == reply.status_code
    assert "secret" not in reply.text
    assert document(reply)["request_id"] in caplog.text
    assert "secret path" in caplog.text


def test_healthy_and_ready(client: Client, flowers: StoredArtifact) -> None:
    """Alive, ready with the digest, and the manifest in public."""
    digest = Predictor(flowers.artifact).digest
    assert {"status": "alive"} == client.get("/healthz").json
    ready = {"status": "ready", "model": {"name": "flowers", "version": "1"}, "digest": digest}
    assert ready == client.get("/readyz").json
    stated = json.loads((flowers.artifact / manifest.MANIFEST).read_bytes())
    assert {"digest": digest, **stated} == client.get("/model").json


def test_page(client: Client, flowers: StoredArtifact) -> None:
    """The page names model, version, task and every feature, and its curl line is the example's."""
    page = client.get("/", headers={"Accept": "text/html"}).text
    for text in (
        "flowers",
        "version 1",
        "classification",
        "petal, length",
        "vïrginica",
        Predictor(flowers.artifact).digest,
    ):
        assert text in page
    assert "curl http://localhost/predict -H" in page
    command = html.unescape(page).split("-d '")[1].split("'</pre>")[0]
    assert json.loads((flowers.artifact / manifest.EXAMPLE).read_bytes()) == json.loads(command)


def test_alive_to_kserve(client: Client) -> None:
    """KServe's V1 client asks at / whether the server lives."""
    assert {"status": "alive"} == client.get("/").json


def truncate(path: Path) -> None:
    """Cut the model in half."""
    content = (path / manifest.MODEL).read_bytes()
    (path / manifest.MODEL).write_bytes(content[: len(content) // 2])


def forget(path: Path) -> None:
    """Remove the hashes."""
    (path / manifest.SUMS).unlink()


@pytest.fixture
def broken(artifact: Path, request: pytest.FixtureRequest) -> Client:
    """A client of an application whose artifact was damaged before it started."""
    damage: Callable[[Path], None] = request.param
    damage(artifact)
    return create_app(ServiceSettings(artifact=artifact)).test_client()


@pytest.mark.parametrize(
    ("broken", "reason"),
    [(truncate, "model.onnx: expected SHA-256"), (forget, "holds no artifact")],
    indirect=["broken"],
)
def test_broken_artifact_never_serves(broken: Client, reason: str) -> None:
    """Alive, not ready with the reason, and no prediction: 503 with Retry-After."""
    assert 200 == broken.get("/healthz").status_code
    requests: list[Any] = [
        broken.get("/readyz"),
        broken.get("/model"),
        broken.get("/", headers={"Accept": "text/html"}),
        post(broken, {"instances": [ROW]}),
    ]
    for reply in requests:
        assert 503 == reply.status_code
        assert reason in document(reply)["detail"]
        assert "5" == reply.headers["Retry-After"]


def test_default_artifact_is_the_last_published(flowers: StoredArtifact) -> None:
    """Without a choice, the folder artifacts/ is asked."""
    client = create_app(ServiceSettings(artifacts=flowers.artifact.parent.parent)).test_client()
    assert 200 == client.get("/readyz").status_code
