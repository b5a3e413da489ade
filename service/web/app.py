"""create_app(settings): the routes; what they answer is in dialects/, what guards them in inference.py."""

import secrets
import shlex
from time import perf_counter
from typing import Any

import orjson
from flask import Flask, Response, g, render_template, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from service.artifact import storage
from service.errors import Refused
from service.observe import metrics
from service.observe.metrics import WorkerMetrics
from service.protocols import native, tfserving, v2
from service.protocols.messages import Reply
from service.runtime.admission import Admission
from service.runtime.served_model import ServedModel, load_served_model
from service.runtime.versions import NOT_READY_HEADERS, Versions
from service.settings import ServiceSettings
from service.web import body, openapi, replies
from service.web.request_path import Dispatch, PredictionPath, Protocol, error_reply, finish_reply
from service.web.security import PUBLIC_PATHS, AccessControl, Headers, page_policy

NATIVE = Protocol.of("/predict", native.answer)
V2 = Protocol.of("/v2/infer", v2.answer)
V1 = Protocol.of("/v1/predict", tfserving.answer)
OTHER = metrics.ROUTES.index("other")
PREDICTIONS = ("predict", "v2_infer", "v1_predict")
"""The endpoints whose guards are inference's own."""


class PathSegment(BaseConverter):
    """A model's or a version's, in a path: without the colon that stands before a verb."""

    regex = "[^/:]+"


