"""The operations of the OpenAPI document: every path, with its requests and replies."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from service.artifact.manifest import INPUT, OUTPUTS
from service.errors import BadInput
from service.protocols import tfserving, v2
from service.protocols.byte_rows import DTYPES
from service.protocols.messages import BYTES, CSV, JSON, Request
from service.protocols.v2_request import JSON_LENGTH_HEADER
from service.runtime.served_model import ServedModel
from service.web.openapi.schemas import COUNT, OBJECT, STRING, Schema, describe, members, ref, refs
from service.web.request_path import NATIVE, V1, V2, Protocol

HTML = "text/html"
TRUE = {"const": True}
METRICS = {"text/plain": STRING, "application/openmetrics-text": STRING}
ALIVE = {JSON: members({"status": {"const": "alive"}})}
PREDICTION_ERRORS = (400, 406, 411, 413, 415, 422, 500, 503)
MODEL_ERRORS = (500, 503)
"""Statuses of errors on a path that needs a model."""
NO_MODEL_ERRORS = (500,)
"""Statuses of errors on a path that needs no model, where only a defect causes an error."""
LINES = describe(STRING, "A line for each row.")
FLOATS = describe({}, "Little-endian float32, row after row.")
FLOAT32_BYTES = f"{BYTES}; dtype=float32"
TENSORS = describe({}, "JSON, followed by the bytes of the tensors.")
PREDICT_DESCRIPTION = """\
The body is JSON, CSV or little-endian numbers, row after row. The first line of a CSV is a header \
if a cell is not a number; a header may reorder the columns. The Content-Type of numbers declares \
their `dtype` ({dtypes}), or the number of `rows` in float32 ({row_bytes} bytes a row), or both. \
`Accept` selects JSON, CSV or float32 for the reply; a reply in float32 contains the {numbers}."""
INFER_DESCRIPTION = f"""\
A binary request has the header `{JSON_LENGTH_HEADER}: n`: n bytes of JSON, then the bytes of the \
tensor, as many as the input's `binary_data_size`. If n is 0, the body is only the tensor, in \
float32 unless the Content-Type declares another `dtype`. The reply has the same binary format if \
`binary_data_output` or an output's `binary_data` is true."""
JSON_LENGTH_PARAMETER = describe(
    {"name": JSON_LENGTH_HEADER, "in": "header", "schema": COUNT},
    "Number of bytes of JSON before the tensor in a binary request, after decompression.",
)
Operation = dict[str, Any]


def document_paths(models: Sequence[ServedModel]) -> dict[str, dict[str, Operation]]:
    """Return every operation by path and method; the current version is the first of the models."""
    served, info = models[0], "operation"
    name = served.predictor.manifest.name
    server = {JSON: {"const": v2.SERVER}}
    live = {JSON: members({"live": TRUE})}
    ready = {JSON: members({"ready": TRUE, "live": TRUE})}
    metadata = {JSON: {"enum": [tfserving.metadata(each.predictor.manifest) for each in models]}}
    v2_model = {
        "": _route("v2", "v2Model", "Metadata of the model", {JSON: ref("ModelMetadata")}),
        "/ready": _route("v2", "v2ModelReady", "Readiness of the model", {JSON: ref("ModelReady")}),
        "/infer": _v2_infer(served),
    }
    v1_model = {
        "": _route("v1", "v1Model", "Status of the served versions", {JSON: ref("V1Status")}),
        "/metadata": _route("v1", "v1Metadata", "Metadata of the model", metadata),
        ":predict": _v1_predict(served),
    }
    operations = {
        "/predict": _native_predict(served),
        "/v2": _route("v2", "v2Server", "Metadata of the server", server, NO_MODEL_ERRORS),
        "/v2/": _route("v2", "v2ServerSlash", "Metadata of the server", server, NO_MODEL_ERRORS),
        "/v2/health/live": _route("v2", "v2Live", "Liveness of the process", live, NO_MODEL_ERRORS),
        "/v2/health/ready": _route("v2", "v2Ready", "Readiness of the service", ready),
        **_model_paths(f"/v2/models/{name}", v2_model),
        **_model_paths(f"/v1/models/{name}", v1_model),
        "/healthz": _route(info, "healthz", "Liveness of the process", ALIVE, NO_MODEL_ERRORS),
        "/readyz": _route(info, "readyz", "Readiness of the service", {JSON: ref("Ready")}),
        "/model": _route(info, "model", "Manifest and digest", {JSON: ref("Manifest")}),
        "/metrics": _route(info, "metrics", "Metrics, for Prometheus", METRICS, NO_MODEL_ERRORS),
        "/openapi.json": _route(info, "openapi", "This document", {JSON: OBJECT}),
        "/docs": _route(info, "docs", "This document, as a page", {HTML: STRING}),
        "/": _route(info, "index", "The model, as a page", {HTML: STRING, **ALIVE}),
    }
    operations["/"]["description"] = "A page for browsers; otherwise whether the process is alive."
    return {
        path: {"post" if "requestBody" in operation else "get": operation}
        for path, operation in operations.items()
    }


def example_row(served: ServedModel) -> list[float]:
    """Return the first row of the artifact's example request."""
    instances: list[list[float]] = orjson.loads(served.predictor.example)["instances"]
    return instances[0]


