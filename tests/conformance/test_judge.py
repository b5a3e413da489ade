"""The judge of the conformance tests: it accepts a right reply and rejects each wrong one."""

import contextlib
import copy
import json
import socket
import threading
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.conformance.connection import BrokenReplyError, Connection
from tests.conformance.draw import KINDS, Draw, Kind
from tests.conformance.outcomes import (
    BYTES,
    CSV,
    JSON_LENGTH,
    DocumentReply,
    ErrorReply,
    Outcome,
    Reply,
    differences,
)
from tests.conformance.predictions import (
    ColumnPredictions,
    Predictions,
    RowPredictions,
    Tensors,
)
from tests.conformance.runner import Plan, Sender
from tests.conformance.served import Limits, ServedModel, read_model
from tests.stored import FLOWERS, HOUSES

REQUEST_ID = "abc-1"
HEADERS = (
    ("content-type", "application/json"),
    ("x-request-id", REQUEST_ID),
    ("x-content-type-options", "nosniff"),
)
INDEX = np.array([0, 700, 3], np.intp)
CLASSIFIER = read_model(FLOWERS.artifact, Limits())
REGRESSOR = read_model(HOUSES.artifact, Limits())
IDENTITY = {"name": "flowers", "version": "1"}
Change = Callable[[Any], object]


def outputs(model: ServedModel) -> dict[str, Any]:
    """Return the right outputs for INDEX: the float64 reference as float32."""
    values = {
        name: reference[INDEX].astype(np.float32).tolist()
        for name, reference in model.reference.values.items()
    }
    if model.classes:
        values["label"] = model.reference.values["logits"][INDEX].argmax(axis=1).tolist()
    return values


def reply(document: object, status: int = 200, **headers: str) -> Reply:
    """Return a JSON reply of the service with some headers replaced."""
    changed = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, tuple((dict(HEADERS) | changed).items()), json.dumps(document).encode())


FLOWER_OUTPUTS, HOUSE_OUTPUTS = outputs(CLASSIFIER), outputs(REGRESSOR)["output"]
CLASSIFICATION = {
    "predictions": [CLASSIFIER.classes[label] for label in FLOWER_OUTPUTS["label"]],
    "probabilities": FLOWER_OUTPUTS["probabilities"],
    "classes": list(CLASSIFIER.classes),
    "model": IDENTITY,
}
REGRESSION = {"predictions": HOUSE_OUTPUTS, "model": IDENTITY | {"name": "houses"}}
COLUMNS = {name: FLOWER_OUTPUTS[name] for name in CLASSIFIER.outputs}
ROWS = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)]
LABEL = {"name": "label", "datatype": "INT64", "shape": [3], "data": FLOWER_OUTPUTS["label"]}
LOGITS = {"name": "logits", "datatype": "FP32", "shape": [3, 3]}
LOGITS |= {"data": [value for row in FLOWER_OUTPUTS["logits"] for value in row]}
TENSORS = {"model_name": "flowers", "model_version": "1", "id": "7", "outputs": [LABEL, LOGITS]}
ERROR = {
    "type": "about:blank",
    "title": "Unprocessable Entity",
    "status": 422,
    "detail": "instances[0][1]: expected a number, found true",
    "error": "instances[0][1]: expected a number, found true",
    "request_id": REQUEST_ID,
    "where": "instances[0][1]",
}


def nudge(row: list[float]) -> None:
    """Change a value by more than rounding explains."""
    row[0] += 1e-3 * max(1.0, abs(row[0]))


