"""Tests of service.protocols.tfserving: the REST API of TensorFlow Serving (KServe V1)."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from service.protocols import tfserving
from service.protocols.messages import JSON, Request
from service.runtime.served_model import ServedModel
from service.runtime.session import Rows
from tests.service.protocols.refusal import refusal
from tests.service.protocols.strategies import matrices

ROW = [1.0, 2.0, 3.0, 2001.0]
OUTPUTS = ("logits", "probabilities", "label")
OVERFLOW = [3e38, -3e38, 3e38, 3e38]
EITHER = 'expected an object with either "instances" or "inputs"'
NO_MEMBER = "expected no member other than"
OTHER = ' and signature_name, found "x"'
SIGNATURE = 'expected "serving_default", found "other"'
NO_ROWS = 'expected a list of rows, or an object with the one member "input", found an object'
NOT_A_NUMBER = "expected a number, found -Infinity; replace it with a number or leave out the row"
OVERFLOWS = "the values are too large: the network's output for this row overflows float32"


def post(served: ServedModel, document: object) -> dict[str, Any]:
    """Send a JSON document and return the document of the reply."""
    request = Request(json.dumps(document).encode(), JSON)
    reply: dict[str, Any] = json.loads(tfserving.answer(request, served).body)
    return reply


@settings(deadline=None)
@given(matrices(4))
def test_every_format_gives_the_predictors_outputs(classifier: ServedModel, rows: Rows) -> None:
    """Rows, records and a tensor give the outputs of the predictor bit for bit."""
    wide = rows.astype(np.float64).tolist()
    names = classifier.features
    records = [dict(zip(reversed(names), reversed(row), strict=True)) for row in wide]
    expected = classifier.predictor.predict(rows)
    for document in (
        {"instances": wide},
        {"instances": records, "signature_name": "serving_default"},
        {"instances": records, "signature_name": ""},
        {"inputs": wide, "signature_name": None},
        {"inputs": {"input": wide}, "signature_name": "serving_default"},
    ):
        reply = post(classifier, document)
        if "instances" in document:
            by_row = reply["predictions"]
            assert all(list(OUTPUTS) == list(row) for row in by_row)
            by_output = {name: [row[name] for row in by_row] for name in OUTPUTS}
        else:
            by_output = reply["outputs"]
        assert list(OUTPUTS) == list(by_output)
        for name, array in expected.items():
            actual = np.array(by_output[name], array.dtype).reshape(array.shape)
            assert array.tobytes() == actual.tobytes()


@pytest.mark.parametrize(
    ("document", "status", "where", "detail"),
    [
        ([ROW], 422, None, EITHER),
        ({}, 422, None, EITHER),
        ({"instances": [ROW], "inputs": [ROW]}, 422, None, EITHER),
        ({"inputs": [ROW], "x": 1}, 422, None, f"{NO_MEMBER} inputs{OTHER}"),
        ({"inputs": [ROW], "signature_name": "other"}, 422, "signature_name", SIGNATURE),
        ({"instances": [ROW, [1]]}, 422, "instances[1]", "expected 4 values, found 1"),
        ({"instances": [ROW, OVERFLOW]}, 422, "instances[1]", OVERFLOWS),
        ({"inputs": {"input": [ROW], "x": 1}}, 422, "inputs", NO_ROWS),
        ({"inputs": 7}, 422, "inputs", "expected a list of rows, found 7"),
        ({"inputs": [ROW, 7]}, 422, "inputs[1]", "expected a list, found 7"),
        ({"inputs": [{"year": 1}]}, 422, "inputs[0]", "expected a list, found an object"),
        ({"inputs": [ROW, {"year": 1}]}, 422, "inputs[1]", "expected a list, found an object"),
        ({"inputs": {"input": [[*ROW[1:], -np.inf]]}}, 422, "inputs.input[0][3]", NOT_A_NUMBER),
        ({"inputs": {"input": [[1]]}}, 422, "inputs.input[0]", "expected 4 values, found 1"),
        ({"inputs": [ROW] * 51}, 413, "inputs", "expected at most 50 rows, found 51 or more"),
    ],
)
def test_json_that_does_not_fit(
    classifier: ServedModel, document: object, status: int, where: str | None, detail: str
) -> None:
    """The error locates the invalid value, and gives the expected and actual values."""
    assert (status, where, detail) == refusal(post, classifier, document)


@pytest.mark.parametrize(
    ("content_type", "accept", "status", "detail"),
    [
        ("text/csv", "", 415, "expected application/json, found text/csv"),
        (JSON, "text/csv", 406, "Accept: expected one of application/json, found text/csv"),
    ],
)
def test_refused_media_types(
    classifier: ServedModel, content_type: str, accept: str, status: int, detail: str
) -> None:
    """The errors 415 and 406 name the supported media types."""
    request = Request(b'{"instances": []}', content_type, accept)
    assert (status, None, detail) == refusal(tfserving.answer, request, classifier)


def test_status(classifier: ServedModel) -> None:
    """Every version is listed, as AVAILABLE if the service is ready and as UNLOADING otherwise."""
    for ready, state in ((True, "AVAILABLE"), (False, "UNLOADING")):
        document = tfserving.status(classifier.predictor.manifest, ready, (2, 1))
        assert ready == document["ready"]
        versions = [(each["version"], each["state"]) for each in document["model_version_status"]]
        assert [("2", state), ("1", state)] == versions
