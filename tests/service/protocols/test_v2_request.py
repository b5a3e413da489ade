"""service.protocols.v2_request: what the body of an inference request may hold."""

import copy
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import BadInput
from service.protocols import json_rows, v2
from service.protocols.messages import BYTES, JSON, Request
from service.runtime.served_model import ServedModel
from service.runtime.session import Rows
from tests.service.protocols.refusal import refusal
from tests.service.protocols.strategies import json_values, matrices
from tests.service.protocols.v2_messages import ROWS, binary, bits, outputs, request, tensor

OVERFLOW = [3e38, -3e38, 3e38, 3e38]
OVERFLOW_DETAIL = "the values are too large: the network's answer to this row overflows float32"
EITHER = 'expected either "data" or the parameter binary_data_size'
LABEL = {"name": "label"}
NO_MEMBER = "expected no member other than"
FOUND_X = 'found "x"'
INPUT_MEMBERS = "name, shape, datatype, parameters, data"
NO_FLAG = "expected true or false, found 1"
NO_OBJECT = "expected an object, found 1"
NO_SCALAR = "expected a string, a number, true or false"
STATELESS = "not supported: the model keeps no state"
NO_OUTPUT = "expected one of logits, probabilities, label"
SIZE_PLACE = "inputs[0].parameters.binary_data_size"
INFINITE = np.array([[0, 0, 0, 0], [0, np.inf, 0, 0]], "<f4").tobytes()

paths = st.sampled_from(
    [f"inputs.0.{name}" for name in ("name", "shape.0", "shape.1", "datatype", "data", "data.1.2")]
    + ["inputs", "inputs.0", "inputs.0.shape", "inputs.0.data.1", "inputs.0.parameters"]
    + ["outputs", "parameters", "id", "model_name", "other"]
)


