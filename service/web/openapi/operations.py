"""The operations in the document: every path and method, with its requests and replies."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from service.artifact.manifest import INPUT, OUTPUTS
from service.protocols import tfserving, v2
from service.protocols.messages import BYTES, CSV, JSON, Request
from service.protocols.v2_request import JSON_LENGTH_HEADER
from service.runtime.served_model import ServedModel
from service.web.openapi.error_responses import error_references, header_references
from service.web.openapi.examples import (
    Content,
    Example,
    add_examples,
    content,
    example_row,
    json_request,
)
from service.web.openapi.schemas import COUNT, STRING, Schema, described, members, ref
from service.web.request_path import NATIVE, V1, V2

HTML = "text/html"
TEXT = "text/plain"
OPENMETRICS = "application/openmetrics-text"
PREDICTION_ERRORS = (400, 406, 411, 413, 415, 422, 500, 503)
NO_MODEL_ERRORS = (500,)
"""Errors of a path that needs no model: only a defect can prevent the answer."""
LINES = described(STRING, "A line for each row.")
FLOATS = described({}, "Little-endian float32, row after row.")
TENSORS = described({}, "JSON, followed by the bytes of the tensors.")
PREDICT_DESCRIPTION = """\
A body is JSON, CSV (the first line is a header if it holds a cell that is not a number; a header \
may reorder the columns) or little-endian float32 ({row_bytes} bytes a row). A body that begins \
with `{{` is JSON if it has no Content-Type, or curl's default one. `Accept` selects one of the \
same three for the reply, whose float32 are the {numbers}."""
INFER_DESCRIPTION = f"""\
A binary request has the header `{JSON_LENGTH_HEADER}: n`: n bytes of JSON, then the bytes of the \
tensor, as many as the input's `binary_data_size`. If n is 0, the body is the tensor alone. The \
reply is binary, in the same form, if `binary_data_output` or an output's `binary_data` is true."""
JSON_LENGTH_PARAMETER = {
    "name": JSON_LENGTH_HEADER,
    "in": "header",
    "schema": COUNT,
    "description": "Bytes of JSON before the tensor in a decompressed binary request.",
}
INDEX_DESCRIPTION = "A page if `Accept` names `text/html`; otherwise whether the process is alive."
Operation = dict[str, Any]
Paths = dict[str, dict[str, Operation]]
"""Operations by path, then by method."""


def native_paths(served: ServedModel) -> Paths:
    """Return the operation of POST /predict."""
    row, lines = example_row(served), io.StringIO()
    record = dict(zip(served.features, row, strict=True))
    csv.writer(lines, lineterminator="\n").writerows([served.features, row])
    examples = [
        Example("rows", "Rows, in feature order", json_request({"instances": [row]})),
        Example("records", "Records, by feature name", json_request({"instances": [record]})),
        Example("csv", "CSV, answered in CSV", Request(lines.getvalue().encode(), CSV, CSV)),
    ]
    requests = content({JSON: ref("PredictRequest"), CSV: LINES, BYTES: FLOATS})
    replies = content({JSON: ref("PredictReply"), CSV: LINES, BYTES: FLOATS})
    add_examples(requests, replies, examples, NATIVE, served)
    numbers = "probabilities" if served.predictor.manifest.classes else "predictions"
    text = PREDICT_DESCRIPTION.format(row_bytes=4 * len(row), numbers=numbers)
    return {"/predict": _post("native", "predict", "Predict", requests, replies, text)}


def v2_paths(served: ServedModel) -> Paths:
    """Return the operations of the Open Inference Protocol."""
    live, ready = {"live": {"const": True}}, {"ready": {"const": True}}
    server = {JSON: {"const": v2.SERVER}}
    model = {
        "": _get("v2", "v2Model", "Metadata of the model", {JSON: ref("ModelMetadata")}),
        "/ready": _get("v2", "v2ModelReady", "Readiness of the model", {JSON: ref("ModelReady")}),
        "/infer": _infer(served),
    }
    return {
        "/v2": _get("v2", "v2Server", "Metadata of the server", server, NO_MODEL_ERRORS),
        "/v2/": _get("v2", "v2ServerSlash", "Metadata of the server", server, NO_MODEL_ERRORS),
        "/v2/health/live": _get(
            "v2", "v2Live", "Liveness of the process", {JSON: members(live)}, NO_MODEL_ERRORS
        ),
        "/v2/health/ready": _get(
            "v2", "v2Ready", "Readiness of the service", {JSON: members(ready | live)}
        ),
        **_model_paths(f"/v2/models/{served.predictor.manifest.name}", model),
    }