DOCUMENTS: dict[str, tuple[Outcome, Any, dict[str, Change]]] = {
    "classification": (
        Predictions(CLASSIFIER, INDEX),
        CLASSIFICATION,
        {
            "value": lambda d: nudge(d["probabilities"][1]),
            "row order": lambda d: d["probabilities"].reverse(),
            "missing row": lambda d: d["predictions"].pop(),
            "unknown class": lambda d: d["predictions"].__setitem__(0, "none"),
            "wrong class": lambda d: d["predictions"].reverse(),
            "model name": lambda d: d["model"].update(name="other"),
            "version type": lambda d: d["model"].update(version=1),
            "missing member": lambda d: d.pop("model"),
            "further member": lambda d: d.update(more=1),
        },
    ),
    "regression": (
        Predictions(REGRESSOR, INDEX),
        REGRESSION,
        {
            "value": lambda d: nudge(d["predictions"][1]),
            "null row": lambda d: d["predictions"].__setitem__(0, None),
            "NaN": lambda d: d["predictions"][0].__setitem__(0, float("nan")),
        },
    ),
    "tensors": (
        Tensors(CLASSIFIER, INDEX, {"label": False, "logits": False}, "7"),
        TENSORS,
        {
            "id": lambda d: d.update(id="8"),
            "missing id": lambda d: d.pop("id"),
            "version type": lambda d: d.update(model_version=1),
            "order": lambda d: d["outputs"].reverse(),
            "missing output": lambda d: d["outputs"].pop(),
            "shape": lambda d: d["outputs"][0].update(shape=[3, 1]),
            "datatype": lambda d: d["outputs"][0].update(datatype="INT32"),
            "label range": lambda d: d["outputs"][0].update(data=[9, 9, 9]),
            "label without the largest logit": lambda d: d["outputs"][0]["data"].reverse(),
        },
    ),
    "rows": (
        RowPredictions(CLASSIFIER, INDEX),
        {"predictions": ROWS},
        {
            "row order": lambda d: d["predictions"].reverse(),
            "member": lambda d: d.update(outputs=d.pop("predictions")),
            "missing output": lambda d: d["predictions"][0].pop("label"),
        },
    ),
    "columns": (
        ColumnPredictions(CLASSIFIER, INDEX),
        {"outputs": COLUMNS},
        {"one output": lambda d: d.update(outputs=d["outputs"]["logits"])},
    ),
    "columns of a regression": (
        ColumnPredictions(REGRESSOR, INDEX),
        {"outputs": HOUSE_OUTPUTS},
        {"missing row": lambda d: d["outputs"].pop()},
    ),
}


@pytest.mark.parametrize(
    ("document", "change"),
    [(name, change) for name, (_, _, changes) in DOCUMENTS.items() for change in changes],
)
def test_wrong_document(document: str, change: str) -> None:
    """The right document passes, and one with a single change fails."""
    outcome, right, changes = DOCUMENTS[document]
    assert [] == differences(outcome, reply(right), REQUEST_ID)
    wrong = copy.deepcopy(right)
    changes[change](wrong)
    assert differences(outcome, reply(wrong), REQUEST_ID)


@pytest.mark.parametrize(
    "wrong",
    [
        reply(ERROR, 400),
        reply(ERROR | {"status": 400}, 422),
        reply(ERROR | {"title": "Bad Request"}, 422),
        reply(ERROR | {"where": "instances[0][0]"}, 422),
        reply({name: value for name, value in ERROR.items() if name != "where"}, 422),
        reply(ERROR | dict.fromkeys(("detail", "error"), "instances[0][1]: no"), 422),
        reply(ERROR | dict.fromkeys(("detail", "error"), "expected a number"), 422),
        reply(ERROR | {"error": "another"}, 422),
        reply(ERROR | {"request_id": "other"}, 422),
        reply(ERROR | {"more": 1}, 422),
        reply(ERROR, 422, content_type="text/html"),
        reply(ERROR, 422, x_request_id="other"),
        reply(ERROR, 422, x_content_type_options=""),
        reply(ERROR, 422, set_cookie="a=b"),
        reply([ERROR], 422),
        Reply(422, HEADERS, b'Traceback (most recent call last):\n  File "service/app.py"'),
        Reply(0, (), b"", closed=True),
    ],
)
def test_wrong_error(wrong: Reply) -> None:
    """The right error passes, and one with a wrong status, member, header or type fails."""
    outcome = ErrorReply(422, "instances[0][1]", "expected a number")
    assert [] == differences(outcome, reply(ERROR, 422), REQUEST_ID)
    assert differences(outcome, wrong, REQUEST_ID)


def test_generated_request_id() -> None:
    """The reply to a request without an id must have one of 32 hex digits."""
    alive = {"status": "alive"}
    generated = reply(alive, x_request_id="0123456789abcdef" * 2)
    assert [] == differences(DocumentReply(alive), generated, None)
    assert differences(DocumentReply(alive), reply(alive), None)


