"""What happens before and after every view, and how an exception becomes a reply."""

from time import perf_counter

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from service.errors import Refused
from service.observe.metrics import DEFAULT_REASONS, ROUTES
from service.web import body, replies
from service.web.body import Environ
from service.web.context import ServiceContext
from service.web.protocol_routes import PREDICTIONS
from service.web.request_path import error_reply, finish_reply
from service.web.security import PUBLIC_PATHS, AccessControl

OTHER_ROUTE = ROUTES.index("other")


def register_hooks(app: Flask, context: ServiceContext) -> None:
    """Add the guards, metrics and headers of all requests but predictions, which have their own."""

    @app.before_request
    def begin() -> None:
        g.start, g.request_id = perf_counter(), replies.request_id(request.environ)
        method, path = request.environ["REQUEST_METHOD"], request.environ["PATH_INFO"]
        posted = method == "POST" and not path.startswith("//")
        g.is_prediction = posted and request.blueprint == PREDICTIONS
        if not g.is_prediction:
            context.metrics.entered()
            _check_request(request.environ, context.access)

    @app.after_request
    def finish(response: Response) -> Response:
        if g.is_prediction:
            return response
        environ, status, metrics = request.environ, response.status_code, context.metrics
        metrics.answered(OTHER_ROUTE, status, perf_counter() - g.start, g.get("reason"))
        if status >= 400:
            body.drain_body(environ)
        response.headers.extend(
            finish_reply(status, environ, g.request_id, g.start, context.access, metrics.board)
        )
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


def _check_request(environ: Environ, access: AccessControl) -> None:
    """Raise Refused for a path or a method that werkzeug would normalise, or without a token."""
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if path.startswith("//"):  # werkzeug routes //predict to /predict
        detail = f"expected one slash at the beginning, found {path[:80]!r}"
        raise Refused(404, detail, reason="not_found")
    if not method.isupper():  # werkzeug routes get to GET
        allow = (("Allow", "GET, HEAD, OPTIONS, POST"),)
        detail = "expected a method in capitals"
        raise Refused(405, detail, reason="method_not_allowed", headers=allow)
    if request.path not in PUBLIC_PATHS and method != "OPTIONS":
        access.check(environ)
