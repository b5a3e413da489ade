"""service.dialects.v2: the Open Inference Protocol as bytes in, bytes out."""

import copy
import json
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.artifact.manifest import OUTPUTS
from service.errors import BadInput, Refused
from service.protocols import json_rows, native, v2
from service.protocols.messages import BYTES, JSON, Reply, Request
from service.runtime.predictor import Predictor
from service.runtime.served_model import ServedModel
from service.runtime.session import Outputs, Rows
from tests.serving import ROOT
from tests.stored import StoredArtifact

MOST_ROWS = 50
ROWS = np.array([[1, 2, 3, 2001], [0.1, -2.5, 1e-3, 1999]], np.float32)

values = st.floats(-1e6, 1e6, width=32)
matrices = hnp.arrays(np.float32, st.tuples(st.integers(0, 5), st.just(4)), elements=values)


@pytest.fixture(scope="module", params=[0, sys.maxsize], ids=["simdjson", "orjson"], autouse=True)
def small(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both readers of JSON, whatever the size of a body: every test here holds for either."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "MIN_SIMDJSON_BYTES", request.param)
        yield


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


def tensor(rows: Rows, data: object = None) -> dict[str, Any]:
    """Return the one input as JSON, by default nested."""
    wide = rows.astype(np.float64)
    return {
        "name": "input",
        "shape": list(rows.shape),
        "datatype": "FP32",
        "data": wide.tolist() if data is None else data,
    }


def request(
    document: object, tail: bytes | None = None, content_type: str = JSON, accept: str = ""
) -> Request:
    """Return a request; with a tail, even an empty one, it states how long its JSON is."""
    head = json.dumps(document).encode()
    return Request(head + (tail or b""), content_type, accept, None if tail is None else len(head))


def binary(rows: Rows, **members: Any) -> Request:
    """Return a request whose input stands behind the JSON."""
    given = tensor(rows) | {"parameters": {"binary_data_size": rows.nbytes}}
    del given["data"]
    return request({"inputs": [given], **members}, rows.astype("<f4").tobytes(), BYTES)


def outputs(reply: Reply) -> Outputs:
    """Read a reply as a client does: every output by name, from the JSON or from the bytes behind it."""
    length = int(dict(reply.headers).get(v2.HEADER, len(reply.body)))
    document, tail, found = json.loads(reply.body[:length]), reply.body[length:], {}
    assert (BYTES if v2.HEADER in dict(reply.headers) else JSON) == reply.content_type
    for output in document["outputs"]:
        dtype = {"FP32": "<f4", "INT64": "<i8"}[output["datatype"]]
        if "data" in output:
            assert "parameters" not in output
            array = np.array(output["data"], dtype)
        else:
            size = output["parameters"]["binary_data_size"]
            array, tail = np.frombuffer(tail[:size], dtype), tail[size:]
        found[output["name"]] = array.reshape(output["shape"])
    assert b"" == tail
    return found


def same(expected: Outputs, found: Outputs) -> bool:
    """Compare outputs by name, shape, dtype and every bit."""
    return list(expected) == list(found) and all(
        expected[name].dtype == found[name].dtype
        and expected[name].shape == found[name].shape
        and expected[name].tobytes() == found[name].tobytes()
        for name in expected
    )


@settings(deadline=None)
@given(matrices)
def test_every_form_has_the_predictor_s_answer(served: ServedModel, rows: Rows) -> None:
    """Nested, flat and binary, asked for in JSON and in bytes: bit for bit what the predictor says."""
    expected = served.predictor.predict(rows)
    as_bytes = {"binary_data_output": True}
    flat = tensor(rows, rows.astype(np.float64).ravel().tolist())
    for asked in (
        request({"inputs": [tensor(rows)]}),
        request({"inputs": [flat]}),
        request({"inputs": [tensor(rows)], "parameters": as_bytes}),
        request({"inputs": [tensor(rows)], "parameters": as_bytes}, b""),
        binary(rows),
        binary(rows, parameters=as_bytes),
        *([Request(rows.astype("<f4").tobytes(), BYTES, "", 0)] if len(rows) else []),
    ):
        assert same(expected, outputs(v2.answer(asked, served)))


@settings(deadline=None)
@given(matrices)
def test_native_has_the_same_answer(served: ServedModel, rows: Rows) -> None:
    """The native dialect and this one carry the same probabilities, bit for bit."""
    instances = json.dumps({"instances": rows.astype(np.float64).tolist()}).encode()
    document = {"inputs": [tensor(rows)], "outputs": [{"name": "probabilities"}]}
    found = outputs(v2.answer(request(document), served))["probabilities"]
    expected = json.loads(native.answer(Request(instances, JSON), served).body)["probabilities"]
    assert np.array(expected, "<f4").reshape(-1, 3).tobytes() == found.tobytes()


def test_reply_in_json(regressor: ServedModel) -> None:
    """The reply is these bytes: name and version of the model, the id, each output flat."""
    rows = np.array([[50, 10, 0.1], [60, 20, 0.1]], np.float32)
    values = orjson.dumps(
        regressor.predictor.predict(rows)["output"].ravel(), option=orjson.OPT_SERIALIZE_NUMPY
    )
    reply = v2.answer(request({"id": "a:1", "inputs": [tensor(rows)]}), regressor)
    expected = (
        '{"model_name":"houses","model_version":"1","id":"a:1","outputs":[{"name":"output","datatype":"FP32",'
        f'"shape":[2,1],"data":{values.decode()}}}]}}'
    )
    assert Reply(expected.encode()) == reply


def test_reply_in_bytes(served: ServedModel) -> None:
    """The reply is these bytes: the JSON, its length in the header, then the outputs in the order asked for."""
    as_bytes = {"parameters": {"binary_data": True}}
    asked = [{"name": "label"} | as_bytes, {"name": "logits"}, {"name": "probabilities"} | as_bytes]
    reply = v2.answer(binary(ROWS[:1], outputs=asked), served)
    answer = served.predictor.predict(ROWS[:1])
    logits = orjson.dumps(answer["logits"].ravel(), option=orjson.OPT_SERIALIZE_NUMPY).decode()
    head = (
        '{"model_name":"flowers","model_version":"1","outputs":['
        '{"name":"label","datatype":"INT64","shape":[1],"parameters":{"binary_data_size":8}},'
        f'{{"name":"logits","datatype":"FP32","shape":[1,3],"data":{logits}}},'
        '{"name":"probabilities","datatype":"FP32","shape":[1,3],"parameters":{"binary_data_size":12}}]}'
    ).encode()
    tail = answer["label"].astype("<i8").tobytes() + answer["probabilities"].astype("<f4").tobytes()
    assert (
        Reply(head + tail, BYTES, 200, (("Inference-Header-Content-Length", str(len(head))),))
        == reply
    )


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(list(OUTPUTS["classification"])), unique=True),
    st.booleans(),
    st.data(),
)
def test_outputs_are_those_asked_for(
    served: ServedModel, names: list[str], default: bool, data: st.DataObject
) -> None:
    """Any subset, in the order asked for, each in the form asked for; none asked for is all of them."""
    asked: list[dict[str, Any]] = []
    for name in names:
        flag: dict[str, bool] = data.draw(
            st.sampled_from([{}, {"binary_data": True}, {"binary_data": False}])
        )
        asked.append({"name": name, "parameters": flag} if flag else {"name": name})
    document = {
        "inputs": [tensor(ROWS)],
        "outputs": asked,
        "parameters": {"binary_data_output": default},
    }
    reply = v2.answer(request(document), served)
    answer = served.predictor.predict(ROWS)
    assert same({name: answer[name] for name in names or answer}, outputs(reply))
    forms = [one.get("parameters", {}).get("binary_data", default) for one in asked] or [default]
    length = int(dict(reply.headers).get(v2.HEADER, len(reply.body)))
    found = ["data" not in output for output in json.loads(reply.body[:length])["outputs"]]
    assert (forms if asked else forms * 3) == found


