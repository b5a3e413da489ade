"""Tests of service.protocols.v2 and v2_request: the Open Inference Protocol."""

import copy
import json
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from service.protocols import json_rows, v2, v2_request
from service.protocols.messages import BYTES, CURL_DEFAULT, JSON, Reply, Request
from service.runtime.served_model import ServedModel
from service.runtime.session import Outputs, Rows
from tests.service.protocols.refusal import refusal
from tests.service.protocols.strategies import matrices
from tests.serving import ROOT

JSON_LENGTH_HEADER = "Inference-Header-Content-Length"
ROWS = np.array([[1, 2, 3, 2001], [0.1, -2.5, 1e-3, 1999]], np.float32)
OVERFLOW = [3e38, -3e38, 3e38, 3e38]
OVERFLOW_DETAIL = "the values are too large: the network's output for this row overflows float32"
LABEL = {"name": "label"}
NO_MEMBER = "expected no member other than"
NO_SCALAR = "expected a string, a number, true or false, found a list"
STATELESS = "not supported: the model keeps no state"
NO_OUTPUT = "expected one of logits, probabilities, label, found a list"
SIZE = "inputs[0].parameters.binary_data_size"
DATATYPES = f"expected one of {', '.join(v2_request.DATATYPES)}"
EITHER = 'expected either "data" or the parameter binary_data_size'
INFINITE = np.array([[0, 0, 0, 0], [0, np.inf, 0, 0]], "<f4").tobytes()
AS_BYTES = {"binary_data_output": True}
MIXED = [
    {"name": "logits", "parameters": {"binary_data": True}},
    {"name": "probabilities", "parameters": {}},
    {"name": "label", "parameters": {"binary_data": False}},
]
IGNORED = {"priority": 1, "timeout": 1000, "x": "x", "ratio": 0.5, "yes": True}


@pytest.fixture(scope="module", params=[0, sys.maxsize], ids=["simdjson", "orjson"], autouse=True)
def _parser(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run every test with each of the two JSON parsers, for bodies of any size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "MIN_SIMDJSON_BYTES", request.param)
        yield


def tensor(rows: Rows, *, flat: bool = False) -> dict[str, Any]:
    """Return the input tensor as JSON, with nested or flat data."""
    wide = rows.astype(np.float64)
    data = (wide.ravel() if flat else wide).tolist()
    return {"name": "input", "shape": list(rows.shape), "datatype": "FP32", "data": data}


def request(
    document: object, tail: bytes | None = None, content_type: str = JSON, accept: str = ""
) -> Request:
    """Return a request; if `tail` is not None, a header gives the length of the JSON."""
    head = json.dumps(document).encode()
    return Request(head + (tail or b""), content_type, accept, None if tail is None else len(head))


def binary(size: object, tail: bytes, rows: int = 2, **members: object) -> Request:
    """Return a request whose input data follows the JSON as bytes."""
    head = tensor(ROWS) | {"shape": [rows, 4], "parameters": {"binary_data_size": size}}
    del head["data"]
    return request({"inputs": [head], **members}, tail, BYTES)


def outputs(reply: Reply) -> Outputs:
    """Return the outputs of a reply, read from its JSON or from the bytes after the JSON."""
    length = int(dict(reply.headers).get(JSON_LENGTH_HEADER, len(reply.body)))
    document, tail = json.loads(reply.body[:length]), reply.body[length:]
    assert (BYTES if reply.headers else JSON) == reply.content_type
    arrays: Outputs = {}
    for output in document["outputs"]:
        dtype = {"FP32": "<f4", "INT64": "<i8"}[output["datatype"]]
        if "data" in output:
            array = np.array(output["data"], dtype)
        else:
            size = output["parameters"]["binary_data_size"]
            array, tail = np.frombuffer(tail[:size], dtype), tail[size:]
        arrays[output["name"]] = array.reshape(output["shape"])
    assert b"" == tail
    return arrays


def bits(arrays: Outputs) -> list[tuple[str, tuple[int, ...], str, bytes]]:
    """Return the outputs' names, shapes, dtypes and bytes in order, for exact comparison."""
    return [(name, array.shape, array.dtype.str, array.tobytes()) for name, array in arrays.items()]


@settings(deadline=None)
@given(matrices(4))
def test_every_format_gives_the_predictors_outputs(classifier: ServedModel, rows: Rows) -> None:
    """Nested, flat and binary inputs give the predictor's outputs, as JSON or as bytes."""
    document, data = {"inputs": [tensor(rows)]}, rows.astype("<f4").tobytes()
    requests = [
        (request(document), JSON),
        (request({"inputs": [tensor(rows, flat=True)]}), JSON),
        (request(document, None, CURL_DEFAULT, f"{BYTES};q=0.5, {JSON}"), JSON),
        (request(document | {"parameters": AS_BYTES}), BYTES),
        (request(document | {"outputs": MIXED, "parameters": IGNORED | AS_BYTES}, b""), BYTES),
        (binary(len(data), data, len(rows), model_name="flowers"), JSON),
        (binary(len(data), data, len(rows), parameters=AS_BYTES), BYTES),
    ]
    if len(rows):
        requests.append((Request(data, BYTES, "", 0), BYTES))
    expected = bits(classifier.predictor.predict(rows))
    for each, media_type in requests:
        reply = v2.answer(each, classifier)
        assert (expected, media_type) == (bits(outputs(reply)), reply.content_type)


