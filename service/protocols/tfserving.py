"""TensorFlow Serving's REST API, which is also KServe's V1 protocol.

https://github.com/tensorflow/serving/blob/master/tensorflow_serving/g3doc/api_rest.md
https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol
"""

from collections.abc import Sequence
from typing import Any

import orjson

from service.artifact import manifest
from service.artifact.manifest import Manifest
from service.errors import MAX_SHOWN_CHARACTERS, BadInput, Refused
from service.protocols import json_rows, messages
from service.protocols.messages import CURL_DEFAULT, JSON, Reply, Request
from service.protocols.rows import Place, mismatch, rows_from_instances
from service.runtime.served_model import ServedModel
from service.runtime.session import Outputs, Rows

SIGNATURE = "serving_default"
SIGNATURES = (SIGNATURE, "", None)
"""Accepted values of `signature_name`; an empty name means the default signature."""
STATUS_OK = {"error_code": "OK", "error_message": ""}
REQUEST_MEDIA_TYPES = (JSON, "", CURL_DEFAULT)
"""Content types that are read as JSON."""
DATA_TYPES = {"float32": "DT_FLOAT", "int64": "DT_INT64"}
"""TensorFlow's names of NumPy's data types."""


def answer(request: Request, served: ServedModel) -> Reply:
    """Answer a request: "instances" gives outputs row by row, "inputs" one array per output."""
    if request.content_type not in REQUEST_MEDIA_TYPES:
        detail = f"expected {JSON}, found {request.content_type[:MAX_SHOWN_CHARACTERS]}"
        raise Refused(415, detail, reason="unsupported_media_type")
    if request.accept:
        messages.negotiate(request.accept, (JSON,))
    member, rows, place = _read(request.body, served)
    outputs = served.infer(rows, place)
    if member == "instances":
        document = {"predictions": _by_row(outputs)}
    else:  # the reply omits the name of a single output
        document = {"outputs": outputs["output"] if len(outputs) == 1 else outputs}
    return Reply(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))


def status(about: Manifest, ready: bool, versions: Sequence[int] = ()) -> dict[str, Any]:
    """Return the document of GET /v1/models/M: TensorFlow Serving's, with two members for KServe.

    `ready` is False while the service drains; `versions` defaults to that of `about`.
    """
    state = {"state": "AVAILABLE" if ready else "UNLOADING", "status": STATUS_OK}
    states = [{"version": str(version), **state} for version in versions or (about.version,)]
    return {"model_version_status": states, "name": about.name, "ready": ready}


def metadata(about: Manifest) -> dict[str, Any]:
    """Return the document of GET /v1/models/M/metadata: one signature with the graph's tensors."""
    inputs = {manifest.INPUT: _tensor(manifest.INPUT, "float32", [-1, len(about.features)])}
    outputs = {
        name: _tensor(name, dtype, [-1] if name == "label" else [-1, about.out_features])
        for name, dtype in manifest.OUTPUTS[about.task].items()
    }
    method = "tensorflow/serving/predict"
    signature = {"inputs": inputs, "outputs": outputs, "method_name": method}
    return {
        "model_spec": {"name": about.name, "signature_name": "", "version": str(about.version)},
        "metadata": {"signature_def": {"signature_def": {SIGNATURE: signature}}},
    }


def _read(body: bytes, served: ServedModel) -> tuple[str, Rows, Place]:
    """Return the member with the rows, the rows, and a function that names the place of a row."""
    features, max_rows = served.features, served.max_rows
    # A wrong guess only costs time, because the strict parser then reads the body again.
    member = "inputs" if body.startswith(b'{"inputs"') else "instances"
    if (rows := json_rows.rows_from_member(body, member, len(features), max_rows)) is not None:
        return member, rows, (member + "[{}]").format
    document = json_rows.load_json(body, max_rows * len(features))
    if type(document) is not dict or ("instances" in document) == ("inputs" in document):
        raise BadInput('expected an object with either "instances" or "inputs"')
    where = member = "instances" if "instances" in document else "inputs"
    for name in document:
        if name not in (member, "signature_name"):
            raise mismatch(f"no member other than {member} and signature_name", name)
    signature = document.get("signature_name")
    if signature not in SIGNATURES:
        raise mismatch(f'"{SIGNATURE}"', signature, "signature_name")
    values, by_row = document[member], member == "instances"
    if not by_row and type(values) is dict:
        if list(values) != [manifest.INPUT]:
            expected = f'a list of rows, or an object with the one member "{manifest.INPUT}"'
            raise mismatch(expected, values, where)
        where, values = f"inputs.{manifest.INPUT}", values[manifest.INPUT]
    # Under "inputs" the rows are a tensor, which cannot hold records.
    rows = rows_from_instances(values, features, max_rows, where, records=by_row)
    return member, rows, (where + "[{}]").format


def _by_row(outputs: Outputs) -> Any:
    """Return one entry per row: the values of a single output, or of several outputs by name."""
    if len(outputs) == 1:
        return outputs["output"]
    labels = outputs["label"].tolist()
    rows = zip(outputs["logits"], outputs["probabilities"], labels, strict=True)
    return [{"logits": row[0], "probabilities": row[1], "label": row[2]} for row in rows]


def _tensor(name: str, dtype: str, shape: Sequence[int]) -> dict[str, Any]:
    dimensions = [{"size": str(size), "name": ""} for size in shape]
    tensor_shape = {"dim": dimensions, "unknown_rank": False}
    return {"dtype": DATA_TYPES[dtype], "tensor_shape": tensor_shape, "name": f"{name}:0"}