def test_what_real_clients_send_beside(served: ServedModel) -> None:
    """KServe's client names the model in the body; priority, timeout and custom parameters are passed over."""
    parameters = {"priority": 1, "timeout": 1000, "custom": "x", "ratio": 0.5, "yes": True}
    document = {
        "model_name": "flowers",
        "id": "",
        "inputs": [tensor(ROWS) | {"parameters": {"content_type": "np"}}],
    }
    others: list[dict[str, Any]] = [
        {},
        {"parameters": parameters},
        {"parameters": {}, "outputs": []},
    ]
    for members in others:
        assert same(
            served.predictor.predict(ROWS), outputs(v2.answer(request(document | members), served))
        )


@settings(deadline=None)
@given(matrices, st.data())
def test_no_body_that_is_cut_or_goes_on_is_answered(
    served: ServedModel, rows: Rows, data: st.DataObject
) -> None:
    """Every truncation of a valid binary body is refused, and so is every byte too many."""
    whole = binary(rows)
    cut = whole.body[: data.draw(st.integers(0, len(whole.body) - 1))]
    for body in (cut, whole.body + b"\0", whole.body + whole.body):
        with pytest.raises(BadInput) as caught:
            v2.answer(whole._replace(body=body), served)
        assert 400 == caught.value.status


