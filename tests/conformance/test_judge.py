"""The checks of the conformance tests accept a right reply and reject each wrong one."""

import contextlib
import copy
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.conformance.connection import BrokenReplyError, Connection
from tests.conformance.kinds.guarded import ORIGINS, Guarded
from tests.conformance.outcomes import (
    ANYWHERE,
    BYTES,
    CSV,
    JSON_LENGTH,
    AnyOf,
    ErrorReply,
    HostError,
    Outcome,
    Reply,
    differences,
)
from tests.conformance.predictions import ColumnPredictions, Predictions, RowPredictions, Tensors
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
LOGITS: dict[str, Any] = {"name": "logits", "datatype": "FP32", "shape": [3, 3]}
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
ERROR_CHANGES: list[dict[str, Any]] = [
    *({"status": 400}, {"title": "Bad Request"}, {"where": "instances[0][0]"}, {"more": 1}),
    *({"error": "another"}, {"request_id": "other"}),
    *(dict.fromkeys(("detail", "error"), text) for text in ("instances[0][1]: no", "a number")),
]
RAW = np.array(FLOWER_OUTPUTS["logits"], "<f4").tobytes()
TABLE = f"prediction_{REGRESSOR.manifest['targets'][0]}\n".encode()
TABLE += "".join(f"{row[0]}\n" for row in HOUSE_OUTPUTS).encode()


def nudge(row: list[float]) -> None:
    """Change a value by more than a rounding error."""
    row[0] += 1e-3 * max(1.0, abs(row[0]))


def changed(document: Any, *changes: Change) -> list[Reply]:
    """Return one JSON reply per change, each with a changed copy of the document."""
    copies = [copy.deepcopy(document) for _ in changes]
    for change, copied in zip(changes, copies, strict=True):
        change(copied)
    return [reply(copied) for copied in copies]


def binary(media_type: str, *bodies: bytes) -> list[Reply]:
    """Return one reply per body, with a media type other than JSON."""
    return [reply(None, content_type=media_type)._replace(body=body) for body in bodies]


def binary_tensors(size: int, tail: bytes) -> Reply:
    """Return a V2 reply whose logits are binary, with a declared size and a tail of bytes."""
    logits = {name: value for name, value in LOGITS.items() if name != "data"}
    logits["parameters"] = {"binary_data_size": size}
    body = json.dumps(TENSORS | {"outputs": [LABEL, logits]}).encode()
    headers = (*reply(None, content_type=BYTES).headers, (JSON_LENGTH, str(len(body))))
    return Reply(200, headers, body + tail)