def v1_paths(versions: Sequence[ServedModel]) -> Paths:
    """Return the operations of TensorFlow Serving's REST API; the current version comes first."""
    served, row = versions[0], example_row(versions[0])
    examples = [
        Example("instances", "By rows", json_request({"instances": [row]})),
        Example("inputs", "By outputs", json_request({"inputs": [row]})),
    ]
    requests, replies = content({JSON: ref("V1Request")}), content({JSON: ref("V1Reply")})
    add_examples(requests, replies, examples, V1, served)
    metadata: Schema = {
        "enum": [tfserving.metadata(version.predictor.manifest) for version in versions]
    }
    model = {
        "": _get("v1", "v1Model", "Status of the served versions", {JSON: ref("V1Status")}),
        "/metadata": _get("v1", "v1Metadata", "Metadata of the model", {JSON: metadata}),
        ":predict": _post("v1", "v1Predict", "Predict", requests, replies),
    }
    return _model_paths(f"/v1/models/{served.predictor.manifest.name}", model)


def information_paths() -> Paths:
    """Return the operations of health, metrics, the manifest and the documentation."""
    tag, alive = "operation", {JSON: members({"status": {"const": "alive"}})}
    metrics = {TEXT: STRING, OPENMETRICS: STRING}
    index = _get(tag, "index", "The model, as a page", {HTML: STRING, **alive})
    index["get"]["description"] = INDEX_DESCRIPTION
    return {
        "/healthz": _get(tag, "healthz", "Liveness of the process", alive, NO_MODEL_ERRORS),
        "/readyz": _get(tag, "readyz", "Readiness of the service", {JSON: ref("Ready")}),
        "/model": _get(tag, "model", "Manifest and digest", {JSON: ref("Manifest")}),
        "/metrics": _get(tag, "metrics", "Metrics, for Prometheus", metrics, NO_MODEL_ERRORS),
        "/openapi.json": _get(tag, "openapi", "This document", {JSON: {"type": "object"}}),
        "/docs": _get(tag, "docs", "This document, as a page", {HTML: STRING}),
        "/": index,
    }


def _infer(served: ServedModel) -> dict[str, Operation]:
    """Return V2's operation of a prediction."""
    row = example_row(served)
    tensor = {"name": INPUT, "datatype": "FP32", "shape": [1, len(row)]}
    last_output = [{"name": list(OUTPUTS[served.predictor.manifest.task])[-1]}]
    nested = {"id": "7", "inputs": [{**tensor, "data": [row]}]}
    flat = {"inputs": [{**tensor, "data": row}], "outputs": last_output}
    examples = [
        Example("nested", "Every output", json_request(nested)),
        Example("flat", "One output, by name", json_request(flat)),
    ]
    requests = content({JSON: ref("InferRequest"), BYTES: TENSORS})
    replies = content({JSON: ref("InferReply"), BYTES: TENSORS})
    add_examples(requests, replies, examples, V2, served)
    item = _post("v2", "v2Infer", "Infer", requests, replies, INFER_DESCRIPTION)
    item["post"]["parameters"] = [JSON_LENGTH_PARAMETER]
    item["post"]["responses"]["200"]["headers"] |= header_references(JSON_LENGTH_HEADER)
    return item


def _model_paths(prefix: str, items: Paths) -> Paths:
    """Return the paths of a model, then the same paths of one version of it."""
    versions = {
        f"{prefix}/versions/{{version}}{suffix}": {
            method: _version_operation(operation) for method, operation in item.items()
        }
        for suffix, item in items.items()
    }
    return {f"{prefix}{suffix}": item for suffix, item in items.items()} | versions


def _version_operation(operation: Operation) -> Operation:
    parameter = {"$ref": "#/components/parameters/version"}
    return operation | {
        "operationId": f"{operation['operationId']}OfVersion",
        "summary": f"{operation['summary']}, one version",
        "parameters": [parameter, *operation.get("parameters", ())],
        "responses": operation["responses"] | error_references(404),
    }


def _get(
    tag: str,
    operation_id: str,
    summary: str,
    schemas: Mapping[str, Schema],
    errors: Sequence[int] = (500, 503),
) -> dict[str, Operation]:
    responses = _responses(content(schemas), errors)
    about = {"tags": [tag], "operationId": operation_id, "summary": summary}
    return {"get": {**about, "responses": responses}}


def _post(
    tag: str,
    operation_id: str,
    summary: str,
    requests: Content,
    replies: Content,
    description: str = "",
) -> dict[str, Operation]:
    about = {"tags": [tag], "operationId": operation_id, "summary": summary}
    if description:
        about["description"] = description
    body = {"required": True, "content": requests}
    responses = _responses(replies, PREDICTION_ERRORS)
    return {"post": {**about, "requestBody": body, "responses": responses}}


def _responses(replies: Content, errors: Sequence[int]) -> dict[str, Any]:
    headers = header_references("X-Request-ID")
    success = {"description": "The answer.", "headers": headers, "content": replies}
    return {"200": success, **error_references(*errors)}
