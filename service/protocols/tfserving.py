"""TensorFlow Serving's REST API, which is KServe's V1 protocol too: {"instances": ...} or {"inputs": ...}.

https://github.com/tensorflow/serving/blob/master/tensorflow_serving/g3doc/api_rest.md
https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol
"""

from collections.abc import Sequence
from typing import Any

import orjson

from service import errors
from service.artifact import manifest
from service.errors import MAX_SHOWN_CHARACTERS, BadInput, Refused
from service.protocols import json_rows, messages
from service.protocols.messages import JSON, Reply, Request
from service.protocols.rows import rows_from_instances
from service.runtime.served_model import ServedModel
from service.runtime.session import Outputs, Rows

SIGNATURE = "serving_default"
FORMS = (JSON, "", "application/x-www-form-urlencoded")
"""What a body may be called: nobody's name for it, and curl's, are JSON too."""
DTYPES = {"float32": "DT_FLOAT", "int64": "DT_INT64"}


def answer(request: Request, served: ServedModel) -> Reply:
    """Answer {"instances": rows or records} row by row, {"inputs": rows} or {"inputs": {"input": rows}} by output.

    Raises:
        BadInput: with the status and the place.
        Refused: 415 or 406.
    """
    if request.content_type not in FORMS:
        detail = f"expected {JSON}, found {request.content_type[:MAX_SHOWN_CHARACTERS]}"
        raise Refused(415, detail, reason="unsupported_media_type")
    if request.accept:
        messages.negotiate(request.accept, (JSON,))
    member, rows, place = _read(request.body, served)
    outputs = served.infer(rows, place)
    document = (
        {"predictions": _by_row(outputs)}
        if member == "instances"
        else {"outputs": _by_output(outputs)}
    )
    return Reply(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))


def status(served: ServedModel, ready: bool, versions: Sequence[int] = ()) -> dict[str, Any]:
    """Make the document of GET /v1/models/M: TensorFlow Serving's, and the two members that KServe's client reads.

    Args:
        served: the version that answers.
        ready: or on its way out.
        versions: all that are served, where it is not the only one.
    """
    about = served.predictor.manifest
    state = {
        "state": "AVAILABLE" if ready else "UNLOADING",
        "status": {"error_code": "OK", "error_message": ""},
    }
    return {
        "model_version_status": [
            {"version": str(version), **state} for version in versions or (about.version,)
        ],
        "name": about.name,
        "ready": ready,
    }


def metadata(served: ServedModel) -> dict[str, Any]:
    """Make the document of GET /v1/models/M/metadata: the one signature, its tensors named as in the graph."""
    about = served.predictor.manifest
    outputs = {
        name: _tensor(name, dtype, [-1] if name == "label" else [-1, about.out_features])
        for name, dtype in manifest.OUTPUTS[about.task].items()
    }
    signature = {
        "inputs": {manifest.INPUT: _tensor(manifest.INPUT, "float32", [-1, len(about.features)])},
        "outputs": outputs,
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {"name": about.name, "signature_name": "", "version": str(about.version)},
        "metadata": {"signature_def": {"signature_def": {SIGNATURE: signature}}},
    }


def _read(body: bytes, served: ServedModel) -> tuple[str, Rows, str]:
    """Return which of the two members a request has, its rows, and how a row is called in the request."""
    features, most_rows = served.features, served.most_rows
    member = (
        "inputs" if body.startswith(b'{"inputs"') else "instances"
    )  # a guess: where it is wrong, there is time
    if (rows := json_rows.rows_from_member(body, member, len(features), most_rows)) is not None:
        return member, rows, member + "[{}]"
    document = json_rows.load_json(body, most_rows * len(features))
    if type(document) is not dict or ("instances" in document) == ("inputs" in document):
        raise BadInput('expected an object with either "instances" or "inputs"')
    where = member = "instances" if "instances" in document else "inputs"
    for name in document:
        if name not in (member, "signature_name"):
            raise BadInput(
                f"expected no member beside {member} and signature_name, found {errors.describe_value(name)}"
            )
    if document.get("signature_name", SIGNATURE) != SIGNATURE:
        detail = (
            f'expected "{SIGNATURE}", found {errors.describe_value(document["signature_name"])}'
        )
        raise BadInput(detail, where="signature_name")
    values = document[member]
    if member == "inputs" and type(values) is dict and list(values) == [manifest.INPUT]:
        where, values = f"inputs.{manifest.INPUT}", values[manifest.INPUT]
    if member == "inputs" and type(values) is list and values and type(values[0]) is dict:
        raise BadInput(
            "expected a list, found an object", where=f"{where}[0]"
        )  # a tensor has no records
    return member, rows_from_instances(values, features, most_rows, where), where + "[{}]"


def _by_row(outputs: Outputs) -> Any:
    """Return what there is for each row: its one output, or all of them by name."""
    if len(outputs) == 1:
        return outputs["output"]
    label = outputs["label"].tolist()
    return [
        {"logits": logits, "probabilities": probabilities, "label": label}
        for logits, probabilities, label in zip(
            outputs["logits"], outputs["probabilities"], label, strict=True
        )
    ]


def _by_output(outputs: Outputs) -> Any:
    """Return the one output, or all of them by name."""
    return outputs["output"] if len(outputs) == 1 else outputs


def _tensor(name: str, dtype: str, shape: Sequence[int]) -> dict[str, Any]:
    dimensions = [{"size": str(size), "name": ""} for size in shape]
    return {
        "dtype": DTYPES[dtype],
        "tensor_shape": {"dim": dimensions, "unknown_rank": False},
        "name": f"{name}:0",
    }
