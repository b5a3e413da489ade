"""The OpenAPI 3.1 document of the service, generated from the model that answers.

Paths, limits and schemas are those of this model, and what an example shows as its answer is what the dialect itself
answered when the document was made.
"""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from service.artifact.manifest import INPUT, OUTPUTS, Manifest
from service.errors import BadInput, Refused
from service.protocols import messages, native, tfserving, v2
from service.protocols.messages import BYTES, CSV, JSON, PROBLEM, Reply, Request
from service.runtime.served_model import ServedModel
from service.web import replies
from service.web.body import read_request
from service.web.schemas import Schema, members, ref, schemas
from service.web.security import PUBLIC_PATHS, AccessControl

HTML = "text/html"
TEXT = "text/plain"
OPENMETRICS = "application/openmetrics-text"
REQUEST_ID = "c0ffee00c0ffee00c0ffee00c0ffee00"
"""Of the examples."""
DESCRIPTION = """\
One model, asked in three dialects. Numbers are float32, and finite both ways.

A request's body may be compressed: `Content-Encoding: gzip` or `deflate`. `X-Request-ID` comes back, or is made, and a
W3C `traceparent` stands in the log. Every error has one shape, as `application/json`, or as `application/problem+json`
where `Accept` asks for that first. A method that a path does not have is answered 405, with `Allow`.

A reply's example answers the request's example of the same name, where `Accept` names the reply's media type."""
TAGS = {
    "native": "The native dialect",
    "v2": "Open Inference Protocol V2",
    "v1": "TensorFlow Serving's REST API, KServe's V1",
    "operation": "Health, figures, and what is served",
}
WHEN = {
    400: "The request cannot be parsed.",
    401: "No token, or one that this service does not know.",
    404: "This version is not served; the detail says what is.",
    406: "Accept names none of the media types that can be given.",
    411: "Rows as CSV or bytes in chunks, without Content-Length: nobody can tell whether they are all there.",
    413: "A body of more than {max_body_bytes} bytes, compressed or not, or more than {most_rows} rows.",
    415: "A Content-Type or Content-Encoding that is not understood.",
    422: "The request parses and does not fit this model, or a row is so large that its answer overflows float32.",
    500: "The server failed; its log has the reason under the request_id.",
    503: "Not ready, overloaded, or about to stop; to be asked again after Retry-After seconds.",
}
OF_A_PREDICTION = (400, 406, 411, 413, 415, 422, 500, 503)
ALWAYS = (500,)
"""Of what is answered while no model is: nothing but a defect can refuse it."""
HEADERS: dict[str, Any] = {
    "X-Request-ID": {
        "required": True,
        "schema": {"type": "string"},
        "description": "The request's own, or a new one.",
    },
    "Retry-After": {
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
        "description": "Seconds.",
    },
    "WWW-Authenticate": {"required": True, "schema": {"type": "string"}},
    v2.HEADER: {
        "schema": {"type": "integer", "minimum": 0},
        "description": "Of a binary reply: the bytes of JSON before the tensors.",
    },
}
SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
LINES: Schema = {"type": "string", "description": "A line for each row."}
FLOATS: Schema = {"description": "Little-endian float32, row after row."}
TENSORS: Schema = {"description": "JSON, then the tensors' bytes."}
Answer = Callable[[Request, ServedModel], Reply]
Document = dict[str, Any]
Paths = dict[str, dict[str, Document]]
"""By path, then by method."""


class Ask(NamedTuple):
    """A request to be shown, with its answer."""

    name: str
    summary: str
    request: Request


def document(
    served: ServedModel,
    *,
    max_body_bytes: int,
    authenticated: bool = False,
    previous: ServedModel | None = None,
) -> Document:
    """Describe every route, for the model that answers.

    The last document is kept, for its examples are computed: it is shared, and not to be changed.

    Args:
        served: what answers; the examples are computed here, past any queue.
        max_body_bytes: of a request.
        authenticated: whether a token must be shown.
        previous: what the paths of its version still reach; it is named only where it takes and gives the same.
    """
    return _document(served, previous, max_body_bytes, authenticated)


