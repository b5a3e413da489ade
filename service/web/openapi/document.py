"""Assembly of the OpenAPI document, which describes the served model."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson

from service.artifact.schema import schema_differences
from service.errors import BadInput, Refused
from service.protocols import messages, native
from service.protocols.messages import CSV, JSON, PROBLEM
from service.protocols.v2_request import JSON_LENGTH_HEADER
from service.runtime.served_model import ServedModel
from service.web.body import read_request
from service.web.openapi.operations import document_paths, example_row, json_request
from service.web.openapi.schemas import COUNT, STRING, describe, document_schemas, ref, refs
from service.web.request_path import error_reply
from service.web.security import PUBLIC_PATHS, AccessControl

DESCRIPTION = """\
One model, served in three protocols. Numbers are finite float32 in requests and replies.

The body of a request may be compressed: `Content-Encoding: gzip` or `deflate`. All errors \
have the same members, as `application/json`, or as `application/problem+json` if `Accept` names \
it first. A method that a path does not support gets status 405 and `Allow`. Examples of a request \
and its reply have the same name."""
TAGS = {
    "native": "The service's own protocol",
    "v2": "Open Inference Protocol V2",
    "v1": "TensorFlow Serving's REST API, KServe's V1",
    "operation": "Health, metrics and documentation",
}
RETRY_TEXT = "Seconds to wait before the next attempt."
HEADERS: dict[str, Any] = {
    "X-Request-ID": describe({"required": True, "schema": STRING}, "The client's ID or a new one."),
    "Retry-After": {"required": True, "schema": COUNT | {"minimum": 1}, "description": RETRY_TEXT},
    "WWW-Authenticate": {"required": True, "schema": STRING},
    JSON_LENGTH_HEADER: describe({"schema": COUNT}, "Bytes of JSON before the tensors."),
}
VERSION_TEXT = "The current version, or the previous one."
VERSION = {"name": "version", "in": "path", "required": True, "description": VERSION_TEXT}
SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
EXAMPLE_REQUEST_ID = "c0ffee00c0ffee00c0ffee00c0ffee00"
CONDITIONS = {
    400: "The request cannot be parsed.",
    401: "The token is missing or unknown.",
    404: "This version is not served; the detail names the versions that are.",
    406: "Accept names no media type that the service can send.",
    408: "The body arrived too slowly. The connection closes; the reply is complete, although its "
    "Content-Length is one byte larger.",
    411: "CSV or bytes without Content-Length: truncation of the body could not be detected.",
    413: "More than {max_body_bytes} bytes, compressed or decompressed, or {max_rows} rows.",
    415: "A Content-Type or Content-Encoding that the service does not support; among them, on "
    "/predict, bytes without a dtype or a number of rows.",
    422: "The request does not fit this model, or a prediction overflows float32.",
    500: "An internal error; the server's log has the cause under the request_id.",
    503: "Not ready, overloaded or draining; retry after Retry-After seconds.",
}
"""Causes of each error status."""
EXTRA_HEADERS = {401: ("WWW-Authenticate",), 503: ("Retry-After",)}


def openapi_document(
    served: ServedModel,
    *,
    max_body_bytes: int,
    authenticated: bool = False,
    previous: ServedModel | None = None,
) -> dict[str, Any]:
    """Return the OpenAPI document.

    `served` is the current version; its predictor computes the examples outside the request queue.
    The previous version is listed if it has the same schema.
    """
    served = replace(served, run=served.predictor.predict)
    manifest = served.predictor.manifest
    models = [served]
    if previous and not any(schema_differences(previous.predictor.manifest, manifest)):
        models.append(previous)
    versions = [str(model.predictor.manifest.version) for model in models]
    targets, width = ", ".join(manifest.targets), len(manifest.features)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": manifest.name,
            "version": str(manifest.version),
            "summary": f"A {manifest.task} of {targets} from {width} features.",
            "description": DESCRIPTION,
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag, "description": description} for tag, description in TAGS.items()],
        "paths": document_paths(models),
        "components": {
            "schemas": document_schemas(manifest, served.max_rows, versions),
            "responses": _error_responses(served, max_body_bytes),
            "headers": HEADERS,
            "parameters": {"version": VERSION | {"schema": STRING | {"enum": versions}}},
        },
    }
    return _require_tokens(document) if authenticated else document


def _require_tokens(document: dict[str, Any]) -> dict[str, Any]:
    """Require a token for every path that is not public."""
    for path, item in document["paths"].items():
        for operation in item.values():
            if path in PUBLIC_PATHS:
                operation["security"] = []
            else:
                operation["responses"] |= refs("responses", [401])
    document["components"]["securitySchemes"] = SECURITY_SCHEMES
    return document | {"security": [{scheme: []} for scheme in SECURITY_SCHEMES]}


def _error_responses(served: ServedModel, max_body_bytes: int) -> dict[str, Any]:
    limits = {"max_body_bytes": max_body_bytes, "max_rows": served.max_rows}
    provocations = _provocations(served, max_body_bytes)
    responses = {}
    for status, condition in CONDITIONS.items():
        schema = ref("Problem") | {"properties": {"status": {"const": status}}}
        provoke = provocations.get(status)
        example = {"example": _problem(provoke)} if provoke else {}
        responses[str(status)] = {
            "description": condition.format_map(limits),
            "headers": refs("headers", ("X-Request-ID", *EXTRA_HEADERS.get(status, ()))),
            "content": {JSON: {"schema": schema, **example}, PROBLEM: {"schema": schema}},
        }
    return responses


def _provocations(served: ServedModel, max_body_bytes: int) -> dict[int, Callable[[], object]]:
    """Return functions that raise an example of each error, by status."""
    row = example_row(served)
    good, short = json_request({"instances": [row]}), json_request({"instances": [row[1:]]})
    chunked = {"CONTENT_TYPE": CSV, "wsgi.input": io.BytesIO(b"1\n"), "wsgi.input_terminated": True}
    large = {"CONTENT_LENGTH": str(max_body_bytes + 1), "wsgi.input": None}
    return {
        400: lambda: native.answer(good._replace(body=good.body[:-2]), served),
        401: lambda: AccessControl((b"token",)).check({}),
        406: lambda: native.answer(good._replace(accept="image/png"), served),
        411: lambda: messages.complete_body(read_request(chunked, max_body_bytes)),
        413: lambda: read_request(large, max_body_bytes),
        415: lambda: native.answer(good._replace(content_type="text/plain"), served),
        422: lambda: native.answer(short, served),
    }


def _problem(provoke: Callable[[], object]) -> object:
    try:
        provoke()
    except (BadInput, Refused) as error:
        return orjson.loads(error_reply(error, {}, EXAMPLE_REQUEST_ID)[0].body)
    raise AssertionError("expected an error of the service")