def json_request(document: Mapping[str, Any]) -> Request:
    """Return a request with a JSON body."""
    return Request(orjson.dumps(document), JSON)


def _native_predict(served: ServedModel) -> Operation:
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
    operation = _route("native", "predict", "Predict", replies, PREDICTION_ERRORS)
    operation["description"] = PREDICT_DESCRIPTION.format(
        dtypes=", ".join(DTYPES), row_bytes=4 * len(row), numbers=numbers
    )
    requests = {JSON: ref("PredictRequest"), CSV: LINES, FLOAT32_BYTES: FLOATS}
    return _post(operation, requests, examples, NATIVE, served)


def _v2_infer(served: ServedModel) -> Operation:
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
    operation = _route("v2", "v2Infer", "Infer", replies, PREDICTION_ERRORS)
    operation |= {"description": INFER_DESCRIPTION, "parameters": [JSON_LENGTH_PARAMETER]}
    operation["responses"]["200"]["headers"] |= refs("headers", [JSON_LENGTH_HEADER])
    return _post(operation, {JSON: ref("InferRequest"), BYTES: TENSORS}, examples, V2, served)


def _v1_predict(served: ServedModel) -> Operation:
    row = example_row(served)
    examples = {
        "instances": ("By rows", json_request({"instances": [row]})),
        "inputs": ("By outputs", json_request({"inputs": [row]})),
    }
    operation = _route("v1", "v1Predict", "Predict", {JSON: ref("V1Reply")}, PREDICTION_ERRORS)
    return _post(operation, {JSON: ref("V1Request")}, examples, V1, served)


def _post(
    operation: Operation,
    requests: Mapping[str, Schema],
    examples: Mapping[str, tuple[str, Request]],
    protocol: Protocol,
    served: ServedModel,
) -> Operation:
    """Add a request body, and for each name in examples its summary, request and reply."""
    body, replies = _content(requests), operation["responses"]["200"]["content"]
    for name, (summary, request) in examples.items():
        try:
            reply = protocol.answer(request, served)
        except BadInput:  # CSV, for example, cannot carry a name that begins with a space
            continue
        for content, message_type, message in (
            (body, request.content_type, request.body),
            (replies, reply.content_type.partition(";")[0], reply.body),
        ):
            value = orjson.loads(message) if message_type == JSON else message.decode()
            example = {"summary": summary, "value": value}
            content[message_type].setdefault("examples", {})[name] = example
    return operation | {"requestBody": {"required": True, "content": body}}


def _route(
    tag: str,
    operation_id: str,
    summary: str,
    replies: Mapping[str, Schema],
    errors: Sequence[int] = MODEL_ERRORS,
) -> Operation:
    """Return an operation without a body; _post adds one."""
    headers = refs("headers", ["X-Request-ID"])
    success = {"description": "The reply.", "headers": headers, "content": _content(replies)}
    responses = {"200": success, **refs("responses", errors)}
    about = {"tags": [tag], "operationId": operation_id, "summary": summary}
    return {**about, "responses": responses}


def _content(schemas: Mapping[str, Schema]) -> dict[str, dict[str, Any]]:
    return {media_type: {"schema": schema} for media_type, schema in schemas.items()}


def _model_paths(prefix: str, operations: Mapping[str, Operation]) -> dict[str, Operation]:
    """Return the paths of a model, then the same paths of one version of it."""
    paths = {f"{prefix}{suffix}": operation for suffix, operation in operations.items()}
    for suffix, operation in operations.items():
        paths[f"{prefix}/versions/{{version}}{suffix}"] = operation | {
            "operationId": f"{operation['operationId']}OfVersion",
            "summary": f"{operation['summary']}, one version",
            "parameters": [ref("version", "parameters"), *operation.get("parameters", ())],
            "responses": operation["responses"] | refs("responses", [404]),
        }
    return paths