CASES: dict[str, tuple[Outcome, Reply, list[Reply]]] = {
    "classification": (
        Predictions(CLASSIFIER, INDEX),
        reply(CLASSIFICATION),
        changed(
            CLASSIFICATION,
            lambda d: nudge(d["probabilities"][1]),
            lambda d: d["probabilities"].reverse(),
            lambda d: d["predictions"].reverse(),
            lambda d: d["predictions"].__setitem__(0, "none"),
            lambda d: d["model"].update(name="other"),
            lambda d: d.update(more=1),
        ),
    ),
    "regression": (
        Predictions(REGRESSOR, INDEX),
        reply(REGRESSION),
        changed(
            REGRESSION,
            lambda d: nudge(d["predictions"][1]),
            lambda d: d["predictions"].__setitem__(0, None),
            lambda d: d["predictions"][0].__setitem__(0, float("nan")),
        ),
    ),
    "CSV": (
        Predictions(REGRESSOR, INDEX, CSV),
        binary("text/csv; charset=utf-8", TABLE)[0],
        binary("text/csv; charset=utf-8", TABLE[11:], TABLE.replace(b"\n", b"1\n")),
    ),
    "bytes": (
        Predictions(CLASSIFIER, INDEX, BYTES),
        binary(BYTES, np.array(FLOWER_OUTPUTS["probabilities"], "<f4").tobytes())[0],
        binary(BYTES, RAW, RAW[:-4], b""),
    ),
    "tensors": (
        Tensors(CLASSIFIER, INDEX, {"label": False, "logits": False}, "7"),
        reply(TENSORS),
        changed(
            TENSORS,
            lambda d: d.update(id="8"),
            lambda d: d.update(model_version=1),
            lambda d: d["outputs"].reverse(),
            lambda d: d["outputs"][0].update(shape=[3, 1]),
            lambda d: d["outputs"][0].update(data=[9, 9, 9]),
            lambda d: d["outputs"][0]["data"].reverse(),
        ),
    ),
    "binary tensors": (
        Tensors(CLASSIFIER, INDEX, {"label": False, "logits": True}, "7"),
        binary_tensors(36, RAW),
        [binary_tensors(4, RAW), binary_tensors(36, RAW + b"\0"), binary_tensors(36, RAW[::-1])],
    ),
    "rows": (
        RowPredictions(CLASSIFIER, INDEX),
        reply({"predictions": ROWS}),
        changed(
            {"predictions": ROWS},
            lambda d: d["predictions"].reverse(),
            lambda d: d.update(outputs=d.pop("predictions")),
            lambda d: d["predictions"][0].pop("label"),
        ),
    ),
    "columns": (
        ColumnPredictions(CLASSIFIER, INDEX),
        reply({"outputs": COLUMNS}),
        changed({"outputs": COLUMNS}, lambda d: d.update(outputs=d["outputs"]["logits"])),
    ),
    "error": (
        ErrorReply(422, "instances[0][1]", "expected a number"),
        reply(ERROR, 422),
        [
            reply(ERROR, 400),
            *(reply(ERROR | change, 422) for change in ERROR_CHANGES),
            reply({name: value for name, value in ERROR.items() if name != "where"}, 422),
            reply(ERROR, 422, content_type="text/html"),
            reply(ERROR, 422, x_request_id="other"),
            reply(ERROR, 422, x_content_type_options=""),
            reply(ERROR, 422, set_cookie="a=b"),
            reply([ERROR], 422),
            Reply(422, HEADERS, b"Traceback (most recent call last):"),
            Reply(0, (), b"", closed=True),
        ],
    ),
    "error or rejection by the host": (
        AnyOf([ErrorReply(422, ANYWHERE), HostError(400)]),
        reply(ERROR, 422),
        [
            reply(ERROR | {"where": "instances[1]"}, 422),
            reply(ERROR, 400),
            reply(ERROR, 422, x_request_id="other"),
            Reply(500, (), b"", closed=True),
            Reply(400, (), b""),
        ],
    ),
    "CORS": (
        Guarded(ErrorReply(422, ANYWHERE), ORIGINS[0], preflight=False),
        reply(ERROR, 422, access_control_allow_origin=ORIGINS[0], vary="Origin"),
        [
            reply(ERROR, 422, access_control_allow_origin=ORIGINS[0]),
            reply(ERROR, 422, access_control_allow_origin="*", vary="Origin"),
            reply(ERROR, 422, vary="Origin"),
            reply(ERROR, 401, access_control_allow_origin=ORIGINS[0], vary="Origin"),
        ],
    ),
}


@pytest.mark.parametrize(("outcome", "right", "wrong"), CASES.values(), ids=list(CASES))
def test_wrong_replies(outcome: Outcome, right: Reply, wrong: list[Reply]) -> None:
    """The right reply passes, and every wrong one fails."""
    assert [] == differences(outcome, right, REQUEST_ID)
    assert [] == [reply for reply in wrong if not differences(outcome, reply, REQUEST_ID)]


def test_request_depends_on_seed_and_number_alone() -> None:
    """A seed and a number always give the same bytes; another seed gives different bytes."""
    artifacts = (FLOWERS.artifact, HOUSES.artifact)
    senders = [Sender(Plan(seed, artifacts, (0, 0))) for seed in (0, 0, 1)]
    senders[0].request(2)
    first, again, other = (sender.request(1).case.pieces for sender in senders)
    assert first == again
    assert first != other


@contextlib.contextmanager
def answering(content: bytes, *, keep: bool = False) -> Iterator[Connection]:
    """Yield a connection to a server that sends some bytes, and then closes or waits."""
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
        (OK + b"Content-Length: 2\r\n\r\nab" + OK, True, "17 bytes follow"),
        (OK + b"\r\n", True, "unknown length"),
        (OK + b"Set-Cookie a\r\n\r\n", True, "not a header"),
        (b"\x16\x03\x01\r\n\r\n", True, "not a status line"),
    ],
)
def test_broken_reply(content: bytes, keep: bool, message: str) -> None:
    """A hang, a truncated reply, trailing bytes and other protocols are errors."""
    with answering(content, keep=keep) as client, pytest.raises(BrokenReplyError, match=message):
        client.exchange(REQUEST)