@lru_cache(
    maxsize=1
)  # by the identity of what is served; a version that is dropped is held until the next is described
def _document(
    served: ServedModel, previous: ServedModel | None, max_body_bytes: int, authenticated: bool
) -> Document:
    served = replace(served, run=served.predictor.predict)
    manifest = served.predictor.manifest
    answering = [served]
    if previous and _form(previous.predictor.manifest) == _form(manifest):
        answering.append(previous)
    versions = [str(each.predictor.manifest.version) for each in answering]
    version = {
        "name": "version",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "enum": versions},
        "description": "The current version, or the one before it.",
    }
    found = {
        "openapi": "3.1.0",
        "info": {
            "title": manifest.name,
            "version": str(manifest.version),
            "summary": f"A {manifest.task} of {', '.join(manifest.targets)} from {len(manifest.features)} features.",
            "description": DESCRIPTION,
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag, "description": description} for tag, description in TAGS.items()],
        "paths": {
            "/predict": {"post": _predict(served)},
            **_v2(served),
            **_v1(answering),
            **_operation(),
        },
        "components": {
            "schemas": schemas(manifest, served.most_rows, versions),
            "responses": _refusals(served, max_body_bytes),
            "headers": HEADERS,
            "parameters": {"version": version},
        },
    }
    return _secured(found) if authenticated else found


def text(value: object) -> str:
    """Write a value of the document for the page: text as it is, else JSON, an object's members each on its line."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    lines = (f"  {text([name])[1:-1]}: {text([member])[1:-1]}" for name, member in value.items())
    return "{\n" + ",\n".join(lines) + "\n}"


def _predict(served: ServedModel) -> Document:
    """Describe the native dialect."""
    row, lines = _row(served), io.StringIO()
    record = dict(zip(served.features, row, strict=True))
    csv.writer(lines, lineterminator="\n").writerows([served.features, row])
    asks = [
        Ask("rows", "Rows, in feature order", _json({"instances": [row]})),
        Ask("records", "Records, by feature name", _json({"instances": [record]})),
        Ask("csv", "CSV, answered in CSV", Request(lines.getvalue().encode(), CSV, CSV)),
    ]
    bodies = {JSON: ref("PredictRequest"), CSV: LINES, BYTES: FLOATS}
    replies = {JSON: ref("PredictReply"), CSV: LINES, BYTES: FLOATS}
    about = (
        "A body is JSON, CSV (its first line is a header where it holds a non-number, and may then reorder the "
        f"columns) or little-endian float32 ({4 * len(row)} bytes a row). A body that begins with `{{` and names no "
        "type, or curl's default one, is JSON. `Accept` chooses among the same three for the reply; its float32 are "
        f"the {'probabilities' if served.predictor.manifest.classes else 'predictions'}."
    )
    shown = _shown(native.answer, asks, served, bodies, replies)
    return _operation_of("native", "predict", "Predict", about) | shown


def _v2(served: ServedModel) -> Paths:
    """Describe the Open Inference Protocol."""
    manifest, row = served.predictor.manifest, _row(served)
    tensor = {"name": INPUT, "datatype": "FP32", "shape": [1, len(row)]}
    last = [{"name": list(OUTPUTS[manifest.task])[-1]}]
    asks = [
        Ask("nested", "Every output", _json({"id": "7", "inputs": [{**tensor, "data": [row]}]})),
        Ask(
            "flat",
            "One output, by name",
            _json({"inputs": [{**tensor, "data": row}], "outputs": last}),
        ),
    ]
    about = (
        f"A binary request says `{v2.HEADER}: n`: n bytes of JSON, then the tensor's bytes, as many as the input's "
        "`binary_data_size` says; where n is 0, the tensor's bytes alone. The reply is binary, in the same form, where "
        "`binary_data_output`, or an output's own `binary_data`, asks for it."
    )
    infer = _operation_of("v2", "v2Infer", "Infer", about) | _shown(
        v2.answer,
        asks,
        served,
        {JSON: ref("InferRequest"), BYTES: TENSORS},
        {JSON: ref("InferReply"), BYTES: TENSORS},
    )
    infer["parameters"] = [
        {
            "name": v2.HEADER,
            "in": "header",
            "schema": {"type": "integer", "minimum": 0},
            "description": "Of a binary request, decompressed: the bytes of JSON before the tensor's.",
        }
    ]
    infer["responses"]["200"]["headers"] |= _headers(v2.HEADER)
    live, ready = {"live": {"const": True}}, {"ready": {"const": True}}
    model = {
        "": {
            "get": _get(
                "v2", "v2Model", "What the model takes and gives", {JSON: ref("ModelMetadata")}
            )
        },
        "/ready": {
            "get": _get(
                "v2", "v2ModelReady", "Whether the model answers", {JSON: ref("ModelReady")}
            )
        },
        "/infer": {"post": infer},
    }
    lives = _get("v2", "v2Live", "Whether the process lives", {JSON: members(live)}, ALWAYS)
    server = _get("v2", "v2Server", "What the server is", {JSON: {"const": v2.SERVER}}, ALWAYS)
    return {
        "/v2": {"get": server},
        "/v2/": {"get": {**server, "operationId": "v2ServerSlash"}},
        "/v2/health/live": {"get": lives},
        "/v2/health/ready": {
            "get": _get(
                "v2", "v2Ready", "Whether the service answers", {JSON: members(ready | live)}
            )
        },
        **_of_model(f"/v2/models/{manifest.name}", model),
    }


def _v1(answering: Sequence[ServedModel]) -> Paths:
    """Describe TensorFlow Serving's REST API."""
    served, row = answering[0], _row(answering[0])
    asks = [
        Ask("instances", "By rows", _json({"instances": [row]})),
        Ask("inputs", "By columns", _json({"inputs": [row]})),
    ]
    metadata: Schema = {"enum": [tfserving.metadata(each) for each in answering]}
    shown = _shown(tfserving.answer, asks, served, {JSON: ref("V1Request")}, {JSON: ref("V1Reply")})
    model = {
        "": {"get": _get("v1", "v1Model", "Which version answers", {JSON: ref("V1Status")})},
        "/metadata": {
            "get": _get("v1", "v1Metadata", "What the model takes and gives", {JSON: metadata})
        },
        ":predict": {"post": _operation_of("v1", "v1Predict", "Predict") | shown},
    }
    return _of_model(f"/v1/models/{served.predictor.manifest.name}", model)


