"""Routes for operators and browsers: health, metrics, the manifest, the OpenAPI document, pages."""

import json
import shlex
from typing import Any

import orjson
from flask import Blueprint, Response, render_template, request

from service.protocols.messages import Reply
from service.runtime.served_model import ServedModel
from service.web.context import ServiceContext, require_ready
from service.web.document_cache import DocumentCache
from service.web.openapi.document import openapi_document
from service.web.replies import document, page, respond


def information_routes(context: ServiceContext) -> Blueprint:
    """Return the routes of health, the manifest, the metrics, the OpenAPI document and pages."""
    routes = Blueprint("information", __name__)
    cache = DocumentCache()

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
        served = context.versions.current
        return respond(Reply(cache.get(served, "/model", lambda: _manifest_document(served))))

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
        served = context.versions.current
        body = cache.get(served, "/openapi.json", lambda: orjson.dumps(_openapi(context, served)))
        return respond(Reply(body))

    @routes.get("/docs")
    def docs() -> Response:
        served = context.versions.current
        return page("docs.html", cache.get(served, "/docs", lambda: _docs_page(context, served)))

    @routes.get("/")
    def index() -> Response:
        # KServe's V1 client sends GET / to check that the server is alive.
        if "text/html" not in request.headers.get("Accept", ""):
            return document({"status": "alive"})
        served = context.versions.current
        return page("index.html", cache.get(served, "/", lambda: _index_page(served)))

    return routes


def _manifest_document(served: ServedModel) -> bytes:
    predictor = served.predictor
    return orjson.dumps({"digest": predictor.digest, **orjson.loads(predictor.manifest.to_json())})


def _docs_page(context: ServiceContext, served: ServedModel) -> bytes:
    html = render_template("docs.html", document=_openapi(context, served), text=_format_value)
    return html.encode()


def _index_page(served: ServedModel) -> bytes:
    about = served.predictor
    example = shlex.quote(about.example.decode().strip())
    values = {"manifest": about.manifest, "digest": about.digest, "example": example}
    return render_template("index.html", **values).encode()


def _openapi(context: ServiceContext, served: ServedModel) -> dict[str, Any]:
    """Return the OpenAPI document of the current version, which also lists the previous one."""
    return openapi_document(
        served,
        max_body_bytes=context.settings.max_body_bytes,
        authenticated=bool(context.access.tokens),
        # Read after `served`. If a poll has replaced that version in between, this is the wrong
        # previous version, but no later request receives the document.
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
