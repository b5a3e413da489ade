"""service.protocols.native: the replies of POST /predict by task and media type."""

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
ROWS = {
    "classifier": np.array([[1, 2, 3, 2001], [0.1, -2.5, 1e-3, 1999]], np.float32),
    "regressor": np.array([[50, 10, 0.1], [60, 20, 0.1]], np.float32),
}


@pytest.mark.parametrize("task", ROWS)
def test_replies_have_the_predictors_bits(task: str, request: pytest.FixtureRequest) -> None:
    """JSON, CSV and bytes carry the same float32, under the names of the classes or targets."""
    served: ServedModel = request.getfixturevalue(task)
    rows, classifies = ROWS[task], task == "classifier"
    outputs = served.predictor.predict(rows)
    expected = outputs["probabilities" if classifies else "output"]
    body = json.dumps({"instances": rows.astype(np.float64).tolist()}).encode()
    replies = {accept: native.answer(Request(body, JSON, accept), served) for accept in (CSV, JSON)}
    assert Reply(expected.tobytes(), BYTES) == native.answer(Request(body, JSON, BYTES), served)
    document = json.loads(replies[JSON].body)
    header, *lines = csv.reader(io.StringIO(replies[CSV].body.decode()))
    for values in (
        document["probabilities" if classifies else "predictions"],
        [line[classifies:] for line in lines],
    ):
        assert np.array_equal(expected, np.array(values, np.float32))
    assert "text/csv; charset=utf-8" == replies[CSV].content_type
    if classifies:
        assert ["prediction", *(f"probability_{name}" for name in CLASSES)] == header
        labels = [CLASSES[label] for label in outputs["label"]]
        assert labels == document["predictions"] == [line[0] for line in lines]
    else:
        assert ["prediction_price €"] == header


@pytest.mark.parametrize(
    ("body", "content_type", "place"),
    [
        (b'{"instances": [[1, 2, 3, 4]]}', JSON, "instances[{}]"),
        (b' {"instances": [[1, 2, 3, 4]]}', "", "instances[{}]"),
        (b'{"instances": [[1, 2, 3, 4]]}', CURL_DEFAULT, "instances[{}]"),
        (RECORD.encode(), JSON, "instances[{}]"),
        (b"1,2,3,4\n", CSV, "row {}"),
        (np.array([1, 2, 3, 4], "<f4").tobytes(), BYTES, "row {}"),
    ],
)
def test_request_media_types(
    classifier: ServedModel, body: bytes, content_type: str, place: str
) -> None:
    """The same row in every form is read in the order of the network's columns."""
    rows, row_place = native.rows(Request(body, content_type), classifier)
    assert ([[1, 2, 3, 4]], place) == (rows.tolist(), row_place)


@pytest.mark.parametrize(
    ("refused", "status", "where", "detail"),
    [
        (Request(b""), 400, None, "the body is empty"),
        (Request(b"[]", JSON), 422, None, 'expected an object with the member "instances": {"i'),
        (Request(b'{"instances": [], "x": 1}', JSON), 422, "x", "expected no member other than "),
        (Request(b"1,2", "text/plain"), 415, None, f"expected {JSON}, {CSV} or {BYTES}, found tex"),
        (Request(b"1,2"), 415, None, f"expected {JSON}, {CSV} or {BYTES}, found no Content-Type"),
    ],
)
def test_refused_bodies(
    classifier: ServedModel, refused: Request, status: int, where: str | None, detail: str
) -> None:
    """A document with more or less than a list of instances, and other media types are refused."""
    actual = refusal(native.rows, refused, classifier)
    assert (status, where, detail) == (*actual[:2], actual[2][: len(detail)])
