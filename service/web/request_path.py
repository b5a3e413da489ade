"""The path of a prediction: one function answers every one of them, and carries every guard.

Flask's views call it, and so does the thin dispatch that stands before Flask: an empty Flask view takes longer than
parsing, running and answering a row. So what is fast and what is checked is one implementation. docs/http.md says more.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from service.errors import BadInput, Refused
from service.observe import logs
from service.observe.metrics import ROUTES, SharedMetrics, WorkerMetrics
from service.protocols.messages import Reply, Request
from service.runtime.admission import Admission
from service.runtime.served_model import ServedModel
from service.web import body, replies
from service.web.body import Environ
from service.web.security import NOSNIFF, AccessControl, Headers

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication


log = logging.getLogger(__name__)


class Protocol(NamedTuple):
    """How a protocol asks and is answered."""

    route: int
    """In the metrics: an index into metrics.ROUTES."""
    answer: Callable[[Request, ServedModel], Reply]
    """Pure; raises BadInput or Refused."""

    @classmethod
    def of(cls, route: str, answer: Callable[[Request, ServedModel], Reply]) -> "Protocol":
        """Name the route as the metrics do."""
        return cls(ROUTES.index(route), answer)


class PredictionPath:
    """Answers predictions, in any dialect."""

    def __init__(
        self,
        find: Callable[[], ServedModel],
        gate: AccessControl,
        admission: Admission,
        figures: WorkerMetrics,
        *,
        max_body_bytes: int,
    ) -> None:
        """Take the guards.

        Args:
            find: returns what answers where a request names no version; raises Refused.
            gate: who may ask.
            admission: how many at a time.
            figures: where it is counted.
            max_body_bytes: of a request, compressed or not.
        """
        self.find, self.gate, self.admission, self.figures = find, gate, admission, figures
        self.max_body_bytes = max_body_bytes

    def __call__(
        self, environ: Environ, dialect: Protocol, find: Callable[[], ServedModel] | None = None
    ) -> tuple[Reply, Headers]:
        """Answer a request, with what `find` returns or the current version; whatever happens, there is a reply.

        Returns:
            the dialect's reply, and the headers that every reply has.
        """
        began = perf_counter()
        request_id = replies.request_id(environ)
        self.figures.entered()
        reason = None
        try:
            if self.gate.tokens:
                self.gate.check(environ)
            served = (find or self.find)()
            reply = self._admitted(environ, dialect, served)
        except Exception as error:
            reply, reason = error_reply(error, environ, request_id)
            body.drain_body(environ)
        self.figures.answered(dialect.route, reply.status, perf_counter() - began, reason)
        return reply, finish_reply(
            reply.status, environ, request_id, began, self.gate, self.figures.board
        )

    def _admitted(self, environ: Environ, dialect: Protocol, served: ServedModel) -> Reply:
        admission = self.admission
        admission.enter()
        try:
            request = body.read_request(environ, self.max_body_bytes)
            if served.joins:
                return dialect.answer(request, served)
            admission.begin()
            try:
                return dialect.answer(request, served)
            finally:
                admission.end()
        finally:
            admission.leave()


class Dispatch:
    """A WSGI application that answers the hot routes itself and leaves all else to Flask."""

    def __init__(
        self, flask: "WSGIApplication", inference: PredictionPath, routes: Mapping[str, Protocol]
    ) -> None:
        """Take the routes, by exact path, that are answered to POST."""
        self.flask, self.inference, self.routes = flask, inference, routes

    def __call__(self, environ: Environ, start_response: "StartResponse") -> Iterable[bytes]:
        """Answer, or pass on."""
        dialect = self.routes.get(environ["PATH_INFO"])
        if dialect is None or environ["REQUEST_METHOD"] != "POST":
            environ.pop(
                "HTTP_UPGRADE", None
            )  # an offer that may be passed over (RFC 9110, 7.8); werkzeug refuses it
            return self.flask(environ, start_response)
        reply, headers = self.inference(environ, dialect)
        about = (("Content-Type", reply.content_type), ("Content-Length", str(len(reply.body))))
        start_response(replies.STATUS_LINES[reply.status], [*about, *headers, *reply.headers])
        return [reply.body]


def error_reply(error: Exception, environ: Environ, request_id: str) -> tuple[Reply, str | None]:
    """Turn what a request ran into, into the one error shape, and the reason for the metrics."""
    accept = environ.get("HTTP_ACCEPT", "")
    match error:
        case BadInput():
            reply = replies.problem_reply(
                error.status, str(error), request_id=request_id, where=error.where, accept=accept
            )
            return reply, None
        case Refused():
            detail, headers = str(error), error.headers
            reply = replies.problem_reply(
                error.status, detail, request_id=request_id, accept=accept, headers=headers
            )
            return reply, error.reason
    about = {
        "request_id": request_id,
        "trace_id": replies.trace_id(environ),
        "path": environ["PATH_INFO"],
    }
    log.error("request %s failed", request_id, exc_info=error, extra=about)
    detail = "the server failed; its log has the reason under this request_id"
    return replies.problem_reply(500, detail, request_id=request_id, accept=accept), None


def finish_reply(
    status: int,
    environ: Environ,
    request_id: str,
    began: float,
    gate: AccessControl,
    board: SharedMetrics,
) -> Headers:
    """Write the line of the access log, and return the headers that every reply has."""
    if logs.access.isEnabledFor(logging.INFO):
        seconds = perf_counter() - began
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        about = {
            "request_id": request_id,
            "trace_id": replies.trace_id(environ),
            "method": method,
            "path": path,
            "status": status,
            "seconds": round(seconds, 6),
            "remote": environ.get("REMOTE_ADDR"),
        }
        logs.access.info("%s %r %d %.1f ms", method, path, status, seconds * 1e3, extra=about)
    headers: Headers = (("X-Request-ID", request_id), NOSNIFF)
    if gate.origins:
        headers += gate.cors(environ)
    if board.draining:
        headers += (("Connection", "close"),)
    return headers