@pytest.mark.parametrize(
    ("path", "value", "where", "detail"),
    [
        ("inputs", ..., None, 'expected the member "inputs"'),
        ("inputs", {}, "inputs", "expected a list of one input, found an object"),
        ("inputs", [tensor(ROWS)] * 2, "inputs", "expected a list of one input, found 2"),
        ("inputs.0", 1, "inputs[0]", "expected an object, found 1"),
        ("inputs.0.name", "x", "inputs[0].name", 'expected "input", found "x"'),
        ("inputs.0.datatype", "BOOL", "inputs[0].datatype", f'{DATATYPES}, found "BOOL"'),
        ("inputs.0.datatype", ["FP32"], "inputs[0].datatype", f"{DATATYPES}, found a list"),
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
        ("inputs.0.data.1", {}, "inputs[0].data[1]", "expected a list, found an object"),
        ("inputs.0.data.1.3", np.nan, "inputs[0].data[1][3]", "expected a number, found NaN; rep"),
        ("inputs.0.data.1.3", 1e39, "inputs[0].data[1][3]", "expected a number within float32, f"),
        ("inputs.0.x", 1, "inputs[0]", f"{NO_MEMBER} name, shape, datatype, parameters, data, f"),
        ("inputs.0.parameters", {"sequence_end": 1}, "inputs[0].parameters.sequence_", STATELESS),
        ("id", 7, "id", "expected a string, found 7"),
        ("model_name", "houses", "model_name", 'expected "flowers", found "houses"'),
        ("parameters", [], "parameters", "expected an object, found a list"),
        ("parameters", {"a": []}, "parameters.a", NO_SCALAR),
        ("parameters", {"a": np.nan}, "parameters.a", "expected a string, a number, true or fal"),
        ("parameters", {"binary_data_output": 1}, "parameters.bin", "expected true or false, fou"),
        ("x", 1, None, f"{NO_MEMBER} inputs, model_name, id, parameters, outputs, found "),
        ("outputs", {}, "outputs", "expected a list of outputs, found an object"),
        ("outputs", ["label"], "outputs[0]", 'expected an object, found "label"'),
        ("outputs", [LABEL] * 9, "outputs[1].name", 'the output "label" appears twice'),
        ("outputs", [LABEL, {"name": ["x"]}], "outputs[1].name", NO_OUTPUT),
    ],
)
def test_wrong_member(
    classifier: ServedModel, path: str, value: object, where: str | None, detail: str
) -> None:
    """An invalid member gives status 422 and the location of the value or its object."""
    document: Any = {"inputs": [copy.deepcopy(tensor(ROWS))]}
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    container = document
    for parent in parents:
        container = container[parent]
    if value is ...:
        del container[last]
    else:
        container[last] = value
    status, actual_where, actual = refusal(v2.answer, request(document), classifier)
    assert (422, detail) == (status, actual[: len(detail)])
    assert where == (actual_where and actual_where[: len(where or "")])


@pytest.mark.parametrize(
    ("invalid", "status", "where", "detail"),
    [
        (request({"inputs": [tensor(ROWS)]}, b"\0"), 400, None, "1 bytes follow the JSON"),
        (binary(28, bytes(28)), 422, SIZE, "the shape [2, 4], found 28"),
        (binary("32", bytes(32)), 422, SIZE, 'the shape [2, 4], found "32"'),
        # The size of 2^60 rows of 16 bytes overflows a 64-bit integer to 0.
        (binary(0, b"", rows=2**60), 413, "inputs[0].shape", "found 1152921504606846976"),
        (binary(32, bytes(31)), 400, None, "expected 32 bytes after the JSON, the input's binary"),
        (binary(32, INFINITE), 422, "row 1, column 1", "expected a finite number"),
        (Request(b"{}", BYTES, "", 3), 400, None, "at most the 2 bytes of the body, found 3"),
        (Request(b"", JSON), 400, None, "the body is empty"),
        (Request(b'{"id": "a", "id": "a", "inputs": []}', JSON), 400, None, "appears twice"),
        (Request(b"{}", "text/csv"), 415, None, f"with {JSON_LENGTH_HEADER}, found text/csv"),
        (Request(b"{}", BYTES), 415, None, f"with {JSON_LENGTH_HEADER}, found {BYTES}"),
        (request({"inputs": [tensor(ROWS)]}, accept=BYTES), 406, None, f"{JSON}, found {BYTES}"),
        (Request(ROWS.tobytes(), BYTES, JSON, 0), 406, None, f"{BYTES}, found {JSON}"),
    ],
)
def test_wrong_bytes(
    classifier: ServedModel, invalid: Request, status: int, where: str | None, detail: str
) -> None:
    """A request is refused unless its JSON, headers and bytes agree."""
    actual = refusal(v2.answer, invalid, classifier)
    assert (status, where) == actual[:2]
    assert detail in actual[2]


