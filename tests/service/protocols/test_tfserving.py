"""service.dialects.tfserving: TensorFlow Serving's and KServe's V1 protocol as bytes in, bytes out."""

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.errors import BadInput, Refused
from service.protocols import tfserving
from service.protocols.messages import JSON, Reply, Request
from service.runtime.predictor import Predictor
from service.runtime.served_model import ServedModel
from service.runtime.session import Outputs, Rows
from tests.stored import StoredArtifact

MOST_ROWS = 50
ROW = [1.0, 2.0, 3.0, 2001.0]

values = st.floats(-1e6, 1e6, width=32)
matrices = hnp.arrays(np.float32, st.tuples(st.integers(0, 5), st.just(4)), elements=values)


@pytest.fixture(scope="session")
def served(flowers: StoredArtifact) -> ServedModel:
    """The classifier: four features, three classes."""
    predictor = Predictor(flowers.artifact)
    return ServedModel(predictor, predictor.predict, MOST_ROWS)


@pytest.fixture(scope="session")
def regressor(houses: StoredArtifact) -> ServedModel:
    """The regressor: three features, one target."""
    predictor = Predictor(houses.artifact)
    return ServedModel(predictor, predictor.predict, MOST_ROWS)


def ask(served: ServedModel, document: object) -> dict[str, Any]:
    """Post a document; return the reply's."""
    found: dict[str, Any] = json.loads(
        tfserving.answer(Request(json.dumps(document).encode(), JSON), served).body
    )
    return found


def text(array: Any) -> str:
    """Write an array as the service writes JSON."""
    return orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY).decode()


@settings(deadline=None)
@given(matrices)
def test_every_form_has_the_predictor_s_answer(served: ServedModel, rows: Rows) -> None:
    """Rows, records, a tensor and a tensor by name: bit for bit what the predictor says, by row or by output."""
    wide = rows.astype(np.float64).tolist()
    records = [dict(zip(reversed(served.features), reversed(row), strict=True)) for row in wide]
    expected = served.predictor.predict(rows)
    signature = {"signature_name": "serving_default"}
    forms: list[dict[str, Any]] = [
        {"instances": wide},
        {"instances": records},
        signature | {"instances": wide},
        {"inputs": wide},
        {"inputs": {"input": wide}},
        signature | {"inputs": wide},
    ]
    for document in forms:
        found = ask(served, document)
        if "instances" in document:
            assert ["predictions"] == list(found)
            by_row = found["predictions"]
            assert all(list(expected) == list(row) for row in by_row)
            by_output = {name: [row[name] for row in by_row] for name in expected}
        else:
            assert ["outputs"] == list(found)
            by_output = found["outputs"]
        assert same(expected, by_output)


def same(expected: Outputs, found: dict[str, list[Any]]) -> bool:
    """Compare outputs, read from JSON, by name, shape and every bit."""
    return list(expected) == list(found) and all(
        array.tobytes() == np.array(found[name], array.dtype).reshape(array.shape).tobytes()
        for name, array in expected.items()
    )


@pytest.mark.parametrize(
    ("member", "answer"), [("instances", "predictions"), ("inputs", "outputs")]
)
def test_regression(regressor: ServedModel, member: str, answer: str) -> None:
    """One output has no name: the reply is these bytes, a list of the targets per row, either way."""
    rows = np.array([[50, 10, 0.1], [60, 20, 0.1]], np.float32)
    reply = tfserving.answer(Request(f'{{"{member}": {text(rows)}}}'.encode(), JSON), regressor)
    assert (
        Reply(f'{{"{answer}":{text(regressor.predictor.predict(rows)["output"])}}}'.encode())
        == reply
    )


def test_classification(served: ServedModel) -> None:
    """Several outputs have names: the reply is these bytes, an object per row, or lists by output."""
    outputs = served.predictor.predict(np.array([ROW], np.float32))
    row = ",".join(
        f'"{name}":{text(outputs[name])[1:-1]}' for name in ("logits", "probabilities", "label")
    )
    reply = tfserving.answer(Request(f'{{"instances": [{ROW}]}}'.encode(), JSON), served)
    assert Reply(f'{{"predictions":[{{{row}}}]}}'.encode()) == reply
    columns = ",".join(
        f'"{name}":{text(outputs[name])}' for name in ("logits", "probabilities", "label")
    )
    reply = tfserving.answer(Request(f'{{"inputs": [{ROW}]}}'.encode(), JSON), served)
    assert Reply(f'{{"outputs":{{{columns}}}}}'.encode()) == reply


