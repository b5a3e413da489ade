"""Routes for operators and browsers: health, metrics, the manifest, the OpenAPI document, pages."""

import json
import shlex
from typing import Any

import orjson
from flask import Blueprint, Response, request

from service.protocols.messages import Reply
from service.web.context import ServiceContext, require_ready
from service.web.openapi.document import openapi_document
from service.web.replies import document, page, respond
from tabular.number_format import format_number


def information_routes(context: ServiceContext) -> Blueprint:
    """Return the routes of health, the manifest, the metrics, the OpenAPI document and pages."""
    routes = Blueprint("information", __name__)

    @routes.get("/healthz")
    def healthz() -> Response:
        return document({"status": "alive"})

    @routes.get("/readyz")
    def readyz() -> Response:
        predictor = context.versions.current.predictor
        require_ready(context)
        manifest, problem = predictor.manifest, context.versions.state.problem
        model = {"name": manifest.name, "version": str(manifest.version)}
        members = {"status": "ready", "model": model, "digest": predictor.digest}
        return document(members | ({"problem": problem} if problem else {}))

    @routes.get("/model")
    def model() -> Response:
        predictor = context.versions.current.predictor
        return document({"digest": predictor.digest, **orjson.loads(predictor.manifest.to_json())})

    @routes.get("/metrics")
    def metrics() -> Response:
        # A late import saves the memory of prometheus_client in workers that are never scraped.
        from service.observe.prometheus_text import metrics_text

        current = context.versions.state.current
        name = current.predictor.manifest.name if current else ""
        accept = request.headers.get("Accept", "")
        return respond(Reply(*metrics_text(context.metrics.shared, name, accept)))

    @routes.get("/openapi.json")
    def openapi() -> Response:
        return document(_description(context))

    @routes.get("/docs")
    def docs() -> Response:
        return page("docs.html", document=_description(context), text=_format_value)

    @routes.get("/")
    def index() -> Response:
        # KServe's V1 client sends GET / to check that the server is alive.
        if "text/html" not in request.headers.get("Accept", ""):
            return document({"status": "alive"})
        about = context.versions.current.predictor
        example = shlex.quote(about.example.decode().strip())
        values = {"manifest": about.manifest, "digest": about.digest, "example": example}
        return page("index.html", **values, format_number=format_number)

    return routes


def _description(context: ServiceContext) -> dict[str, Any]:
    return openapi_document(
        context.versions.current,
        max_body_bytes=context.settings.max_body_bytes,
        authenticated=bool(context.access.tokens),
        previous=context.versions.state.previous,
    )


def _format_value(value: object) -> str:
    """Format an example for a page: text unchanged, an object with one member per line."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    lines = (
        f"  {_format_value([name])[1:-1]}: {_format_value([member])[1:-1]}"
        for name, member in value.items()
    )
    return "{\n" + ",\n".join(lines) + "\n}"
