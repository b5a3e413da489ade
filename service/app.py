"""create_app(settings): the routes, and the one handler that turns every error into the one error shape."""

import json
import logging
import re
import shlex
import uuid
from http import HTTPStatus
from typing import Any

import numpy as np
import orjson
from flask import Flask, Response, g, render_template, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from service import manifest
from service.dialects import native
from service.manifest import ArtifactError
from service.payload import BadInput
from service.predictor import Outputs, Predictor
from service.settings import ServiceSettings

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
RETRY_AFTER_SECONDS = "5"


class NotReady(Exception):
    """No artifact could be loaded and checked; the message says why."""


def create_app(settings: ServiceSettings | None = None) -> Flask:
    """Make the application; a host such as granian, gunicorn or `flask run` calls it once per process.

    The artifact is loaded and checked here. Where that fails the application still answers: it is
    alive, it says why it is not ready, and it refuses to predict.

    Args:
        settings: by default read from the environment.
    """
    settings = settings or ServiceSettings.from_environment()
    app = Flask(__name__, template_folder="pages", static_folder=None)
    # One byte more than is allowed: werkzeug cuts a chunked body at its limit without a word, and half a CSV
    # is a CSV. So the limit itself is checked in body().
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes + 1
    app.logger.setLevel(logging.INFO)
    loaded = _load(settings)
    if isinstance(loaded, str):
        app.logger.error("not ready: %s", loaded)
    else:
        app.logger.info("ready: %s, digest %s", loaded.path, loaded.digest)

    def predictor() -> Predictor:
        if isinstance(loaded, str):
            raise NotReady(loaded)
        return loaded

    def body() -> bytes:
        content = request.get_data(cache=False)
        if len(content) > settings.max_body_bytes:
            raise RequestEntityTooLarge
        return content

    @app.post("/predict")
    def predict() -> Response:
        served = predictor()
        rows = native.rows(body(), request.mimetype, served.manifest)
        outputs = served.predict(rows)
        refuse_overflow(outputs, request.mimetype)
        return _json(native.reply(outputs, served.manifest))

    @app.get("/healthz")
    def healthz() -> Response:
        return _json({"status": "alive"})

    @app.get("/readyz")
    def readyz() -> Response:
        served = predictor()
        model = {"name": served.manifest.name, "version": str(served.manifest.version)}
        return _json({"status": "ready", "model": model, "digest": served.digest})

    @app.get("/model")
    def model() -> Response:
        served = predictor()
        return _json({"digest": served.digest, **json.loads(served.manifest.to_json())})

    @app.get("/")
    def index() -> str:
        served = predictor()
        return render_template(
            "index.html",
            manifest=served.manifest,
            digest=served.digest,
            example=shlex.quote(served.example.decode().strip()),
            root=request.root_url,
        )

    @app.before_request
    def name_request() -> None:
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    @app.errorhandler(Exception)
    def refuse(error: Exception) -> Response:
        match error:
            case BadInput():
                return _problem(error.status, str(error), where=error.where)
            case NotReady():
                return _problem(503, f"not ready: {error}", headers={"Retry-After": RETRY_AFTER_SECONDS})
            case RequestEntityTooLarge():
                return _problem(413, f"expected a body of at most {settings.max_body_bytes} bytes, found more")
            case HTTPException() if error.code:
                headers = {key: value for key, value in error.get_headers() if key == "Allow"}
                return _problem(error.code, error.description or "", headers=headers)
        app.logger.exception("request %s failed", g.request_id)
        return _problem(500, "the server failed; its log has the reason under this request_id")

    return app


def refuse_overflow(outputs: Outputs, content_type: str) -> None:
    """Raise BadInput where a finite row has no finite answer: no such number leaves the service."""
    finite = np.isfinite(next(iter(outputs.values()))).all(axis=1)
    if not finite.all():
        detail = "the values are too large: the network's answer to this row overflows float32"
        row = int(finite.argmin())
        raise BadInput(detail, where=f"row {row}" if content_type in native.ROWS_ONLY else f"instances[{row}]")


def _load(settings: ServiceSettings) -> Predictor | str:
    """Return a predictor whose hashes and golden rows are checked, or why there is none."""
    try:
        path = settings.artifact or manifest.last_published(settings.artifacts)
        served = Predictor(path, threads=settings.threads, expect_digest=settings.expect_digest)
    except (ArtifactError, OSError) as error:
        return str(error)
    served.predict(np.array([[feature.median for feature in served.manifest.features]], np.float32))  # warm up
    return served


def _json(document: dict[str, Any], status: int = 200) -> Response:
    body = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, mimetype="application/json")


def _problem(status: int, detail: str, *, where: str | None = None, headers: dict[str, str] | None = None) -> Response:
    """Make the one error shape: RFC 9457's members, and `error`, which existing clients read."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": f"{where}: {detail}" if where else detail,
        "error": f"{where}: {detail}" if where else detail,
        "request_id": g.request_id,
    }
    response = _json(document | ({"where": where} if where else {}), status)
    response.headers.update(headers or {})
    if request.accept_mimetypes.best == "application/problem+json":
        response.mimetype = "application/problem+json"
    return response
