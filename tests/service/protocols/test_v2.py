"""service.protocols.v2: the replies and the documents of the Open Inference Protocol."""

import tomllib

import orjson
import pytest
from hypothesis import given, settings

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


def test_reply_in_bytes(classifier: ServedModel) -> None:
    """The JSON with the ID, its length in the header, then the outputs in the requested order."""
    label = {"name": "label", "parameters": {"binary_data": True}}
    request = binary(ROWS[:1], id="a:1", outputs=[label, {"name": "logits"}])
    answer = classifier.predictor.predict(ROWS[:1])
    logits = orjson.dumps(answer["logits"].ravel(), option=orjson.OPT_SERIALIZE_NUMPY).decode()
    head = (
        '{"model_name":"flowers","model_version":"1","id":"a:1","outputs":['
        '{"name":"label","datatype":"INT64","shape":[1],"parameters":{"binary_data_size":8}},'
        f'{{"name":"logits","datatype":"FP32","shape":[1,3],"data":{logits}}}]}}'
    ).encode()
    headers = ((JSON_LENGTH_HEADER, str(len(head))),)
    expected = Reply(head + answer["label"].astype("<i8").tobytes(), BYTES, 200, headers)
    assert expected == v2.answer(request, classifier)


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


def test_documents(classifier: ServedModel) -> None:
    """The server has the name and version of pyproject.toml; a model lists its versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    expected = {"name": project["name"], "version": project["version"]}
    assert expected | {"extensions": ["binary_tensor_data"]} == v2.SERVER
    document = v2.model_metadata(classifier.predictor.manifest, versions=(1, 2))
    assert ["1", "2"] == document["versions"]