def test_no_rows(served: ServedModel) -> None:
    """No rows have no predictions."""
    assert {"predictions": []} == ask(served, {"instances": []})
    assert {"outputs": {"logits": [], "probabilities": [], "label": []}} == ask(
        served, {"inputs": []}
    )


OVERFLOW = [3e38, -3e38, 3e38, 3e38]
EITHER = 'expected an object with either "instances" or "inputs"'
TOO_LARGE = "the values are too large: the network's answer to this row overflows float32"


@pytest.mark.parametrize(
    ("document", "status", "where", "detail"),
    [
        ([ROW], 422, None, EITHER),
        ({}, 422, None, EITHER),
        ({"rows": [ROW]}, 422, None, EITHER),
        ({"instances": [ROW], "inputs": [ROW]}, 422, None, EITHER),
        (
            {"instances": [ROW], "more": 1},
            422,
            None,
            'expected no member beside instances and signature_name, found "more"',
        ),
        (
            {"inputs": [ROW], "id": 1},
            422,
            None,
            'expected no member beside inputs and signature_name, found "id"',
        ),
        (
            {"instances": [ROW], "signature_name": "predict"},
            422,
            "signature_name",
            'expected "serving_default", found "predict"',
        ),
        (
            {"inputs": [ROW], "signature_name": None},
            422,
            "signature_name",
            'expected "serving_default", found null',
        ),
        ({"instances": 3}, 422, "instances", "expected a list of rows or records, found 3"),
        ({"instances": ROW}, 422, "instances[0]", "expected a list or an object, found 1.0"),
        ({"instances": [[ROW]]}, 422, "instances[0]", "expected 4 values, found 1"),
        (
            {"instances": [ROW, [1, 2, 3, True]]},
            422,
            "instances[1][3]",
            "expected a number, found true",
        ),
        (
            {"instances": [ROW, [1, 2, 3, "4"]]},
            422,
            "instances[1][3]",
            'expected a number, found "4"',
        ),
        (
            {"instances": [[1, 2, 3, 1e39]]},
            422,
            "instances[0][3]",
            "expected a number within float32, found 1e+39",
        ),
        ({"instances": [{"year": 1}]}, 422, "instances[0]", "missing feature 'petal, length'"),
        ({"instances": [{"input": ROW}]}, 422, "instances[0]", "unknown feature 'input'"),
        ({"instances": [ROW] * 51}, 413, "instances", "expected at most 50 rows, found 51 or more"),
        ({"instances": [ROW, OVERFLOW]}, 422, "instances[1]", TOO_LARGE),
        ({"inputs": {}}, 422, "inputs", "expected a list of rows or records, found an object"),
        (
            {"inputs": {"x": [ROW]}},
            422,
            "inputs",
            "expected a list of rows or records, found an object",
        ),
        (
            {"inputs": {"input": ROW}},
            422,
            "inputs.input[0]",
            "expected a list or an object, found 1.0",
        ),
        (
            {"inputs": {"input": [ROW], "x": 1}},
            422,
            "inputs",
            "expected a list of rows or records, found an object",
        ),
        ({"inputs": [{"year": 1}]}, 422, "inputs[0]", "expected a list, found an object"),
        (
            {"inputs": {"input": [{"year": 1}]}},
            422,
            "inputs.input[0]",
            "expected a list, found an object",
        ),
        ({"inputs": [ROW] * 51}, 413, "inputs", "expected at most 50 rows, found 51 or more"),
        ({"inputs": [OVERFLOW]}, 422, "inputs[0]", TOO_LARGE),
        ({"inputs": {"input": [ROW, OVERFLOW]}}, 422, "inputs.input[1]", TOO_LARGE),
    ],
)
def test_json_that_does_not_fit(
    served: ServedModel, document: object, status: int, where: str | None, detail: str
) -> None:
    """Every refusal has its status, its place, and what was expected and found."""
    with pytest.raises(BadInput) as caught:
        ask(served, document)
    assert (status, where, detail) == (caught.value.status, caught.value.where, str(caught.value))


