"""The error responses in the document, with examples that the service itself produces."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from service.errors import BadInput, Refused
from service.protocols import messages, native
from service.protocols.messages import CSV, JSON, PROBLEM, Request
from service.runtime.served_model import ServedModel
from service.web.body import read_request
from service.web.openapi.schemas import ref
from service.web.request_path import error_reply
from service.web.security import AccessControl

EXAMPLE_REQUEST_ID = "c0ffee00c0ffee00c0ffee00c0ffee00"
CONDITIONS = {
    400: "The request cannot be parsed.",
    401: "The token is missing or unknown.",
    404: "This version is not served; the detail names the versions that are.",
    406: "Accept names no media type that the service can send.",
    411: "Rows as CSV or bytes without Content-Length: a truncated body could not be detected.",
    413: "More than {max_body_bytes} bytes, compressed or decompressed, or {max_rows} rows.",
    415: "A Content-Type or Content-Encoding that the service does not support.",
    422: "The request does not fit this model, or the answer to a row overflows float32.",
    500: "An internal error; the server's log has the cause under the request_id.",
    503: "Not ready, overloaded or draining; retry after Retry-After seconds.",
}
"""When a status is sent."""
EXTRA_HEADERS = {401: ("WWW-Authenticate",), 503: ("Retry-After",)}


def references(component: str, *names: str | int) -> dict[str, Any]:
    """Return references to components of the document, such as headers, by name."""
    return {str(name): {"$ref": f"#/components/{component}/{name}"} for name in names}


def example_row(served: ServedModel) -> list[float]:
    """Return the row of the artifact's own example."""
    instances: list[list[float]] = orjson.loads(served.predictor.example)["instances"]
    return instances[0]


def json_request(document: Mapping[str, Any]) -> Request:
    """Return a request with a JSON body."""
    return Request(orjson.dumps(document), JSON)


def error_responses(served: ServedModel, max_body_bytes: int) -> dict[str, Any]:
    """Return the error responses by status."""
    limits = {"max_body_bytes": max_body_bytes, "max_rows": served.most_rows}
    provocations = _provocations(served, max_body_bytes)
    responses = {}
    for status, condition in CONDITIONS.items():
        schema = ref("Problem") | {"properties": {"status": {"const": status}}}
        provoke = provocations.get(status)
        example = {"example": _problem(provoke)} if provoke else {}
        responses[str(status)] = {
            "description": condition.format_map(limits),
            "headers": references("headers", "X-Request-ID", *EXTRA_HEADERS.get(status, ())),
            "content": {JSON: {"schema": schema, **example}, PROBLEM: {"schema": schema}},
        }
    return responses


def _provocations(served: ServedModel, max_body_bytes: int) -> dict[int, Callable[[], object]]:
    """Return functions that raise the error of a status."""
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
    """Return the problem document of the error that a function raises."""
    try:
        provoke()
    except (BadInput, Refused) as error:
        return orjson.loads(error_reply(error, {}, EXAMPLE_REQUEST_ID)[0].body)
    raise AssertionError("expected an error of the service")
