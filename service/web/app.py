"""create_app(), which assembles the Flask application, and the hooks around its views."""

from time import perf_counter

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from service.errors import Refused
from service.injected_variables import log_injected
from service.observe.metrics import DEFAULT_REASONS, ROUTES, WorkerMetrics
from service.runtime.served_schema import ServedSchema
from service.settings import ServiceSettings
from service.web import replies
from service.web.context import ServiceContext, load_context
from service.web.information_routes import information_routes
from service.web.protocol_routes import PREDICTIONS, prediction_routes, v1_routes, v2_routes
from service.web.request_path import Dispatch, error_reply
from service.web.security import PUBLIC_PATHS

OTHER_ROUTE = ROUTES.index("other")
BLUEPRINTS = (prediction_routes, v2_routes, v1_routes, information_routes)


class PathSegment(BaseConverter):
    """Converter for a model's name or version in a path; it stops at the colon before a verb."""

    regex = "[^/:]+"


def create_app(
    settings: ServiceSettings | None = None,
    metrics: WorkerMetrics | None = None,
    schema: ServedSchema | None = None,
) -> Flask:
    """Return the WSGI application; the host calls this once per process.

    The artifact is loaded and checked here. If that fails, the application still starts, but it
    refuses predictions, and /readyz gives the reason.

    Args:
        settings: By default read from the environment.
        metrics: Metrics of this worker; by default not shared with other workers.
        schema: Schema that every version must have; by default that of the first version.
    """
    if settings is None:
        settings = ServiceSettings.from_environment()
        log_injected()
    context = load_context(settings, metrics or WorkerMetrics(), schema or ServedSchema())
    app = Flask(__name__, template_folder="pages", static_folder=None)
    app.url_map.converters["default"] = PathSegment
    app.url_map.merge_slashes = False
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint(context))
    _register_hooks(app, context)
    dispatch = Dispatch(app.wsgi_app, context.predict, context.fast_routes)
    app.wsgi_app = dispatch  # type: ignore[method-assign] # as in Flask's documentation
    return app


def _register_hooks(app: Flask, context: ServiceContext) -> None:
    """Add guards, metrics and headers to all requests except predictions (see PredictionPath)."""

    @app.before_request
    def begin() -> None:
        g.start, g.request_id = perf_counter(), replies.request_id(request.environ)
        method, path = request.environ["REQUEST_METHOD"], request.environ["PATH_INFO"]
        is_post = method == "POST" and not path.startswith("//")
        g.is_prediction = is_post and request.blueprint == PREDICTIONS
        if g.is_prediction:
            return
        context.metrics.count_arrival()
        if path.startswith("//"):  # werkzeug accepts //predict for /predict
            detail = f"expected one slash at the beginning, found {path[:80]!r}"
            raise Refused(404, detail, reason="not_found")
        if not method.isupper():  # werkzeug accepts get for GET
            allow = (("Allow", "GET, HEAD, OPTIONS, POST"),)
            detail = "expected a method in upper case"
            raise Refused(405, detail, reason="method_not_allowed", headers=allow)
        if request.path not in PUBLIC_PATHS and method != "OPTIONS":
            context.access.check(request.environ)

    @app.after_request
    def finish(response: Response) -> Response:
        if g.is_prediction:
            return response
        environ, status = request.environ, response.status_code
        context.metrics.count_reply(OTHER_ROUTE, status, perf_counter() - g.start, g.get("reason"))
        if status >= 400:
            context.predict.drain(environ, g.request_id, replies.as_reply(response))
        headers = context.predict.finish_reply(status, environ, g.request_id, g.start)
        response.headers.extend(headers)
        return response

    @app.errorhandler(Exception)
    def fail(error: Exception) -> Response:
        # Convert an error of Flask's routing, which then gets the format of all other errors.
        if isinstance(error, HTTPException) and error.code and error.code < 500:
            allow = tuple(header for header in error.get_headers() if header[0] == "Allow")
            reason = DEFAULT_REASONS.get(error.code, "other")
            error = Refused(error.code, error.description or "", reason=reason, headers=allow)
        reply, g.reason = error_reply(error, request.environ, g.request_id)
        return replies.respond(reply)
