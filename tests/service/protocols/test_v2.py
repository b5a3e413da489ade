"""service.protocols.v2: the replies and the documents of the Open Inference Protocol."""

import json
import tomllib
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.artifact.manifest import OUTPUTS
from service.protocols import v2
from service.protocols.messages import BYTES, CURL_DEFAULT, JSON, Reply, Request
from service.runtime.served_model import ServedModel
from service.runtime.session import Rows
from tests.service.protocols.refusal import refusal
from tests.service.protocols.strategies import matrices
from tests.service.protocols.v2_messages import (
    JSON_LENGTH_HEADER,
    ROWS,
    binary,
    bits,
    outputs,
    request,
    tensor,
)
from tests.serving import ROOT

AS_BYTES = {"binary_data_output": True}
INPUTS = {"inputs": [tensor(ROWS)]}


@settings(deadline=None)
@given(matrices(4))
def test_every_form_has_the_predictors_answer(classifier: ServedModel, rows: Rows) -> None:
    """Nested, flat and binary inputs have the predictor's outputs bit for bit, in either form."""
    document = {"inputs": [tensor(rows)]}
    requests = [
        request(document),
        request({"inputs": [tensor(rows, flat=True)]}),
        request(document | {"parameters": AS_BYTES}),
        request(document | {"parameters": AS_BYTES}, b""),
        binary(rows),
        binary(rows, parameters=AS_BYTES),
    ]
    if len(rows):
        requests.append(Request(rows.astype("<f4").tobytes(), BYTES, "", 0))
    expected = bits(classifier.predictor.predict(rows))
    for each in requests:
        assert expected == bits(outputs(v2.answer(each, classifier)))


def test_reply_in_json(regressor: ServedModel) -> None:
    """A reply is the model's name and version, the ID, and each output flat, in these bytes."""
    rows = np.array([[50, 10, 0.1], [60, 20, 0.1]], np.float32)
    output = regressor.predictor.predict(rows)["output"].ravel()
    data = orjson.dumps(output, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    reply = v2.answer(request({"id": "a:1", "inputs": [tensor(rows)]}), regressor)
    expected = (
        '{"model_name":"houses","model_version":"1","id":"a:1","outputs":'
        f'[{{"name":"output","datatype":"FP32","shape":[2,1],"data":{data}}}]}}'
    )
    assert Reply(expected.encode()) == reply


def test_reply_in_bytes(classifier: ServedModel) -> None:
    """A reply is the JSON, its length in the header, then the outputs in the requested order."""
    label = {"name": "label", "parameters": {"binary_data": True}}
    reply = v2.answer(binary(ROWS[:1], outputs=[label, {"name": "logits"}]), classifier)
    answer = classifier.predictor.predict(ROWS[:1])
    logits = orjson.dumps(answer["logits"].ravel(), option=orjson.OPT_SERIALIZE_NUMPY).decode()
    head = (
        '{"model_name":"flowers","model_version":"1","outputs":['
        '{"name":"label","datatype":"INT64","shape":[1],"parameters":{"binary_data_size":8}},'
        f'{{"name":"logits","datatype":"FP32","shape":[1,3],"data":{logits}}}]}}'
    ).encode()
    headers = ((JSON_LENGTH_HEADER, str(len(head))),)
    assert Reply(head + answer["label"].astype("<i8").tobytes(), BYTES, 200, headers) == reply


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(list(OUTPUTS["classification"])), unique=True),
    st.booleans(),
    st.data(),
)
def test_requested_outputs(
    classifier: ServedModel, names: list[str], default: bool, data: st.DataObject
) -> None:
    """Any subset is returned in the requested order and form; no request returns every output."""
    flags: list[bool | None] = [data.draw(st.none() | st.booleans()) for _ in names]
    requested: list[dict[str, Any]] = [
        {"name": name} if flag is None else {"name": name, "parameters": {"binary_data": flag}}
        for name, flag in zip(names, flags, strict=True)
    ]
    document = {"outputs": requested, "parameters": {"binary_data_output": default}}
    reply = v2.answer(request(INPUTS | document), classifier)
    answer = classifier.predictor.predict(ROWS)
    assert bits({name: answer[name] for name in names or answer}) == bits(outputs(reply))
    length = int(dict(reply.headers).get(JSON_LENGTH_HEADER, len(reply.body)))
    forms = ["data" not in output for output in json.loads(reply.body[:length])["outputs"]]
    assert [default if flag is None else flag for flag in flags or [None] * 3] == forms


@pytest.mark.parametrize(
    ("refused", "status", "detail"),
    [
        (request(INPUTS, content_type="text/csv"), 415, "found text/csv"),
        (request(INPUTS, content_type=BYTES), 415, f"found {BYTES}"),
        (request(INPUTS, accept=BYTES), 406, f"one of {JSON}, found {BYTES}"),
        (Request(ROWS.tobytes(), BYTES, JSON, 0), 406, f"one of {BYTES}, found {JSON}"),
    ],
)
def test_refused_media_types(
    classifier: ServedModel, refused: Request, status: int, detail: str
) -> None:
    """415 and 406 name the media types that are possible; other types of Accept are no fault."""
    form = f"{JSON}, or {BYTES} with {JSON_LENGTH_HEADER}, " if status == 415 else ""
    expected = f"{'' if form else 'Accept: '}expected {form}{detail}"
    assert (status, None, expected) == refusal(v2.answer, refused, classifier)
    accepted = request(INPUTS, None, CURL_DEFAULT, f"{BYTES};q=0.5, {JSON}")
    assert JSON == v2.answer(accepted, classifier).content_type


def test_model_document(classifier: ServedModel, regressor: ServedModel) -> None:
    """The document has the name, the versions, the platform, and each tensor with free rows."""
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
    } == v2.model_metadata(classifier.predictor.manifest)
    document = v2.model_metadata(regressor.predictor.manifest, versions=(1, 2))
    assert [{"name": "output", "datatype": "FP32", "shape": [-1, 1]}] == document["outputs"]
    assert ["1", "2"] == document["versions"]


def test_server_document() -> None:
    """The document has the name and the version of pyproject.toml, and the one extension."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    expected = {"name": project["name"], "version": project["version"]}
    assert expected | {"extensions": ["binary_tensor_data"]} == v2.SERVER
