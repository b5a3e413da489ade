"""service.protocols.v2_request: what the body of an inference request may hold."""

import copy
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from service.protocols import json_rows, v2
from service.protocols.messages import BYTES, JSON, Request
from service.runtime.served_model import ServedModel
from tests.service.protocols.refusal import refusal
from tests.service.protocols.v2_messages import ROWS, request, tensor

OVERFLOW = [3e38, -3e38, 3e38, 3e38]
OVERFLOW_DETAIL = "the values are too large: the network's answer to this row overflows float32"
LABEL = {"name": "label"}
NO_MEMBER = "expected no member other than"
NO_SCALAR = "expected a string, a number, true or false, found a list"
STATELESS = "not supported: the model keeps no state"
NO_OUTPUT = "expected one of logits, probabilities, label, found a list"
SIZE = "inputs[0].parameters.binary_data_size"
EITHER = 'expected either "data" or the parameter binary_data_size'
INFINITE = np.array([[0, 0, 0, 0], [0, np.inf, 0, 0]], "<f4").tobytes()


@pytest.fixture(scope="module", params=[0, sys.maxsize], ids=["simdjson", "orjson"], autouse=True)
def _parser(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run every test with each of the two JSON parsers, whatever the size of the body."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "MIN_SIMDJSON_BYTES", request.param)
        yield


@pytest.mark.parametrize(
    ("path", "value", "where", "detail"),
    [
        ("inputs", ..., None, 'expected the member "inputs"'),
        ("inputs", {}, "inputs", "expected a list of one input, found an object"),
        ("inputs", [tensor(ROWS)] * 2, "inputs", "expected a list of one input, found 2"),
        ("inputs.0", 1, "inputs[0]", "expected an object, found 1"),
        ("inputs.0.name", "x", "inputs[0].name", 'expected "input", found "x"'),
        ("inputs.0.datatype", "FP64", "inputs[0].datatype", 'expected "FP32", found "FP64"'),
        ("inputs.0.shape", 8, "inputs[0].shape", "expected [rows, 4], found 8"),
        ("inputs.0.shape", [4, 2], "inputs[0].shape", "expected [rows, 4], found [4, 2]"),
        ("inputs.0.shape", [-1, 4], "inputs[0].shape", "expected [rows, 4], found [-1, 4]"),
        ("inputs.0.shape", [True, 4], "inputs[0].shape", "expected [rows, 4], found a list"),
        ("inputs.0.data", ..., "inputs[0]", EITHER),
        ("inputs.0.data", {}, "inputs[0].data", "expected a list, found an object"),
        ("inputs.0.data", [1] * 7, "inputs[0].data", "expected 8 values for the shape [2, 4], f"),
        ("inputs.0.data", [[1] * 4], "inputs[0].data", "expected 2 rows for the shape [2, 4], f"),
        ("inputs.0.data.1", OVERFLOW, "inputs[0].data[1]", OVERFLOW_DETAIL),
        ("inputs.0.data", OVERFLOW * 2, "row 0", OVERFLOW_DETAIL),
        ("inputs.0.data.1.3", False, "inputs[0].data[1][3]", "expected a number, found false"),
        ("inputs.0.data", [1] * 7 + [True], "inputs[0].data[7]", "expected a number, found true"),
        ("inputs.0.x", 1, "inputs[0]", f"{NO_MEMBER} name, shape, datatype, parameters, data, f"),
        ("inputs.0.parameters", {"sequence_end": 1}, "inputs[0].parameters.sequence_", STATELESS),
        ("id", 7, "id", "expected a string, found 7"),
        ("model_name", "houses", "model_name", 'expected "flowers", found "houses"'),
        ("parameters", [], "parameters", "expected an object, found a list"),
        ("parameters", {"a": []}, "parameters.a", NO_SCALAR),
        ("parameters", {"binary_data_output": 1}, "parameters.bin", "expected true or false, fou"),
        ("x", 1, None, f"{NO_MEMBER} inputs, model_name, id, parameters, outputs, found "),
        ("outputs", {}, "outputs", "expected a list of outputs, found an object"),
        ("outputs", ["label"], "outputs[0]", 'expected an object, found "label"'),
        ("outputs", [LABEL] * 9, "outputs[1].name", 'the output "label" appears twice'),
        ("outputs", [LABEL, {"name": ["x"]}], "outputs[1].name", NO_OUTPUT),
        ("outputs", [LABEL | {"parameters": 1}], "outputs[0].parameters", "expected an object, f"),
    ],
)
def test_wrong_member(
    classifier: ServedModel, path: str, value: object, where: str | None, detail: str
) -> None:
    """A member that does not fit is 422, and the place is the object or the value at fault."""
    document: Any = {"inputs": [copy.deepcopy(tensor(ROWS))]}
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    holder = document
    for parent in parents:
        holder = holder[parent]
    if value is ...:
        del holder[last]
    else:
        holder[last] = value
    status, actual_where, actual = refusal(v2.answer, request(document), classifier)
    assert (422, detail) == (status, actual[: len(detail)])
    assert where == (actual_where and actual_where[: len(where or "")])


def sized(size: object, tail: bytes, rows: object = 2) -> Request:
    """Return a binary request with this size of its tensor."""
    head = tensor(ROWS) | {"shape": [rows, 4], "parameters": {"binary_data_size": size}}
    del head["data"]
    return request({"inputs": [head]}, tail)


@pytest.mark.parametrize(
    ("refused", "status", "where", "detail"),
    [
        (request({"inputs": [tensor(ROWS)]}, b"\0"), 400, None, "1 bytes follow the JSON"),
        (sized(28, bytes(28)), 422, SIZE, "the shape [2, 4], found 28"),
        (sized("32", bytes(32)), 422, SIZE, 'the shape [2, 4], found "32"'),
        # 4 bytes times 2^60 times 4 overflow 64 bits to 0.
        (sized(0, b"", rows=2**60), 413, "inputs[0].shape", "found 1152921504606846976"),
        (sized(32, bytes(31)), 400, None, "expected 32 bytes after the JSON, the input's binary_d"),
        (sized(32, INFINITE), 422, "row 1, column 1", "expected a finite number"),
        (Request(b"{}", BYTES, "", 3), 400, None, "at most the 2 bytes of the body, found 3"),
        (Request(b"", JSON), 400, None, "the body is empty"),
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