def create_app(
    settings: ServiceSettings | None = None, figures: WorkerMetrics | None = None
) -> Flask:
    """Make the application; a host such as granian, gunicorn or `flask run` calls it once per process.

    The artifact is loaded and checked here. Where that fails the application still answers: it is
    alive, it says why it is not ready, and it refuses to predict.

    Args:
        settings: by default read from the environment.
        figures: this worker's row of the metrics that the workers share; by default its own.
    """
    settings = settings or ServiceSettings.from_environment()
    figures = figures or WorkerMetrics()
    app = Flask(__name__, template_folder="pages", static_folder=None)
    app.url_map.converters["default"] = PathSegment
    app.url_map.merge_slashes = False
    gate = AccessControl(settings.tokens(), settings.origins)
    in_flight = settings.in_flight or 1
    inside = in_flight + settings.queue
    admission = Admission(in_flight, inside, settings.queue_seconds, figures.waits)
    hot = {"/predict": NATIVE}

    def answers(served: ServedModel | None) -> None:
        figures.reloaded(served is not None)
        if served is not None:
            name = served.predictor.manifest.name
            hot.update({f"/v2/models/{name}/infer": V2, f"/v1/models/{name}:predict": V1})
            figures.serves(served.predictor.manifest.version, served.predictor.digest)
            figures.ready(True)

    versions = Versions(
        lambda: settings.artifact or storage.last_published(settings.artifacts),
        lambda path: load_served_model(path, settings, figures),
        poll_seconds=settings.poll_seconds,
        on_reload=answers,
    )
    inference = PredictionPath(
        versions.find, gate, admission, figures, max_body_bytes=settings.max_body_bytes
    )
    app.wsgi_app = Dispatch(app.wsgi_app, inference, hot)  # type: ignore[method-assign] # Flask's documented way

    def find(model: str, version: str | None = None) -> ServedModel:
        served = versions.find(version)
        if model != served.predictor.manifest.name:
            name = served.predictor.manifest.name
            raise Refused(
                404, f"expected the model {name}, found {model[:80]!r}", reason="not_found"
            )
        return served

    def ready(served: ServedModel) -> ServedModel:
        if figures.board.draining:
            raise Refused(
                503,
                "not ready: draining, about to stop",
                reason="not_ready",
                headers=NOT_READY_HEADERS,
            )
        return served

    def infer(dialect: Protocol, model: str, version: str | None = None) -> Response:
        return respond(*inference(request.environ, dialect, lambda: find(model, version)))

    @app.post("/predict")
    def predict() -> Response:
        return respond(*inference(request.environ, NATIVE))

    @app.post("/v2/models/<model>/infer")
    @app.post("/v2/models/<model>/versions/<version>/infer")
    def v2_infer(model: str, version: str | None = None) -> Response:
        return infer(V2, model, version)

    @app.post("/v1/models/<model>:predict")
    @app.post("/v1/models/<model>/versions/<version>:predict")
    def v1_predict(model: str, version: str | None = None) -> Response:
        return infer(V1, model, version)

    @app.get("/v2")
    @app.get("/v2/")
    def v2_server() -> Response:
        return document(v2.SERVER)

    @app.get("/v2/health/live")
    def v2_live() -> Response:
        return document({"live": True})

    @app.get("/v2/health/ready")
    def v2_ready() -> Response:
        ready(versions.current)
        return document({"ready": True, "live": True})

    @app.get("/v2/models/<model>")
    @app.get("/v2/models/<model>/versions/<version>")
    def v2_model(model: str, version: str | None = None) -> Response:
        return document(v2.model(find(model, version), versions.numbers))

    @app.get("/v2/models/<model>/ready")
    @app.get("/v2/models/<model>/versions/<version>/ready")
    def v2_model_ready(model: str, version: str | None = None) -> Response:
        ready(find(model, version))
        return document({"name": model, "ready": True})

    @app.get("/v1/models/<model>")
    @app.get("/v1/models/<model>/versions/<version>")
    def v1_status(model: str, version: str | None = None) -> Response:
        served = find(model, version)
        return document(
            tfserving.status(
                served, not figures.board.draining, () if version else versions.numbers
            )
        )

    @app.get("/v1/models/<model>/metadata")
    @app.get("/v1/models/<model>/versions/<version>/metadata")
    def v1_metadata(model: str, version: str | None = None) -> Response:
        return document(tfserving.metadata(find(model, version)))

    @app.get("/healthz")
    def healthz() -> Response:
        return document({"status": "alive"})

    @app.get("/readyz")
    def readyz() -> Response:
        about = ready(versions.current).predictor
        model = {"name": about.manifest.name, "version": str(about.manifest.version)}
        found = {"status": "ready", "model": model, "digest": about.digest}
        return document(found | ({"problem": versions.problem} if versions.problem else {}))

    @app.get("/model")
    def model() -> Response:
        about = versions.current.predictor
        return document({"digest": about.digest, **orjson.loads(about.manifest.to_json())})

    @app.get("/metrics")
    def expose() -> Response:
        from service.observe import (
            prometheus_text,  # here, because whoever is never asked needs no prometheus_client in memory
        )

        current = versions.state.current
        name = (
            current.predictor.manifest.name if current else ""
        )  # whoever is not ready is watched the more
        return respond(
            Reply(
                *prometheus_text.metrics_text(
                    figures.board, name, request.headers.get("Accept", "")
                )
            )
        )

    def described() -> dict[str, Any]:
        return openapi.document(
            versions.current,
            max_body_bytes=settings.max_body_bytes,
            authenticated=bool(gate.tokens),
            previous=versions.state.previous,
        )

    @app.get("/openapi.json")
    def describe() -> Response:
        return document(described())

    @app.get("/docs")
    def docs() -> Response:
        return page("docs.html", document=described(), text=openapi.text)

    @app.get("/")
    def index() -> Response:
        if "text/html" not in request.headers.get(
            "Accept", ""
        ):  # KServe's V1 client asks here whether we live
            return document({"status": "alive"})
        about = versions.current.predictor
        example = shlex.quote(about.example.decode().strip())
        return page("index.html", manifest=about.manifest, digest=about.digest, example=example)

    @app.before_request
    def enter() -> None:
        g.began, g.request_id = perf_counter(), replies.request_id(request.environ)
        method, path = request.environ["REQUEST_METHOD"], request.environ["PATH_INFO"]
        g.guarded = (
            method == "POST" and request.endpoint in PREDICTIONS and not path.startswith("//")
        )
        if g.guarded:
            return
        figures.entered()
        if path.startswith("//"):  # werkzeug takes //predict for /predict
            raise Refused(
                404, f"expected one slash at the beginning, found {path[:80]!r}", reason="not_found"
            )
        if not method.isupper():  # and get for GET
            allowed = (("Allow", "GET, HEAD, OPTIONS, POST"),)
            raise Refused(
                405, "methods are written in capitals", reason="method_not_allowed", headers=allowed
            )
        if request.path not in PUBLIC_PATHS and request.method != "OPTIONS":
            gate.check(request.environ)

    @app.after_request
    def leave(response: Response) -> Response:
        if g.guarded:
            return response
        figures.answered(OTHER, response.status_code, perf_counter() - g.began, g.get("reason"))
        if response.status_code >= 400:
            body.drain_body(request.environ)
        status = response.status_code
        response.headers.extend(
            finish_reply(status, request.environ, g.request_id, g.began, gate, figures.board)
        )
        return response

    @app.errorhandler(Exception)
    def refuse(error: Exception) -> Response:
        if isinstance(error, HTTPException) and error.code and error.code < 500:
            headers = tuple((key, value) for key, value in error.get_headers() if key == "Allow")
            reason = metrics.DEFAULT_REASONS.get(error.code, "other")
            error = Refused(error.code, error.description or "", reason=reason, headers=headers)
        reply, g.reason = error_reply(error, request.environ, g.request_id)
        return respond(reply)

    return app


def page(template: str, **context: Any) -> Response:
    """Answer with a page that runs nothing but its own style and script."""
    nonce = secrets.token_urlsafe(16)
    body = render_template(template, nonce=nonce, root=request.root_url, **context)
    return respond(Reply(body.encode(), "text/html; charset=utf-8", headers=page_policy(nonce)))


def document(found: dict[str, Any]) -> Response:
    """Answer with a JSON document."""
    return respond(Reply(orjson.dumps(found)))


def respond(reply: Reply, headers: Headers = ()) -> Response:
    """Answer as Flask does."""
    response = Response(reply.body, reply.status, content_type=reply.content_type)
    response.headers.extend((*headers, *reply.headers))
    return response