INTEGERS = np.array([[-128, 127, 0, 1], [1, 2, 3, -4]])
DATATYPE_CASES = [
    ("FP64", ROWS.astype("<f8") + 1e-12),
    ("INT64", np.array([[2**24 + 1, -(2**53) - 1, 2**63 - 1, 2001], [1, 2, 3, 4]])),
    *((f"INT{bits}", INTEGERS.astype(f"<i{bits // 8}")) for bits in (8, 16, 32, 64)),
    *((f"UINT{bits}", abs(INTEGERS).astype(f"<u{bits // 8}")) for bits in (8, 16, 32, 64)),
]


@pytest.mark.parametrize(("datatype", "numbers"), DATATYPE_CASES)
def test_datatypes(classifier: ServedModel, datatype: str, numbers: NDArray[Any]) -> None:
    """Numbers of every type give, as JSON and as bytes, the reply to the same numbers as FP32."""
    head = tensor(ROWS) | {"data": numbers.tolist()}
    expected = v2.answer(request({"inputs": [head]}), classifier)
    head |= {"datatype": datatype}
    flat = head | {"data": numbers.ravel().tolist()}
    size = {"data": None, "parameters": {"binary_data_size": numbers.nbytes}}
    for each in (
        request({"inputs": [head]}),
        request({"inputs": [flat]}),
        request({"inputs": [head | size]}, numbers.tobytes()),
    ):
        assert expected == v2.answer(each, classifier)


@pytest.mark.parametrize(
    ("datatype", "number", "detail"),
    [
        ("INT32", 1.5, "expected a number of type int32, found 1.5"),
        ("INT32", 16777217.5, "expected a number of type int32, found 16777217.5"),
        ("INT8", 128, "expected a number of type int8, found 128"),
        ("UINT64", -1, "expected a number of type uint64, found -1"),
    ],
)
def test_number_outside_its_datatype(
    classifier: ServedModel, datatype: str, number: float, detail: str
) -> None:
    """The error gives the place of a number that the declared type cannot represent."""
    head = tensor(ROWS) | {"datatype": datatype, "data": [[1, 2, 3, 4], [1, 2, number, 4]]}
    expected = (422, "inputs[0].data[1][2]", detail)
    assert expected == refusal(v2.answer, request({"inputs": [head]}), classifier)
    flat = head | {"data": [1, 2, 3, 4, 1, 2, number, 4]}
    expected = (422, "inputs[0].data[6]", detail)
    assert expected == refusal(v2.answer, request({"inputs": [flat]}), classifier)


def test_null_members(classifier: ServedModel) -> None:
    """Null for an optional member or a parameter counts as its absence."""
    optional = dict.fromkeys(("id", "parameters", "outputs", "model_name"))
    head = tensor(ROWS) | {"parameters": None}
    expected = v2.answer(request({"inputs": [tensor(ROWS)]}), classifier)
    assert expected == v2.answer(request({"inputs": [head], **optional}), classifier)
    parameters = dict.fromkeys(("binary_data_output", "sequence_id", "priority"))
    output = {"name": "label", "parameters": {"binary_data": None}}
    document = {"inputs": [tensor(ROWS)], "parameters": parameters, "outputs": [output]}
    label = v2.answer(request({"inputs": [tensor(ROWS)], "outputs": [LABEL]}), classifier)
    assert label == v2.answer(request(document), classifier)


def test_declared_layout_of_a_body_without_json(classifier: ServedModel) -> None:
    """A Content-Type may declare the dtype and the number of rows of a body without JSON."""
    wide, parameters = ROWS.astype("<f8").tobytes(), {"dtype": "float64", "rows": "2"}
    expected = v2.answer(Request(ROWS.tobytes(), BYTES, "", 0), classifier)
    valid = Request(wide, BYTES, "", 0, parameters=parameters)
    assert expected == v2.answer(valid, classifier)
    status, _, detail = refusal(v2.answer, valid._replace(parameters={"rows": "2"}), classifier)
    assert (422, "expected 32 bytes (2 rows of 4 float32 values of 4 bytes), found 64") == (
        status,
        detail,
    )


def test_documents(classifier: ServedModel) -> None:
    """Server metadata has the name and version of pyproject.toml; model metadata lists versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    expected = {"name": project["name"], "version": project["version"]}
    assert expected | {"extensions": ["binary_tensor_data"]} == v2.SERVER
    document = v2.model_metadata(classifier.predictor.manifest, versions=(1, 2))
    assert ["1", "2"] == document["versions"]