def _operation() -> Paths:
    """Describe what is asked by those who run the service, and by a browser."""
    alive, text = members({"status": {"const": "alive"}}), {"type": "string"}
    metrics, ready = {TEXT: text, OPENMETRICS: text}, {JSON: ref("Ready")}
    index = _get("operation", "index", "The model, on a page", {HTML: text, JSON: alive})
    index["description"] = (
        "The page is for those whose `Accept` names `text/html`; others learn that the process lives."
    )
    return {
        "/healthz": {
            "get": _get("operation", "healthz", "Whether the process lives", {JSON: alive}, ALWAYS)
        },
        "/readyz": {
            "get": _get(
                "operation", "readyz", "Whether the service answers, and if not, why", ready
            )
        },
        "/model": {
            "get": _get(
                "operation", "model", "The model's manifest and digest", {JSON: ref("Manifest")}
            )
        },
        "/metrics": {
            "get": _get("operation", "metrics", "Figures, for Prometheus", metrics, ALWAYS)
        },
        "/openapi.json": {
            "get": _get("operation", "openapi", "This document", {JSON: {"type": "object"}})
        },
        "/docs": {"get": _get("operation", "docs", "This document, as a page", {HTML: text})},
        "/": {"get": index},
    }


def _of_model(prefix: str, items: Paths) -> Paths:
    """Return the paths of a model, and those of its versions."""
    of_versions = {
        f"{prefix}/versions/{{version}}{suffix}": {
            method: _of_version(each) for method, each in item.items()
        }
        for suffix, item in items.items()
    }
    return {f"{prefix}{suffix}": item for suffix, item in items.items()} | of_versions


def _of_version(operation: Document) -> Document:
    return operation | {
        "operationId": f"{operation['operationId']}OfVersion",
        "summary": f"{operation['summary']}, of a version",
        "parameters": [
            {"$ref": "#/components/parameters/version"},
            *operation.get("parameters", ()),
        ],
        "responses": operation["responses"] | _refused(404),
    }


def _operation_of(tag: str, name: str, summary: str, description: str = "") -> Document:
    about = {"description": description} if description else {}
    return {"tags": [tag], "operationId": name, "summary": summary, **about}


def _get(
    tag: str,
    name: str,
    summary: str,
    replies: Mapping[str, Schema],
    refusals: Sequence[int] = (500, 503),
) -> Document:
    content = {form: {"schema": schema} for form, schema in replies.items()}
    return _operation_of(tag, name, summary) | {"responses": _responses(content, refusals)}


