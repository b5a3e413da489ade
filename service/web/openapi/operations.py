"""The operations in the document: every path and method, with its requests and replies.

The service itself answers the examples of requests.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from service.artifact.manifest import INPUT, OUTPUTS
from service.errors import BadInput
from service.protocols import tfserving, v2
from service.protocols.messages import BYTES, CSV, JSON, Request
from service.protocols.v2_request import JSON_LENGTH_HEADER
from service.runtime.served_model import ServedModel
from service.web.openapi.error_responses import example_row, json_request, references
from service.web.openapi.schemas import COUNT, OBJECT, STRING, Schema, described, members, ref
from service.web.request_path import NATIVE, V1, V2, Protocol

HTML = "text/html"
TRUE = {"const": True}
METRICS = {"text/plain": STRING, "application/openmetrics-text": STRING}
ALIVE = {JSON: members({"status": {"const": "alive"}})}
PREDICTION_ERRORS = (400, 406, 411, 413, 415, 422, 500, 503)
MODEL_ERRORS = (500, 503)
"""Errors of a path that needs a model."""
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
JSON_LENGTH_PARAMETER = described(
    {"name": JSON_LENGTH_HEADER, "in": "header", "schema": COUNT},
    "Bytes of JSON before the tensor in a decompressed binary request.",
)
INDEX_DESCRIPTION = "A page if `Accept` names `text/html`; otherwise whether the process is alive."
Operation = dict[str, Any]
Paths = dict[str, dict[str, Operation]]
"""Operations by path, then by method."""
Examples = Mapping[str, tuple[str, Request]]
"""The summary and the request of each example by its name."""


def document_paths(models: Sequence[ServedModel]) -> Paths:
    """Return every operation of the service; the current version of the model comes first."""
    served, info = models[0], "operation"
    name = served.predictor.manifest.name
    server = {JSON: {"const": v2.SERVER}}
    live = {JSON: members({"live": TRUE})}
    ready = {JSON: members({"ready": TRUE, "live": TRUE})}
    metadata = [tfserving.metadata(model.predictor.manifest) for model in models]
    v2_model = {
        "": _get("v2", "v2Model", "Metadata of the model", {JSON: ref("ModelMetadata")}),
        "/ready": _get("v2", "v2ModelReady", "Readiness of the model", {JSON: ref("ModelReady")}),
        "/infer": _v2_infer(served),
    }
    v1_model = {
        "": _get("v1", "v1Model", "Status of the served versions", {JSON: ref("V1Status")}),
        "/metadata": _get("v1", "v1Metadata", "Metadata of the model", {JSON: {"enum": metadata}}),
        ":predict": _v1_predict(served),
    }
    index = _get(info, "index", "The model, as a page", {HTML: STRING, **ALIVE})
    index["get"]["description"] = INDEX_DESCRIPTION
    return {
        "/predict": _native_predict(served),
        "/v2": _get("v2", "v2Server", "Metadata of the server", server, NO_MODEL_ERRORS),
        "/v2/": _get("v2", "v2ServerSlash", "Metadata of the server", server, NO_MODEL_ERRORS),
        "/v2/health/live": _get("v2", "v2Live", "Liveness of the process", live, NO_MODEL_ERRORS),
        "/v2/health/ready": _get("v2", "v2Ready", "Readiness of the service", ready),
        **_model_paths(f"/v2/models/{name}", v2_model),
        **_model_paths(f"/v1/models/{name}", v1_model),
        "/healthz": _get(info, "healthz", "Liveness of the process", ALIVE, NO_MODEL_ERRORS),
        "/readyz": _get(info, "readyz", "Readiness of the service", {JSON: ref("Ready")}),
        "/model": _get(info, "model", "Manifest and digest", {JSON: ref("Manifest")}),
        "/metrics": _get(info, "metrics", "Metrics, for Prometheus", METRICS, NO_MODEL_ERRORS),
        "/openapi.json": _get(info, "openapi", "This document", {JSON: OBJECT}),
        "/docs": _get(info, "docs", "This document, as a page", {HTML: STRING}),
        "/": index,
    }


def _native_predict(served: ServedModel) -> dict[str, Operation]:
    row, lines = example_row(served), io.StringIO()
    record = dict(zip(served.features, row, strict=True))
    csv.writer(lines, lineterminator="\n").writerows([served.features, row])
    csv_request = Request(lines.getvalue().encode(), CSV, CSV)
    examples = {
        "rows": ("Rows, in feature order", json_request({"instances": [row]})),
        "records": ("Records, by feature name", json_request({"instances": [record]})),
        "csv": ("CSV, answered in CSV", csv_request),
    }
    numbers = "probabilities" if served.predictor.manifest.classes else "predictions"
    replies = {JSON: ref("PredictReply"), CSV: LINES, BYTES: FLOATS}
    operation = _operation("native", "predict", "Predict", replies, PREDICTION_ERRORS)
    operation["description"] = PREDICT_DESCRIPTION.format(row_bytes=4 * len(row), numbers=numbers)
    requests = {JSON: ref("PredictRequest"), CSV: LINES, BYTES: FLOATS}
    return _post(operation, requests, examples, NATIVE, served)


def _v2_infer(served: ServedModel) -> dict[str, Operation]:
    row = example_row(served)
    tensor = {"name": INPUT, "datatype": "FP32", "shape": [1, len(row)]}
    last_output = [{"name": list(OUTPUTS[served.predictor.manifest.task])[-1]}]
    nested = {"id": "7", "inputs": [{**tensor, "data": [row]}]}
    flat = {"inputs": [{**tensor, "data": row}], "outputs": last_output}
    examples = {
        "nested": ("Every output", json_request(nested)),
        "flat": ("One output, by name", json_request(flat)),
    }
    replies = {JSON: ref("InferReply"), BYTES: TENSORS}
    operation = _operation("v2", "v2Infer", "Infer", replies, PREDICTION_ERRORS)
    operation |= {"description": INFER_DESCRIPTION, "parameters": [JSON_LENGTH_PARAMETER]}
    operation["responses"]["200"]["headers"] |= references("headers", JSON_LENGTH_HEADER)
    requests = {JSON: ref("InferRequest"), BYTES: TENSORS}
    return _post(operation, requests, examples, V2, served)


def _v1_predict(served: ServedModel) -> dict[str, Operation]:
    row = example_row(served)
    examples = {
        "instances": ("By rows", json_request({"instances": [row]})),
        "inputs": ("By outputs", json_request({"inputs": [row]})),
    }
    replies = {JSON: ref("V1Reply")}
    operation = _operation("v1", "v1Predict", "Predict", replies, PREDICTION_ERRORS)
    return _post(operation, {JSON: ref("V1Request")}, examples, V1, served)


def _post(
    operation: Operation,
    requests: Mapping[str, Schema],
    examples: Examples,
    protocol: Protocol,
    served: ServedModel,
) -> dict[str, Operation]:
    """Add the body of a request, and the examples with the protocol's replies to them.

    A request that the protocol refuses is left out: CSV cannot carry a feature name that begins
    with a space, for example.
    """
    body, replies = _content(requests), operation["responses"]["200"]["content"]
    for name, (summary, request) in examples.items():
        try:
            reply = protocol.answer(request, served)
        except BadInput:
            continue
        for content, message_type, message in (
            (body, request.content_type, request.body),
            (replies, reply.content_type.partition(";")[0], reply.body),
        ):
            value = orjson.loads(message) if message_type == JSON else message.decode()
            example = {"summary": summary, "value": value}
            content[message_type].setdefault("examples", {})[name] = example
    return {"post": operation | {"requestBody": {"required": True, "content": body}}}


def _get(
    tag: str,
    operation_id: str,
    summary: str,
    replies: Mapping[str, Schema],
    errors: Sequence[int] = MODEL_ERRORS,
) -> dict[str, Operation]:
    return {"get": _operation(tag, operation_id, summary, replies, errors)}


def _operation(
    tag: str,
    operation_id: str,
    summary: str,
    replies: Mapping[str, Schema],
    errors: Sequence[int],
) -> Operation:
    headers = references("headers", "X-Request-ID")
    success = {"description": "The answer.", "headers": headers, "content": _content(replies)}
    responses = {"200": success, **references("responses", *errors)}
    about = {"tags": [tag], "operationId": operation_id, "summary": summary}
    return {**about, "responses": responses}


def _content(schemas: Mapping[str, Schema]) -> dict[str, dict[str, Any]]:
    """Return OpenAPI's content of schemas by media type."""
    return {media_type: {"schema": schema} for media_type, schema in schemas.items()}


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
        "responses": operation["responses"] | references("responses", 404),
    }
