"""tests/conformance/probe.py: the service answers as it must, and a reply that differs from its one right outcome is found."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.conformance import probe
from tests.conformance.probes import replies, servers, subject
from tests.conformance.probes.answers import Columns, Predictions, Rows, Tensors
from tests.conformance.probes.ask import KINDS, Ask, Kind
from tests.conformance.probes.connection import Broken, Connection
from tests.conformance.probes.replies import Document, Expected, HostRefusal, Refusal, Reply
from tests.conformance.probes.subject import Limits, Subject
from tests.serving import ROOT
from tests.stored import StoredArtifact

ID = "abc-1"
HEADERS = (
    ("content-type", "application/json"),
    ("x-request-id", ID),
    ("x-content-type-options", "nosniff"),
)
Change = Callable[[Any], Any]


@pytest.fixture(scope="module")
def classifier(flowers: StoredArtifact) -> Subject:
    """The classifier as the probe reads it."""
    return subject.read(flowers.artifact, Limits())


@pytest.fixture(scope="module")
def regressor(houses: StoredArtifact) -> Subject:
    """The regressor as the probe reads it."""
    return subject.read(houses.artifact, Limits())


def outputs(asked: Subject, index: subject.Index) -> dict[str, Any]:
    """Return what a right reply holds, by output: float64's answers as float32."""
    found = {
        name: values[index].astype(np.float32).tolist()
        for name, values in asked.answers.values.items()
    }
    if asked.classes:
        found["label"] = asked.answers.values["logits"][index].argmax(axis=1).tolist()
    return found


def reply(document: object, status: int = 200, **headers: str) -> Reply:
    """Return a JSON reply of the service."""
    more = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    kept = tuple(pair for pair in HEADERS if pair[0] not in dict(more))
    return Reply(status, kept + more, json.dumps(document).encode())


def wrong(expected: Expected, found: Reply) -> list[str]:
    """Return what is wrong with a reply to a request that had an id."""
    return replies.faults(expected, found, ID)


INDEX = np.array([3, 0, 5])


def native(asked: Subject) -> dict[str, Any]:
    """Return the native document that is right for the rows of INDEX."""
    found = outputs(asked, INDEX)
    model = {"name": asked.name, "version": asked.version}
    if not asked.classes:
        return {"predictions": found["output"], "model": model}
    names = [asked.classes[label] for label in found["label"]]
    about = {"classes": list(asked.classes), "model": model}
    return {"predictions": names, "probabilities": found["probabilities"], **about}


def nudge(values: list[list[float]], by: float = 1e-3) -> None:
    """Move one value by more than rounding explains."""
    values[1][0] += by * max(1.0, abs(values[1][0]))