@settings(deadline=None)
@given(matrices, st.integers(0, 2000))
def test_a_wrong_length_of_the_json_is_never_answered(
    served: ServedModel, rows: Rows, length: int
) -> None:
    """The header is the one split between JSON and bytes that is answered; 0 is a raw body, and this is none."""
    whole = binary(rows)
    if length != whole.json_length:
        with pytest.raises(BadInput):
            v2.answer(whole._replace(json_length=length), served)


GOOD = tensor(ROWS)
SIZE = {"binary_data_size": ROWS.nbytes}


def changed(path: str, value: object = ...) -> dict[str, Any]:
    """Return a valid document with one member set, or removed."""
    document: Any = {"inputs": [copy.deepcopy(GOOD)]}
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place = document
    for parent in parents:
        place = place[parent]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return dict(document)


@pytest.mark.parametrize(
    ("document", "status", "where", "detail"),
    [
        ([], 422, None, "expected an object, found a list"),
        ({}, 422, None, 'expected the member "inputs"'),
        (
            changed("extra", 1),
            422,
            None,
            'expected no member beside inputs, model_name, id, parameters, outputs, found "extra"',
        ),
        (changed("inputs", {}), 422, "inputs", "expected a list of one input, found an object"),
        (changed("inputs", []), 422, "inputs", "expected a list of one input, found 0"),
        (changed("inputs", [GOOD, GOOD]), 422, "inputs", "expected a list of one input, found 2"),
        (changed("inputs", [1]), 422, "inputs[0]", "expected an object, found 1"),
        (changed("inputs.0.name"), 422, "inputs[0]", 'expected the member "name"'),
        (changed("inputs.0.shape"), 422, "inputs[0]", 'expected the member "shape"'),
        (changed("inputs.0.datatype"), 422, "inputs[0]", 'expected the member "datatype"'),
        (
            changed("inputs.0.data"),
            422,
            "inputs[0]",
            'expected either "data" or the parameter binary_data_size',
        ),
        (
            changed("inputs.0.parameters", SIZE),
            422,
            "inputs[0]",
            'expected either "data" or the parameter binary_data_size',
        ),
        (
            changed("inputs.0.more", None),
            422,
            "inputs[0]",
            'expected no member beside name, shape, datatype, parameters, data, found "more"',
        ),
        (changed("inputs.0.name", "x"), 422, "inputs[0].name", 'expected "input", found "x"'),
        (changed("inputs.0.name", None), 422, "inputs[0].name", 'expected "input", found null'),
        (
            changed("inputs.0.datatype", "FP64"),
            422,
            "inputs[0].datatype",
            'expected "FP32", found "FP64"',
        ),
        (
            changed("inputs.0.datatype", ["FP32"]),
            422,
            "inputs[0].datatype",
            'expected "FP32", found a list',
        ),
        (changed("inputs.0.shape", 8), 422, "inputs[0].shape", "expected [rows, 4], found 8"),
        (changed("inputs.0.shape", [8]), 422, "inputs[0].shape", "expected [rows, 4], found [8]"),
        (
            changed("inputs.0.shape", [2, 2, 2]),
            422,
            "inputs[0].shape",
            "expected [rows, 4], found [2, 2, 2]",
        ),
        (
            changed("inputs.0.shape", [4, 2]),
            422,
            "inputs[0].shape",
            "expected [rows, 4], found [4, 2]",
        ),
        (
            changed("inputs.0.shape", [-1, 4]),
            422,
            "inputs[0].shape",
            "expected [rows, 4], found [-1, 4]",
        ),
        (
            changed("inputs.0.shape", [2.0, 4]),
            422,
            "inputs[0].shape",
            "expected [rows, 4], found [2.0, 4]",
        ),
        (
            changed("inputs.0.shape", [True, 4]),
            422,
            "inputs[0].shape",
            "expected [rows, 4], found a list",
        ),
        (
            changed("inputs.0.shape", ["2", 4]),
            422,
            "inputs[0].shape",
            "expected [rows, 4], found a list",
        ),
        (
            changed("inputs.0.shape", [51, 4]),
            413,
            "inputs[0].shape",
            "expected at most 50 rows, found 51",
        ),
        (
            changed("inputs.0.shape", [2**62, 4]),
            413,
            "inputs[0].shape",
            "expected at most 50 rows, found 4611686018427387904",
        ),
        (
            changed("inputs.0.shape", [2**62, 2**62]),
            422,
            "inputs[0].shape",
            f"expected [rows, 4], found {[2**62] * 2}",
        ),
        (
            changed("inputs.0.shape", [1, 4]),
            422,
            "inputs[0].data",
            "expected 1 rows, as the shape says, found 2",
        ),
        (changed("inputs.0.data", {}), 422, "inputs[0].data", "expected a list, found an object"),
        (changed("inputs.0.data", "AAAA"), 422, "inputs[0].data", 'expected a list, found "AAAA"'),
        (changed("inputs.0.data", None), 422, "inputs[0].data", "expected a list, found null"),
        (
            changed("inputs.0.data", []),
            422,
            "inputs[0].data",
            "expected 8 values, as the shape says, found 0",
        ),
        (
            changed("inputs.0.data", [1] * 7),
            422,
            "inputs[0].data",
            "expected 8 values, as the shape says, found 7",
        ),
        (
            changed("inputs.0.data", [1] * 9),
            422,
            "inputs[0].data",
            "expected 8 values, as the shape says, found 9",
        ),
        (
            changed("inputs.0.data", [1] * 7 + [None]),
            422,
            "inputs[0].data[7]",
            "expected a number, found null",
        ),
        (
            changed("inputs.0.data", [1] * 7 + [True]),
            422,
            "inputs[0].data[7]",
            "expected a number, found true",
        ),
        (
            changed("inputs.0.data", [1] * 7 + ["1"]),
            422,
            "inputs[0].data[7]",
            'expected a number, found "1"',
        ),
        (
            changed("inputs.0.data", [1] * 7 + [[1]]),
            422,
            "inputs[0].data[7]",
            "expected a number, found a list",
        ),
        (
            changed("inputs.0.data", [{}] * 8),
            422,
            "inputs[0].data[0]",
            "expected a number, found an object",
        ),
        (
            changed("inputs.0.data", [1] * 7 + [1e39]),
            422,
            "inputs[0].data[7]",
            "expected a number within float32, found 1e+39",
        ),
        (
            changed("inputs.0.data.1", 1),
            422,
            "inputs[0].data[1]",
            "expected a list or an object, found 1",
        ),
        (changed("inputs.0.data.1", [1]), 422, "inputs[0].data[1]", "expected 4 values, found 1"),
        (
            changed("inputs.0.data.1.3", None),
            422,
            "inputs[0].data[1][3]",
            "expected a number, found null",
        ),
        (
            changed("inputs.0.data.1.3", False),
            422,
            "inputs[0].data[1][3]",
            "expected a number, found false",
        ),
        (
            changed("inputs.0.data.1.3", "2"),
            422,
            "inputs[0].data[1][3]",
            'expected a number, found "2"',
        ),
        (
            changed("inputs.0.data.1.3", [2]),
            422,
            "inputs[0].data[1][3]",
            "expected a number, found a list",
        ),
        (
            changed("inputs.0.data.1.3", -1e39),
            422,
            "inputs[0].data[1][3]",
            "expected a number within float32, found -1e+39",
        ),
        (
            changed("inputs.0.data.1", [3e38, -3e38, 3e38, 3e38]),
            422,
            "inputs[0].data[1]",
            "the values are too large: the network's answer to this row overflows float32",
        ),
        (
            changed("inputs.0.data", [3e38, -3e38, 3e38, 3e38] * 2),
            422,
            "row 0",
            "the values are too large: the network's answer to this row overflows float32",
        ),
        (changed("id", 7), 422, "id", "expected a string, found 7"),
        (changed("id", None), 422, "id", "expected a string, found null"),
        (changed("model_name", "houses"), 422, "model_name", 'expected "flowers", found "houses"'),
        (changed("parameters", []), 422, "parameters", "expected an object, found a list"),
        (changed("parameters", None), 422, "parameters", "expected an object, found null"),
        (
            changed("parameters", {"a": []}),
            422,
            "parameters.a",
            "expected a string, a number, true or false, found a list",
        ),
        (
            changed("parameters", {"a": None}),
            422,
            "parameters.a",
            "expected a string, a number, true or false, found null",
        ),
        (
            changed("parameters", {"binary_data_output": 1}),
            422,
            "parameters.binary_data_output",
            "expected true or false, found 1",
        ),
        (
            changed("parameters", {"sequence_id": 3, "sequence_start": True}),
            422,
            "parameters.sequence_id",
            "not supported: the model keeps no state",
        ),
        (
            changed(
                "inputs.0.parameters", {"shared_memory_region": "x", "shared_memory_byte_size": 32}
            ),
            422,
            "inputs[0].parameters.shared_memory_region",
            "not supported: there is no shared memory",
        ),
        (
            changed("inputs.0.parameters", 1),
            422,
            "inputs[0].parameters",
            "expected an object, found 1",
        ),
        (changed("outputs", {}), 422, "outputs", "expected a list of outputs, found an object"),
        (changed("outputs", None), 422, "outputs", "expected a list of outputs, found null"),
        (changed("outputs", ["label"]), 422, "outputs[0]", 'expected an object, found "label"'),
        (changed("outputs", [{}]), 422, "outputs[0]", 'expected the member "name"'),
        (
            changed("outputs", [{"name": "label"}, {"name": "x"}]),
            422,
            "outputs[1].name",
            'expected one of logits, probabilities, label, found "x"',
        ),
        (
            changed("outputs", [{"name": ["label"]}]),
            422,
            "outputs[0].name",
            "expected one of logits, probabilities, label, found a list",
        ),
        (
            changed("outputs", [{"name": "label"}] * 1000),
            422,
            "outputs[1].name",
            'the output "label" stands twice',
        ),
        (
            changed("outputs", [{"name": "label", "data": []}]),
            422,
            "outputs[0]",
            'expected no member beside name, parameters, found "data"',
        ),
        (
            changed("outputs", [{"name": "label", "parameters": {"binary_data": "true"}}]),
            422,
            "outputs[0].parameters.binary_data",
            'expected true or false, found "true"',
        ),
        (
            changed("outputs", [{"name": "probabilities", "parameters": {"classification": 2}}]),
            422,
            "outputs[0].parameters.classification",
            "not supported: ask for the output label or probabilities",
        ),
        (
            changed("outputs", [{"name": "label", "parameters": {"shared_memory_region": "x"}}]),
            422,
            "outputs[0].parameters.shared_memory_region",
            "not supported: there is no shared memory",
        ),
    ],
)
def test_json_that_does_not_fit(
    served: ServedModel, document: object, status: int, where: str | None, detail: str
) -> None:
    """Every refusal has its status, its place, and what was expected and found."""
    with pytest.raises(BadInput) as caught:
        v2.answer(request(document), served)
    assert (status, where, detail) == (caught.value.status, caught.value.where, str(caught.value))