@pytest.fixture(scope="module", params=[0, sys.maxsize], ids=["simdjson", "orjson"], autouse=True)
def _parser(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run every test with each of the two JSON parsers, whatever the size of the body."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "MIN_SIMDJSON_BYTES", request.param)
        yield


def changed(path: str, value: object = ...) -> dict[str, Any]:
    """Return a valid document in which the member at a path is replaced, or removed."""
    document: Any = {"inputs": [copy.deepcopy(tensor(ROWS))]}
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    holder = document
    for parent in parents:
        holder = holder[parent]
    if value is ...:
        del holder[last]
    else:
        holder[last] = value
    return dict(document)


@pytest.mark.parametrize(
    ("path", "value", "detail"),
    [
        ("inputs", {}, "expected a list of one input, found an object"),
        ("inputs", [tensor(ROWS)] * 2, "expected a list of one input, found 2"),
        ("inputs.0", 1, "expected an object, found 1"),
        ("inputs.0.name", "x", 'expected "input", found "x"'),
        ("inputs.0.datatype", "FP64", 'expected "FP32", found "FP64"'),
        ("inputs.0.shape", 8, "expected [rows, 4], found 8"),
        ("inputs.0.shape", [4, 2], "expected [rows, 4], found [4, 2]"),
        ("inputs.0.shape", [-1, 4], "expected [rows, 4], found [-1, 4]"),
        ("inputs.0.shape", [True, 4], "expected [rows, 4], found a list"),
        ("inputs.0.shape", [2**62] * 2, f"expected [rows, 4], found {[2**62] * 2}"),
        ("inputs.0.data", {}, "expected a list, found an object"),
        ("inputs.0.data", [1] * 7, "expected 8 values for the shape [2, 4], found 7"),
        ("inputs.0.data", [1] * 9, "expected 8 values for the shape [2, 4], found 9"),
        ("inputs.0.data", [[1] * 4], "expected 2 rows for the shape [2, 4], found 1"),
        ("inputs.0.data.1", OVERFLOW, OVERFLOW_DETAIL),
        ("inputs.0.data.1.3", False, "expected a number, found false"),
        ("id", 7, "expected a string, found 7"),
        ("model_name", "houses", 'expected "flowers", found "houses"'),
        ("parameters", [], "expected an object, found a list"),
        ("outputs", {}, "expected a list of outputs, found an object"),
    ],
)
def test_wrong_member(classifier: ServedModel, path: str, value: object, detail: str) -> None:
    """A member that does not fit is 422, and the place is the member."""
    where = re.sub(r"\.(\d+)", r"[\1]", path)
    assert (422, where, detail) == refusal(v2.answer, request(changed(path, value)), classifier)


@pytest.mark.parametrize(
    ("path", "value", "where", "detail"),
    [
        ("inputs", ..., None, 'expected the member "inputs"'),
        ("inputs.0.name", ..., "inputs[0]", 'expected the member "name"'),
        ("inputs.0.data", ..., "inputs[0]", EITHER),
        ("outputs", [{}], "outputs[0]", 'expected the member "name"'),
        ("x", 1, None, f"{NO_MEMBER} inputs, model_name, id, parameters, outputs, {FOUND_X}"),
        ("inputs.0.x", 1, "inputs[0]", f"{NO_MEMBER} {INPUT_MEMBERS}, {FOUND_X}"),
        ("outputs", [LABEL | {"x": 1}], "outputs[0]", f"{NO_MEMBER} name, parameters, {FOUND_X}"),
        ("parameters", {"a": []}, "parameters.a", f"{NO_SCALAR}, found a list"),
        ("parameters", {"binary_data_output": 1}, "parameters.binary_data_output", NO_FLAG),
        ("parameters", {"sequence_id": 3}, "parameters.sequence_id", STATELESS),
        (
            "inputs.0.parameters",
            {"sequence_end": 1},
            "inputs[0].parameters.sequence_end",
            STATELESS,
        ),
        ("outputs", [LABEL | {"parameters": 1}], "outputs[0].parameters", NO_OBJECT),
        ("inputs.0.data", [1] * 7 + [True], "inputs[0].data[7]", "expected a number, found true"),
        ("inputs.0.data", OVERFLOW * 2, "row 0", OVERFLOW_DETAIL),
        ("outputs", ["label"], "outputs[0]", 'expected an object, found "label"'),
        ("outputs", [LABEL] * 9, "outputs[1].name", 'the output "label" appears twice'),
        ("outputs", [LABEL, {"name": ["x"]}], "outputs[1].name", f"{NO_OUTPUT}, found a list"),
    ],
)
def test_fault_within_a_member(
    classifier: ServedModel, path: str, value: object, where: str | None, detail: str
) -> None:
    """A fault within a member is 422, and the place is the object or the value at fault."""
    assert (422, where, detail) == refusal(v2.answer, request(changed(path, value)), classifier)


def sized(size: object, rows: object = 2) -> dict[str, Any]:
    """Return the document of a binary request with this size of its tensor."""
    head = tensor(ROWS) | {"shape": [rows, 4], "parameters": {"binary_data_size": size}}
    del head["data"]
    return {"inputs": [head]}


@pytest.mark.parametrize(
    ("refused", "status", "where", "detail"),
    [
        (request({"inputs": [tensor(ROWS)]}, b"\0"), 400, None, "1 bytes follow the JSON"),
        (request(sized(28), bytes(28)), 422, SIZE_PLACE, "the shape [2, 4], found 28"),
        (request(sized("32"), bytes(32)), 422, SIZE_PLACE, 'the shape [2, 4], found "32"'),
        (request(sized(-32), b""), 422, SIZE_PLACE, "the shape [2, 4], found -32"),
        # 4 bytes times 2^60 times 4 overflow 64 bits to 0.
        (request(sized(0, 2**60), b""), 413, "inputs[0].shape", "found 1152921504606846976"),
        (request(sized(32), INFINITE), 422, "row 1, column 1", "expected a finite number"),
        (Request(b"{}", BYTES, "", 3), 400, None, "at most the 2 bytes of the body, found 3"),
        (Request(b"", BYTES, "", 0), 400, None, "the body is empty"),
        (Request(b"", JSON), 400, None, "the body is empty"),
        (Request(b"[]", JSON), 422, None, "expected an object, found a list"),
        (Request(b'{"id": "a", "id": "a", "inputs": []}', JSON), 400, None, "appears twice"),
    ],
)
def test_wrong_bytes(
    classifier: ServedModel, refused: Request, status: int, where: str | None, detail: str
) -> None:
    """JSON, header and bytes must agree with one another before anything is allocated."""
    actual = refusal(v2.answer, refused, classifier)
    assert (status, where) == actual[:2]
    assert detail in actual[2]


@settings(deadline=None)
@given(matrices(4), st.data())
def test_truncated_bodies_are_refused(
    classifier: ServedModel, rows: Rows, data: st.DataObject
) -> None:
    """Every truncation of a valid binary body is 400, and so is every surplus byte."""
    valid = binary(rows)
    truncated = valid.body[: data.draw(st.integers(0, len(valid.body) - 1))]
    for body in (truncated, valid.body + b"\0", valid.body + valid.body):
        assert 400 == refusal(v2.answer, valid._replace(body=body), classifier)[0]


@settings(deadline=None)
@given(matrices(4), st.integers(0, 2000))
def test_wrong_json_length_is_refused(classifier: ServedModel, rows: Rows, length: int) -> None:
    """Only the true length of the JSON is accepted."""
    valid = binary(rows)
    if length != valid.json_length:
        with pytest.raises(BadInput):
            v2.answer(valid._replace(json_length=length), classifier)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"parameters": {"priority": 1, "timeout": 1000, "x": "x", "ratio": 0.5, "yes": True}},
        {"parameters": {}, "outputs": []},
    ],
)
def test_ignored_members(classifier: ServedModel, members: dict[str, Any]) -> None:
    """KServe's client sends model_name, and unknown parameters are ignored."""
    inputs = [tensor(ROWS) | {"parameters": {"content_type": "np"}}]
    document = {"model_name": "flowers", "id": "", "inputs": inputs, **members}
    expected = bits(classifier.predictor.predict(ROWS))
    assert expected == bits(outputs(v2.answer(request(document), classifier)))


@settings(deadline=None)
@given(paths, json_values, st.sampled_from([None, b"", bytes(32)]))
def test_any_document_is_answered_or_refused(
    classifier: ServedModel, path: str, value: object, tail: bytes | None
) -> None:
    """Any value in place of a member gives finite outputs or a BadInput."""
    try:
        arrays = outputs(v2.answer(request(changed(path, value), tail), classifier))
    except BadInput as error:
        assert error.status in (400, 413, 422)
        return
    assert all(np.isfinite(array).all() for array in arrays.values())
