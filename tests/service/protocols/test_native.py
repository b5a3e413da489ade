"""Tests of service.protocols.native: requests to POST /predict and their replies."""

import csv
import io
import json

import numpy as np
import pytest

from service.protocols import native
from service.protocols.messages import BYTES, CSV, CURL_DEFAULT, JSON, Reply, Request
from service.runtime.served_model import ServedModel
from tests.service.protocols.refusal import refusal
from tests.tables import CLASSES

RECORD = '{"instances": [{"year": 4, "größe": 3, "sepal width": 2, "petal, length": 1}]}'
NAN = Request(b'{"instances": [[1, 2, 3, 4], [1, 2, NaN, 4]]}', JSON)
ROWS = {
    "classifier": np.array([[1, 2, 3, 2001], [0.1, -2.5, 1e-3, 1999]], np.float32),
    "regressor": np.array([[50, 10, 0.1], [60, 20, 0.1]], np.float32),
}


@pytest.mark.parametrize("task", ROWS)
def test_replies_have_the_predictors_bits(task: str, request: pytest.FixtureRequest) -> None:
    """JSON, CSV and bytes contain the same float32 values, with names of classes or targets."""
    served: ServedModel = request.getfixturevalue(task)
    rows, is_classifier = ROWS[task], task == "classifier"
    outputs = served.predictor.predict(rows)
    expected = outputs["probabilities" if is_classifier else "output"]
    body = json.dumps({"instances": rows.astype(np.float64).tolist()}).encode()
    replies = {accept: native.answer(Request(body, JSON, accept), served) for accept in (CSV, JSON)}
    assert Reply(expected.tobytes(), BYTES) == native.answer(Request(body, JSON, BYTES), served)
    document = json.loads(replies[JSON].body)
    header, *lines = csv.reader(io.StringIO(replies[CSV].body.decode()))
    for values in (
        document["probabilities" if is_classifier else "predictions"],
        [line[is_classifier:] for line in lines],
    ):
        assert np.array_equal(expected, np.array(values, np.float32))
    assert "text/csv; charset=utf-8" == replies[CSV].content_type
    if is_classifier:
        assert ["prediction", *(f"probability_{name}" for name in CLASSES)] == header
        labels = [CLASSES[label] for label in outputs["label"]]
        assert labels == document["predictions"] == [line[0] for line in lines]
    else:
        assert ["prediction_price €"] == header


@pytest.mark.parametrize(
    ("body", "content_type", "location"),
    [
        (b'{"instances": [[1, 2, 3, 4]]}', JSON, "instances[0]"),
        (b' {"instances": [[1, 2, 3, 4]]}', "", "instances[0]"),
        (b'\xef\xbb\xbf {"instances": [[1, 2, 3, 4]]}', "", "instances[0]"),
        (b'\xef\xbb\xbf{"instances": [[1, 2, 3, 4]]}', JSON, "instances[0]"),
        (b'{"instances": [[1, 2, 3, 4]]}', CURL_DEFAULT, "instances[0]"),
        (RECORD.encode(), JSON, "instances[0]"),
        (b"\n1,2,3,4\n", CSV, "line 2"),
        (np.array([1, 2, 3, 4], "<f4").tobytes(), BYTES, "row 0"),
    ],
)
def test_request_media_types(
    classifier: ServedModel, body: bytes, content_type: str, location: str
) -> None:
    """Every media type gives the same row, in the order of the network's columns."""
    request = Request(body, content_type, parameters={"rows": "1"})
    rows, place = native.rows(request, classifier)
    assert ([[1, 2, 3, 4]], location) == (rows.tolist(), place(0))


@pytest.mark.parametrize(
    ("invalid", "status", "where", "detail"),
    [
        (Request(b""), 400, None, "the body is empty"),
        (Request(b"[]", JSON), 422, None, 'expected an object with the member "instances": {"i'),
        (Request(b'{"instances": [], "x": 1}', JSON), 422, "x", "expected no member other than "),
        (Request(b"1,2", "text/plain"), 415, None, f"expected {JSON}, {CSV} or {BYTES}, found tex"),
        (Request(b"1,2"), 415, None, f"expected {JSON}, {CSV} or {BYTES}, found no Content-Type"),
        (Request(bytes(32), BYTES), 415, None, "Content-Type: expected the dtype or the number of"),
        (
            NAN,
            422,
            "instances[1][2]",
            "expected a number, found NaN; replace it with a number or l",
        ),
    ],
)
def test_refused_bodies(
    classifier: ServedModel, invalid: Request, status: int, where: str | None, detail: str
) -> None:
    """Only a list of instances is accepted, and only in a known media type."""
    actual = refusal(native.rows, invalid, classifier)
    assert (status, where, detail) == (*actual[:2], actual[2][: len(detail)])