def sized(size: object, shape: tuple[object, object] = (2, 4)) -> dict[str, Any]:
    """Return the document of a binary request that states this size."""
    given = {
        "name": "input",
        "shape": list(shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": size},
    }
    return {"inputs": [given]}


INFINITE = np.array([[0, 0, 0, 0], [0, np.inf, 0, 0]], "<f4").tobytes()


@pytest.mark.parametrize(
    ("asked", "status", "where", "detail"),
    [
        (
            request(sized(32)),
            400,
            None,
            "expected 32 bytes after the JSON, as the input's binary_data_size says, found 0",
        ),
        (
            request(sized(32), b"\0" * 31),
            400,
            None,
            "expected 32 bytes after the JSON, as the input's binary_data_size says, found 31",
        ),
        (
            request(sized(32), b"\0" * 33),
            400,
            None,
            "expected 32 bytes after the JSON, as the input's binary_data_size says, found 33",
        ),
        (
            request({"inputs": [GOOD]}, b"\0"),
            400,
            None,
            "1 bytes follow the JSON, and no input has a binary_data_size",
        ),
        (
            request(sized(28), b"\0" * 28),
            422,
            "inputs[0].parameters.binary_data_size",
            "expected 32 bytes for the shape [2, 4], found 28",
        ),
        (
            request(sized("32"), b"\0" * 32),
            422,
            "inputs[0].parameters.binary_data_size",
            'expected 32 bytes for the shape [2, 4], found "32"',
        ),
        (
            request(sized(32.0), b"\0" * 32),
            422,
            "inputs[0].parameters.binary_data_size",
            "expected 32 bytes for the shape [2, 4], found 32.0",
        ),
        (
            request(sized(-32), b""),
            422,
            "inputs[0].parameters.binary_data_size",
            "expected 32 bytes for the shape [2, 4], found -32",
        ),
        (
            request(sized(0, (2**60, 4)), b""),  # in 64 bits, 4 * 2**60 * 4 is 0
            413,
            "inputs[0].shape",
            "expected at most 50 rows, found 1152921504606846976",
        ),
        (
            request(sized(32), INFINITE),
            422,
            "row 1, column 1",
            "expected a finite number, found inf",
        ),
        (
            Request(b"{}", BYTES, "", 3),
            400,
            None,
            "Inference-Header-Content-Length: expected at most the 2 bytes of the body, found 3",
        ),
        (Request(b"", BYTES, "", 0), 400, None, "the body is empty"),
        (
            Request(b"\0" * 17, BYTES, "", 0),
            422,
            None,
            "expected a multiple of 16 bytes (4 float32 values a row), found 17",
        ),
        (
            Request(INFINITE, BYTES, "", 0),
            422,
            "row 1, column 1",
            "expected a finite number, found inf",
        ),
        (
            Request(b"\0" * 16 * 51, BYTES, "", 0),
            413,
            None,
            "expected at most 50 rows, found 51 or more",
        ),
        (Request(b"", JSON), 400, None, "the body is empty"),
        (
            Request(b'{"id": "a", "id": "a", "inputs": []}', JSON),
            400,
            None,
            'the key "id" stands twice',
        ),
        (
            Request(b'{"inputs": [{"name": "input", "name": "input"}]}', JSON),
            400,
            "inputs[0]",
            'the key "name" stands twice',
        ),
        (
            Request(b'{"inputs": [], "parameters": {"a": 1, "a": 1}}', JSON),
            400,
            "parameters",
            'the key "a" stands twice',
        ),
        (
            Request(b'{"inputs": [], "outputs": [{"parameters": {"a": 1, "a": 1}}]}', JSON),
            400,
            "outputs[0].parameters",
            'the key "a" stands twice',
        ),
    ],
)
def test_bytes_that_do_not_fit(
    served: ServedModel, asked: Request, status: int, where: str | None, detail: str
) -> None:
    """What the JSON, the header and the bytes say of one another must agree, before anything is allocated by it."""
    with pytest.raises(BadInput) as caught:
        v2.answer(asked, served)
    assert (status, where, detail) == (caught.value.status, caught.value.where, str(caught.value))


@pytest.mark.parametrize(
    ("asked", "status", "detail"),
    [
        (
            request({"inputs": [GOOD]}, content_type="text/csv"),
            415,
            "expected application/json, or application/octet-stream with Inference-Header-Content-Length, "
            "found text/csv",
        ),
        (
            request({"inputs": [GOOD]}, content_type=BYTES),
            415,
            "expected application/json, or application/octet-stream with Inference-Header-Content-Length, "
            "found application/octet-stream",
        ),
        (
            request({"inputs": [GOOD]}, accept="text/csv"),
            406,
            "Accept: expected one of application/json, found text/csv",
        ),
        (
            binary(ROWS, parameters={"binary_data_output": True})._replace(accept="text/csv"),
            406,
            "Accept: expected one of application/octet-stream, found text/csv",
        ),
        (
            binary(ROWS, parameters={"binary_data_output": True})._replace(accept=JSON),
            406,
            "Accept: expected one of application/octet-stream, found application/json",
        ),
        (
            Request(ROWS.tobytes(), BYTES, JSON, 0),
            406,
            "Accept: expected one of application/octet-stream, found application/json",
        ),
        (
            request({"inputs": [GOOD]}, accept=BYTES),
            406,
            "Accept: expected one of application/json, found application/octet-stream",
        ),
    ],
)
def test_media_types(served: ServedModel, asked: Request, status: int, detail: str) -> None:
    """415 and 406 say what would do."""
    with pytest.raises(Refused) as caught:
        v2.answer(asked, served)
    assert (status, detail) == (caught.value.status, str(caught.value))


@pytest.mark.parametrize("content_type", ["", JSON, "application/x-www-form-urlencoded"])
@pytest.mark.parametrize(
    "accept", ["", "*/*", JSON, "application/problem+json, application/json;q=0.5"]
)
def test_who_says_little_is_understood(served: ServedModel, content_type: str, accept: str) -> None:
    """Triton's client sends no Content-Type, curl a form's, and Accept may be anything that has JSON in it."""
    asked = request({"inputs": [GOOD]}, content_type=content_type, accept=accept)
    assert same(served.predictor.predict(ROWS), outputs(v2.answer(asked, served)))


@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("accept", ["", "*/*", "application/*", f"{BYTES};q=0.5, {JSON}"])
def test_the_reply_is_of_the_accepted_type(
    served: ServedModel, accept: str, binary_out: bool
) -> None:
    """The outputs that are asked for decide the media type, and Accept, which may name both, only refuses."""
    asked = request(
        {"inputs": [GOOD], "parameters": {"binary_data_output": binary_out}}, accept=accept
    )
    assert (BYTES if binary_out else JSON) == v2.answer(asked, served).content_type


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
places = st.sampled_from(
    [
        "inputs",
        "inputs.0",
        *(
            f"inputs.0.{name}"
            for name in ("name", "shape", "shape.0", "shape.1", "datatype", "data", "parameters")
        ),
        "inputs.0.data.1",
        "inputs.0.data.1.2",
        "outputs",
        "parameters",
        "id",
        "model_name",
        "other",
    ]
)


@settings(deadline=None)
@given(places, anything, st.sampled_from([None, b"", b"\0" * 32]))
def test_any_document_is_answered_or_refused(
    served: ServedModel, path: str, value: object, tail: bytes | None
) -> None:
    """Whatever stands in place of a member, the reply is finite numbers or a refusal, never an error."""
    try:
        found = outputs(v2.answer(request(changed(path, value), tail), served))
    except BadInput as error:
        assert error.status in (400, 413, 422)
        return
    assert all(np.isfinite(array).all() for array in found.values())


@settings(deadline=None)
@given(st.binary(max_size=200), st.none() | st.integers(0, 200))
def test_any_bytes_are_answered_or_refused(
    served: ServedModel, body: bytes, length: int | None
) -> None:
    """Hostile bytes never get past BadInput."""
    try:
        v2.answer(Request(body, JSON, "", length), served)
    except BadInput as error:
        assert error.status in (400, 413, 422)


@settings(deadline=None)
@given(places, anything)
def test_both_readers_read_alike(path: str, value: object) -> None:
    """What simdjson reads is what orjson does, with the data as float32; of anything doubtful it says nothing."""
    text = json.dumps(changed(path, value)).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "MIN_SIMDJSON_BYTES", 0)
        found = json_rows.load_with_array(text, ("inputs", 0, "data"), 100)
    if found is not None:
        expected = json_rows.load_json(text, 100)
        data = np.array(expected["inputs"][0].pop("data"), np.float64).astype(np.float32)
        given = found["inputs"][0].pop("data")
        assert (np.float32, data.shape, data.tobytes()) == (
            given.dtype,
            given.shape,
            given.tobytes(),
        )
        assert expected == found