def test_wrong_csv_and_bytes() -> None:
    """Replies as CSV and float32 fail with another header, value or number of rows."""
    raw = np.array(HOUSE_OUTPUTS, "<f4").tobytes()
    header = f"prediction_{REGRESSOR.manifest['targets'][0]}"
    table = "".join(f"{line}\n" for line in (header, *(row[0] for row in HOUSE_OUTPUTS))).encode()
    for media_type, parameters, right, wrong in (
        (BYTES, "", raw, (raw[:-4], raw[::-1])),
        (CSV, "; charset=utf-8", table, (table[11:], table.replace(b"\n", b"1\n"))),
    ):
        outcome = Predictions(REGRESSOR, INDEX, media_type)
        head = reply(None, content_type=media_type + parameters)
        assert [] == differences(outcome, head._replace(body=right), REQUEST_ID)
        for body in wrong:
            assert differences(outcome, head._replace(body=body), REQUEST_ID)


def test_wrong_binary_tensors() -> None:
    """A reply with binary tensors fails with another size or other bytes."""
    tail = np.array(FLOWER_OUTPUTS["logits"], "<f4").tobytes()
    members = {name: value for name, value in LOGITS.items() if name != "data"}

    def binary(size: int, tail: bytes) -> Reply:
        logits = members | {"parameters": {"binary_data_size": size}}
        body = json.dumps(TENSORS | {"outputs": [LABEL, logits]}).encode()
        headers = {"content_type": BYTES, JSON_LENGTH: str(len(body))}
        return reply(None, **headers)._replace(body=body + tail)

    outcome = Tensors(CLASSIFIER, INDEX, {"label": False, "logits": True}, "7")
    assert [] == differences(outcome, binary(36, tail), REQUEST_ID)
    for wrong in (binary(4, tail), binary(36, tail + b"\0"), binary(36, tail[::-1])):
        assert differences(outcome, wrong, REQUEST_ID)


def test_request_depends_on_seed_and_number_alone() -> None:
    """The same seed and number give the same bytes in any order; another seed gives others."""
    artifacts = (FLOWERS.artifact, HOUSES.artifact)
    senders = [Sender(Plan(seed, artifacts, (0, 0))) for seed in (0, 0, 1)]
    senders[0].request(2)
    first, again, other = (sender.request(1).case.pieces for sender in senders)
    assert first == again
    assert first != other


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_kind_builds_requests(kind: Kind) -> None:
    """Each kind has a summary and builds requests for both models."""
    assert kind.summary.endswith(".")
    for number in range(10):
        for model in (CLASSIFIER, REGRESSOR):
            random = Random(f"{kind.name}{number}")  # noqa: S311 # not used for cryptography
            assert isinstance(kind.build(Draw(random, model)).outcome, Outcome)


@contextlib.contextmanager
def answering(content: bytes, *, keep: bool = False) -> Iterator[Connection]:
    """Yield a connection to a server that answers with some bytes, and then closes or waits."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        finished = threading.Event()

        def answer() -> None:
            accepted, _ = server.accept()
            with accepted:
                accepted.recv(1000)
                accepted.sendall(content)
                if keep:
                    finished.wait(10)

        thread = threading.Thread(target=answer)
        thread.start()
        connection = Connection(server.getsockname()[1], 0.5 if keep else 10)
        yield connection
        connection.close()
        finished.set()
        thread.join()


REQUEST = (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",)
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("content", "keep", "message"),
    [
        (OK + b"Content-Length: 5\r\n\r\nab", True, "hangs"),
        (OK + b"Content-Length: 5\r\n\r\nab", False, "cut short"),
        (OK + b"Content-", False, "cut short"),
        (OK + b"Content-Length: 2\r\n\r\nab" + OK, True, "17 bytes follow"),
        (OK + b"\r\n", True, "unknown length"),
        (OK + b"Set-Cookie a\r\n\r\n", True, "not a header"),
        (b"\x16\x03\x01\r\n\r\n", True, "not a status line"),
    ],
)
def test_broken_reply(content: bytes, keep: bool, message: str) -> None:
    """A hang, a truncated reply, trailing bytes and other protocols are errors."""
    with (
        answering(content, keep=keep) as connection,
        pytest.raises(BrokenReplyError, match=message),
    ):
        connection.exchange(REQUEST)


def test_readable_reply() -> None:
    """An interim reply is skipped, chunks are joined, and silence is a status of 0."""
    head = b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Transfer-Encoding: chunked\r\nX: a\r\nX: b"
    with answering(head + b"\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n") as connection:
        reply = connection.exchange(REQUEST)
    assert (200, b"abc", "a, b") == (reply.status, reply.body, reply.header("x"))
    with answering(b"") as connection:
        assert Reply(0, (), b"", closed=True) == connection.exchange(REQUEST)
