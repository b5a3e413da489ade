"""create_app, which assembles the Flask application, and what happens around every view."""

from time import perf_counter

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from service.errors import Refused
from service.observe.metrics import DEFAULT_REASONS, ROUTES, WorkerMetrics
from service.settings import ServiceSettings
from service.web import body, replies
from service.web.context import ServiceContext, load_context
from service.web.information_routes import information_routes
from service.web.protocol_routes import PREDICTIONS, prediction_routes, v1_routes, v2_routes
from service.web.request_path import Dispatch, error_reply
from service.web.security import PUBLIC_PATHS

OTHER_ROUTE = ROUTES.index("other")
BLUEPRINTS = (prediction_routes, v2_routes, v1_routes, information_routes)


class PathSegment(BaseConverter):
    """A model's name or a version in a path, which ends before the colon of a verb."""

    regex = "[^/:]+"


def create_app(
    settings: ServiceSettings | None = None, metrics: WorkerMetrics | None = None
) -> Flask:
    """Return the application; a WSGI host calls this once per process.

    The artifact is loaded and checked here. If that fails the application still starts: it is
    alive, refuses predictions, and names the reason at /readyz.

    Args:
        settings: By default read from the environment.
        metrics: Counters of this worker; by default shared with no other worker.
    """
    settings = settings or ServiceSettings.from_environment()
    context = load_context(settings, metrics or WorkerMetrics())
    app = Flask(__name__, template_folder="pages", static_folder=None)
    app.url_map.converters["default"] = PathSegment
    app.url_map.merge_slashes = False
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint(context))
    _register_hooks(app, context)
    dispatch = Dispatch(app.wsgi_app, context.predict, context.fast_routes)
    app.wsgi_app = dispatch  # type: ignore[method-assign] # as Flask's documentation wraps it
    return app


def _register_hooks(app: Flask, context: ServiceContext) -> None:
    """Add the guards, metrics and headers of all requests but predictions, which have their own."""

    @app.before_request
    def begin() -> None:
        g.start, g.request_id = perf_counter(), replies.request_id(request.environ)
        method, path = request.environ["REQUEST_METHOD"], request.environ["PATH_INFO"]
        posted = method == "POST" and not path.startswith("//")
        g.is_prediction = posted and request.blueprint == PREDICTIONS
        if g.is_prediction:
            return
        context.metrics.count_arrival()
        if path.startswith("//"):  # werkzeug routes //predict to /predict
            detail = f"expected one slash at the beginning, found {path[:80]!r}"
            raise Refused(404, detail, reason="not_found")
        if not method.isupper():  # werkzeug routes get to GET
            allow = (("Allow", "GET, HEAD, OPTIONS, POST"),)
            detail = "expected a method in capitals"
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
            body.drain_body(environ)
        headers = context.predict.finish_reply(status, environ, g.request_id, g.start)
        response.headers.extend(headers)
        return response

    @app.errorhandler(Exception)
    def fail(error: Exception) -> Response:
        # An exception of Flask's routing becomes an error like all others.
        if isinstance(error, HTTPException) and error.code and error.code < 500:
            allow = tuple(header for header in error.get_headers() if header[0] == "Allow")
            reason = DEFAULT_REASONS.get(error.code, "other")
            error = Refused(error.code, error.description or "", reason=reason, headers=allow)
        reply, g.reason = error_reply(error, request.environ, g.request_id)
        return replies.respond(reply)