CHANGES: dict[str, Change] = {
    "a value": lambda d: nudge(d.get("probabilities", d["predictions"])),
    "rows exchanged": lambda d: d.get("probabilities", d["predictions"]).reverse(),
    "a row too few": lambda d: d["predictions"].pop(),
    "a row of no numbers": lambda d: d["predictions"].__setitem__(0, None),
    "another model": lambda d: d["model"].update(name="other"),
    "another version": lambda d: d["model"].update(version=1),
    "no model": lambda d: d.pop("model"),
    "a member more": lambda d: d.update(more=1),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("name", ["classifier", "regressor"])
def test_wrong_predictions_are_found(
    name: str, change: Change, request: pytest.FixtureRequest
) -> None:
    """The right document passes; changed in any one way, it does not."""
    asked: Subject = request.getfixturevalue(name)
    document = native(asked)
    assert [] == wrong(Predictions(asked, INDEX), reply(document))
    change(document)
    assert wrong(Predictions(asked, INDEX), reply(document))


def test_wrong_labels_are_found(classifier: Subject) -> None:
    """A class that is not the row's, and a class that is none; and a label that contradicts the logits beside it."""
    document = native(classifier)
    for other in (*(set(classifier.classes) - {document["predictions"][0]}), "none"):
        assert wrong(
            Predictions(classifier, INDEX),
            reply(document | {"predictions": [other, *document["predictions"][1:]]}),
        )
    found = outputs(classifier, INDEX)
    found["label"] = [(label + 1) % 3 for label in found["label"]]
    assert wrong(Columns(classifier, INDEX), reply({"outputs": found}))


def test_other_forms_of_predictions(classifier: Subject, regressor: Subject) -> None:
    """CSV and bytes pass where they are right, and not where a value, a row or the header is another."""
    found = outputs(regressor, INDEX)["output"]
    raw = np.array(found, "<f4").tobytes()
    binary = Predictions(regressor, INDEX, replies.BYTES)
    form = (*HEADERS[1:], ("content-type", replies.BYTES))
    assert [] == wrong(binary, Reply(200, form, raw))
    assert wrong(binary, Reply(200, form, raw[:-4]))
    assert wrong(binary, Reply(200, form, raw[::-1]))

    target = f"prediction_{regressor.manifest['targets'][0]}"
    text = "".join(f"{line}\n" for line in (target, *(repr(row[0]) for row in found)))
    table = Predictions(regressor, INDEX, replies.CSV)
    form = (*HEADERS[1:], ("content-type", "text/csv; charset=utf-8"))
    assert [] == wrong(table, Reply(200, form, text.encode()))
    assert wrong(table, Reply(200, form, text.replace("prediction_", "").encode()))
    assert wrong(table, Reply(200, form, text.replace("\n", "1\n").encode()))
    assert wrong(table, Reply(200, HEADERS, text.encode()))


@pytest.mark.parametrize("binary", [False, True])
def test_wrong_tensors_are_found(binary: bool, classifier: Subject) -> None:
    """The Open Inference Protocol's reply passes; with another id, shape, datatype, size, order or byte it does not."""
    found = outputs(classifier, INDEX)
    expected = Tensors(classifier, INDEX, {"label": False, "logits": binary}, "7")
    logits: dict[str, Any] = {"name": "logits", "datatype": "FP32", "shape": [3, 3]}
    tail = np.array(found["logits"], "<f4").tobytes() if binary else b""
    flat = [value for row in found["logits"] for value in row]
    logits |= {"parameters": {"binary_data_size": len(tail)}} if binary else {"data": flat}
    label = {"name": "label", "datatype": "INT64", "shape": [3], "data": found["label"]}
    right = {"model_name": "flowers", "model_version": "1", "id": "7", "outputs": [label, logits]}

    def sent(document: dict[str, Any], tail: bytes = tail) -> Reply:
        head = json.dumps(document).encode()
        made = reply(document)
        if binary:
            form = (
                ("content-type", replies.BYTES),
                ("inference-header-content-length", str(len(head))),
            )
            made = reply(document)._replace(headers=(*HEADERS[1:], *form))
        return made._replace(body=head + tail)

    assert [] == wrong(expected, sent(right))
    for document in (
        right | {"id": "8"},
        {name: value for name, value in right.items() if name != "id"},
        right | {"model_version": 1},
        right | {"outputs": [logits, label]},
        right | {"outputs": [label]},
        right | {"outputs": [label | {"shape": [3, 1]}, logits]},
        right | {"outputs": [label | {"datatype": "INT32"}, logits]},
        right | {"outputs": [label | {"data": [9, 9, 9]}, logits]},
        right | {"outputs": [label, logits | {"parameters": {"binary_data_size": 4}}]},
    ):
        assert wrong(expected, sent(document)), document
    if binary:
        assert wrong(expected, sent(right, tail + b"\0"))
        assert wrong(expected, sent(right, tail[:-1]))
        assert wrong(expected, sent(right, tail[::-1]))


def test_wrong_rows_and_columns_are_found(classifier: Subject, regressor: Subject) -> None:
    """TensorFlow Serving's two forms, each of both tasks."""
    found = outputs(classifier, INDEX)
    columns = {name: found[name] for name in classifier.outputs}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    plain = outputs(regressor, INDEX)["output"]
    assert [] == wrong(Rows(classifier, INDEX), reply({"predictions": rows}))
    assert [] == wrong(Columns(classifier, INDEX), reply({"outputs": columns}))
    assert [] == wrong(Rows(regressor, INDEX), reply({"predictions": plain}))
    assert [] == wrong(Columns(regressor, INDEX), reply({"outputs": plain}))
    assert wrong(Rows(classifier, INDEX), reply({"predictions": rows[::-1]}))
    assert wrong(Rows(classifier, INDEX), reply({"outputs": columns}))
    assert wrong(Columns(classifier, INDEX), reply({"outputs": columns["logits"]}))
    assert wrong(Columns(regressor, INDEX), reply({"outputs": plain[:2]}))


PROBLEM = {
    "type": "about:blank",
    "title": "Unprocessable Entity",
    "status": 422,
    "detail": "instances[0][1]: expected a number, found true",
    "error": "instances[0][1]: expected a number, found true",
    "request_id": ID,
    "where": "instances[0][1]",
}


@pytest.mark.parametrize(
    "changed",
    [
        reply(PROBLEM, 400),
        reply(PROBLEM, 500),
        reply(PROBLEM | {"status": 400}, 422),
        reply(PROBLEM | {"title": "Bad Request"}, 422),
        reply(PROBLEM | {"where": "instances[0][0]"}, 422),
        reply({name: value for name, value in PROBLEM.items() if name != "where"}, 422),
        reply(PROBLEM | {"detail": "instances[0][1]: no"}, 422),
        reply(PROBLEM | {"detail": "instances[0][1]: no", "error": "instances[0][1]: no"}, 422),
        reply(PROBLEM | {"detail": "expected a number", "error": "expected a number"}, 422),
        reply(PROBLEM | {"request_id": "other"}, 422),
        reply(PROBLEM | {"more": 1}, 422),
        reply(PROBLEM, 422, content_type="text/html"),
        reply(PROBLEM, 422, x_request_id="other"),
        reply(PROBLEM, 422, x_content_type_options=""),
        reply(PROBLEM, 422, set_cookie="a=b"),
        reply([PROBLEM], 422),
        Reply(422, HEADERS, b""),
        Reply(422, HEADERS, b'Traceback (most recent call last):\n  File "service/app.py", line 1'),
        Reply(0, (), b"", closed=True),
    ],
)
def test_wrong_refusals_are_found(changed: Reply) -> None:
    """Status, place, detail, id, members, media type and headers: each alone is enough."""
    expected = Refusal(422, "instances[0][1]", "expected a number")
    assert [] == wrong(expected, reply(PROBLEM, 422))
    assert wrong(expected, changed)


def test_ids_are_made_where_there_is_none() -> None:
    """A reply to a request without an id has one of the service's own."""
    made = reply({"status": "alive"}, x_request_id="0123456789abcdef" * 2)
    assert [] == replies.faults(Document({"status": "alive"}), made, None)
    assert replies.faults(Document({"status": "alive"}), reply({"status": "alive"}), None)


def test_values_that_are_not_finite_are_found(regressor: Subject) -> None:
    """NaN is within no bound, and no JSON."""
    document = native(regressor)
    document["predictions"][0][0] = float("nan")
    assert wrong(Predictions(regressor, INDEX), reply(document))
    assert list(regressor.faults(INDEX, {"output": document["predictions"]}))


def asker(*artifacts: Path, only: str = "", seed: int = 0) -> probe.Asker:
    """Return what makes the requests, without servers to send them to."""
    return probe.Asker(
        probe.Plan(seed, (5, 4, 2), only, artifacts, (0,) * len(artifacts), Limits(), 1.0, 1)
    )


def test_a_request_is_known_by_seed_and_number(
    flowers: StoredArtifact, houses: StoredArtifact
) -> None:
    """The same seed and number make the same bytes, in whatever order they are asked for; another seed makes others."""
    numbers = [(0, 1), (0, 2), (0, 1), (1, 1)]
    made = [
        asker(flowers.artifact, houses.artifact, seed=seed).make(number).probe.pieces
        for seed, number in numbers
    ]
    assert made[0] == made[2]
    assert 3 == len(set(map(tuple, made)))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_makes_requests(kind: Kind, classifier: Subject, regressor: Subject) -> None:
    """Each kind says what it is, and makes requests of both subjects."""
    assert kind.about.endswith((".", "?"))
    for number in range(20):
        for asked in (classifier, regressor):
            made = kind.make(Ask(Random(f"{kind.name}{number}"), asked))  # noqa: S311 # chance, and no secret
            assert isinstance(made.expected, Expected)


@contextlib.contextmanager
def answering(content: bytes, *, keep: bool = False) -> Iterator[int]:
    """Listen on a port, answer one connection with some bytes, and close it, unless it is to be kept."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(content)
                if keep:
                    done.wait(10)

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        done.set()
        thread.join()


REQUEST = (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",)


@pytest.mark.parametrize(
    ("content", "keep", "message"),
    [
        (b"", True, "hangs"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", True, "hangs"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", False, "cut short"),
        (b"HTTP/1.1 200 OK\r\nContent-", False, "cut short"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 200 OK", True, "15 bytes follow"),
        (b"HTTP/1.1 200 OK\r\n\r\n", True, "unknown length"),
        (b"HTTP/1.1 200 OK\r\nSet-Cookie a\r\n\r\n", True, "not a header"),
        (b"\x16\x03\x01\r\n\r\n", True, "not a status line"),
    ],
)
def test_broken_replies_are_found(content: bytes, keep: bool, message: str) -> None:
    """A hang, a reply that is cut short, one with more behind it, and what is not HTTP."""
    with answering(content, keep=keep) as port, pytest.raises(Broken, match=message):
        Connection(port, 0.5).exchange(REQUEST)


def test_replies_are_read() -> None:
    """A status that announces another is passed over; chunks are joined; silence is a status of 0."""
    content = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: a\r\nX: b\r\n\r\n"
    with answering(content + b"2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n") as port:
        connection = Connection(port, 5)
        found = connection.exchange(REQUEST)
        connection.close()
    assert (200, b"abc", "a, b", False) == (
        found.status,
        found.body,
        found.header("x"),
        found.closed,
    )
    with answering(b"") as port:
        assert Reply(0, (), b"", closed=True) == Connection(port, 5).exchange(REQUEST)
    with answering(
        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    ) as port:
        assert [] == replies.faults(HostRefusal(400), Connection(port, 5).exchange(REQUEST), None)


@pytest.mark.e2e
def test_a_wrong_expectation_is_reported(
    flowers: StoredArtifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked with expectations that are turned round, a healthy server is found wrong, and the example says how."""
    asking = asker(flowers.artifact, only="v2: numbers")
    with servers.serving(flowers.artifact, tmp_path / "log", Limits().environment()) as server:
        connection = Connection(server.port, 20)
        asking.connections = [connection]
        assert not asking.ask(range(20)).wrong
        right = KINDS["v2: numbers"]

        def turned(ask: Ask) -> Any:
            return right.make(ask)._replace(expected=Refusal(422, "inputs[0].data"))

        monkeypatch.setattr(asking, "kinds", [(1, [Kind(right.name, right.group, 1, turned)])])
        tally = asking.ask(range(20))
        connection.close()
        assert [] == server.trouble()
    assert {"v2: numbers": 20} == tally.wrong
    assert "WRONG status: expected 422, found 200" in tally.examples["v2: numbers"][0]


@pytest.mark.e2e
@pytest.mark.slow
def test_thousands_of_requests(flowers: StoredArtifact, houses: StoredArtifact) -> None:
    """Of 4,000 requests of every kind, not one is answered otherwise than it must be."""
    artifacts = [part for made in (flowers, houses) for part in ("--artifact", str(made.artifact))]
    command = [
        sys.executable,
        "tests/conformance/probe.py",
        "4000",
        "--seed",
        "11",
        "--jobs",
        "2",
        *artifacts,
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert 0 == done.returncode, done.stdout + done.stderr
    document = json.loads(done.stdout.splitlines()[-1])
    assert (4000, 0, []) == (document["requests"], document["wrong"], document["trouble"])
    assert document["kinds"] > 0.9 * len(KINDS)