def _shown(
    answer: Answer,
    asks: Sequence[Ask],
    served: ServedModel,
    bodies: Mapping[str, Schema],
    replies: Mapping[str, Schema],
) -> Document:
    """Return the body and the responses of a prediction, by media type, with the examples that are asked here.

    A request that is refused is not shown: CSV, say, cannot carry a name that begins with a space.
    """
    asked: Document = {form: {"schema": schema} for form, schema in bodies.items()}
    given: Document = {form: {"schema": schema} for form, schema in replies.items()}
    for ask in asks:
        try:
            reply = answer(ask.request, served)
        except BadInput:
            continue
        for content, form, body in (
            (asked, ask.request.content_type, ask.request.body),
            (given, reply.content_type.partition(";")[0], reply.body),
        ):
            value = orjson.loads(body) if form == JSON else body.decode()
            content[form].setdefault("examples", {})[ask.name] = {
                "summary": ask.summary,
                "value": value,
            }
    return {
        "requestBody": {"required": True, "content": asked},
        "responses": _responses(given, OF_A_PREDICTION),
    }


def _responses(replies: Document, refusals: Sequence[int]) -> Document:
    ok = {"description": "The answer.", "headers": _headers("X-Request-ID"), "content": replies}
    return {"200": ok, **_refused(*refusals)}


def _refused(*statuses: int) -> Document:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses}


def _headers(*names: str) -> Document:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _refusals(served: ServedModel, max_body_bytes: int) -> Document:
    """Return the responses that are errors, by status; the examples are what the service says to such requests."""
    chunked = {"CONTENT_TYPE": CSV, "wsgi.input": io.BytesIO(b"1\n"), "wsgi.input_terminated": True}
    good, short = _json({"instances": [_row(served)]}), _json({"instances": [_row(served)[1:]]})
    provoked: dict[int, Callable[[], object]] = {
        400: lambda: native.answer(good._replace(body=good.body[:-2]), served),
        401: lambda: AccessControl((b"token",)).check({}),
        406: lambda: native.answer(good._replace(accept="image/png"), served),
        411: lambda: messages.complete_body(read_request(chunked, max_body_bytes)),
        413: lambda: read_request(
            {"CONTENT_LENGTH": str(max_body_bytes + 1), "wsgi.input": None}, max_body_bytes
        ),
        415: lambda: native.answer(good._replace(content_type="text/plain"), served),
        422: lambda: native.answer(short, served),
    }
    limits = {"max_body_bytes": max_body_bytes, "most_rows": served.most_rows}
    headers = {401: "WWW-Authenticate", 503: "Retry-After"}
    found = {}
    for status, when in WHEN.items():
        schema = ref("Problem") | {"properties": {"status": {"const": status}}}
        content: Document = {"schema": schema}
        if status in provoked:
            content["example"] = _problem(status, provoked[status])
        found[str(status)] = {
            "description": when.format_map(limits),
            "headers": _headers("X-Request-ID", *filter(None, [headers.get(status)])),
            "content": {JSON: content, PROBLEM: {"schema": schema}},
        }
    return found


def _problem(status: int, provoke: Callable[[], object]) -> object:
    try:
        provoke()
    except (BadInput, Refused) as error:
        where = error.where if isinstance(error, BadInput) else None
        return orjson.loads(
            replies.problem_reply(status, str(error), request_id=REQUEST_ID, where=where).body
        )
    raise AssertionError(f"nothing was refused with {status}")


def _secured(found: Document) -> Document:
    """Say that a token is needed, but for the paths that are open."""
    for path, item in found["paths"].items():
        for operation in item.values():
            if path in PUBLIC_PATHS:
                operation["security"] = []
            else:
                operation["responses"] |= _refused(401)
    found["components"]["securitySchemes"] = SECURITY
    return found | {"security": [{scheme: []} for scheme in SECURITY]}


def _row(served: ServedModel) -> list[float]:
    """Return a row that works: the artifact's own."""
    instances: list[list[float]] = orjson.loads(served.predictor.example)["instances"]
    return instances[0]


def _json(body: Document) -> Request:
    return Request(orjson.dumps(body), JSON)


def _form(manifest: Manifest) -> object:
    """Return what decides how a model is asked and what it answers."""
    names = tuple(feature.name for feature in manifest.features)
    classes = [(type(value), value) for value in manifest.classes]
    return manifest.name, manifest.task, names, manifest.targets, classes