@pytest.mark.parametrize(
    ("body", "where", "detail"),
    [
        (b"", None, "the body is empty"),
        (b'{"instances": [[1, 2, 3, NaN]]}', None, "not JSON"),
        (b'{"inputs": [[1, 2, 3, Infinity]]}', None, "not JSON"),
        (b'{"instances": [], "instances": []}', None, 'the key "instances" stands twice'),
        (b'{"inputs": {"input": [], "input": []}}', "inputs", 'the key "input" stands twice'),
    ],
)
def test_what_does_not_parse(
    served: ServedModel, body: bytes, where: str | None, detail: str
) -> None:
    """NaN and duplicate keys, which TensorFlow Serving takes, are no JSON."""
    with pytest.raises(BadInput) as caught:
        tfserving.answer(Request(body, JSON), served)
    assert (400, where) == (caught.value.status, caught.value.where)
    assert str(caught.value).startswith(detail)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5) | st.just("input"), inner)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["instances", "inputs", "signature_name", "x"]), anything))
def test_any_document_is_answered_or_refused(served: ServedModel, document: dict[str, Any]) -> None:
    """Whatever the members hold, the reply is an answer or a refusal with its status, never an error."""
    try:
        ask(served, document)
    except BadInput as error:
        assert error.status in (400, 413, 422)


@pytest.mark.parametrize("content_type", ["", JSON, "application/x-www-form-urlencoded"])
def test_what_a_body_may_be_called(served: ServedModel, content_type: str) -> None:
    """TensorFlow Serving never looks; curl sends a form's type."""
    reply = tfserving.answer(
        Request(f'{{"instances": [{ROW}]}}'.encode(), content_type, "*/*"), served
    )
    assert ask(served, {"instances": [ROW]}) == json.loads(reply.body)


@pytest.mark.parametrize(
    ("content_type", "accept", "status", "detail"),
    [
        ("text/csv", "", 415, "expected application/json, found text/csv"),
        (JSON, "text/csv", 406, "Accept: expected one of application/json, found text/csv"),
    ],
)
def test_media_types(
    served: ServedModel, content_type: str, accept: str, status: int, detail: str
) -> None:
    """415 and 406 say what would do."""
    with pytest.raises(Refused) as caught:
        tfserving.answer(Request(b'{"instances": []}', content_type, accept), served)
    assert (status, detail) == (caught.value.status, str(caught.value))


def test_status(served: ServedModel) -> None:
    """TensorFlow Serving's document, and the name and readiness that KServe's client reads."""
    ok = {"error_code": "OK", "error_message": ""}
    assert {
        "model_version_status": [{"version": "1", "state": "AVAILABLE", "status": ok}],
        "name": "flowers",
        "ready": True,
    } == tfserving.status(served, ready=True)
    leaving = tfserving.status(served, ready=False, versions=(2, 1))
    assert [("2", "UNLOADING"), ("1", "UNLOADING")] == [
        (version["version"], version["state"]) for version in leaving["model_version_status"]
    ]
    assert leaving["ready"] is False


def test_metadata(regressor: ServedModel, served: ServedModel) -> None:
    """The shape of GetModelMetadata's reply: one signature, and each tensor with the rows left open."""
    rows, one, three = ({"size": size, "name": ""} for size in ("-1", "1", "3"))
    tensor = {"dtype": "DT_FLOAT", "name": "input:0"}
    output = {"dtype": "DT_FLOAT", "name": "output:0"}
    signature = {
        "inputs": {
            "input": tensor | {"tensor_shape": {"dim": [rows, three], "unknown_rank": False}}
        },
        "outputs": {
            "output": output | {"tensor_shape": {"dim": [rows, one], "unknown_rank": False}}
        },
        "method_name": "tensorflow/serving/predict",
    }
    assert {
        "model_spec": {"name": "houses", "signature_name": "", "version": "1"},
        "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
    } == tfserving.metadata(regressor)
    found = tfserving.metadata(served)["metadata"]["signature_def"]["signature_def"][
        "serving_default"
    ]["outputs"]
    assert ["logits", "probabilities", "label"] == list(found)
    label = {
        "dtype": "DT_INT64",
        "tensor_shape": {"dim": [rows], "unknown_rank": False},
        "name": "label:0",
    }
    assert label == found["label"]