@pytest.mark.parametrize(
    "data", [[1.5] * 8, [[1.5, 2, 3, 4]] * 2, [[-(2**63), 2**64 - 1, 2**53 + 1, 1e-46]]]
)
def test_simdjson_is_used(data: object) -> None:
    """A list of numbers, or of rows, becomes an array without a Python object per number."""
    text = json.dumps(
        {"id": "a[1]:2", "parameters": {"x": 1}, "inputs": [{"data": data}]}, ensure_ascii=False
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "MIN_SIMDJSON_BYTES", 0)
        found = json_rows.load_with_array(text.encode(), ("inputs", 0, "data"), 8)
        assert json_rows.load_with_array(text.encode(), ("inputs", 0, "data"), 3) is None
        more = text[:-1] + ', "more": [0' + ",0" * (json_rows.MAX_EXTRA_VALUES + 8) + "]}"
        assert json_rows.load_with_array(more.encode(), ("inputs", 0, "data"), 8) is None
    assert found is not None
    assert np.array_equal(np.array(data, np.float64).astype(np.float32), found["inputs"][0]["data"])


def test_model_document(served: ServedModel, regressor: ServedModel) -> None:
    """Name, versions, platform, and each tensor with the rows left open."""
    probabilities = {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}
    assert {
        "name": "flowers",
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [
            probabilities | {"name": "logits"},
            probabilities,
            {"name": "label", "datatype": "INT64", "shape": [-1]},
        ],
    } == v2.model(served)
    assert [{"name": "output", "datatype": "FP32", "shape": [-1, 1]}] == v2.model(regressor)[
        "outputs"
    ]
    assert ["1", "2"] == v2.model(served, versions=(1, 2))["versions"]


def test_model_document_is_the_graph_s(served: ServedModel) -> None:
    """What the document says of the outputs is what comes."""
    found = outputs(v2.answer(request({"inputs": [GOOD]}), served))
    stated = {output["name"]: output["shape"] for output in v2.model(served)["outputs"]}
    assert stated == {name: [-1, *array.shape[1:]] for name, array in found.items()}


def test_server_document() -> None:
    """Name, the version of pyproject.toml, and the one extension."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    expected = {
        "name": project["name"],
        "version": project["version"],
        "extensions": ["binary_tensor_data"],
    }
    assert expected == v2.SERVER
