"""The path of every prediction: one function with all guards, called with and without Flask.

An empty Flask view takes longer than parsing, evaluating and answering a row, so Dispatch answers
the common routes before Flask sees them. See docs/http.md.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from service.errors import BadInput, Refused
from service.observe import logs
from service.observe.metrics import ROUTES, WorkerMetrics
from service.protocols import native, tfserving, v2
from service.protocols.messages import Reply, Request
from service.runtime.admission import Admission
from service.runtime.served_model import ServedModel
from service.web import body, replies
from service.web.body import Environ
from service.web.security import NOSNIFF, AccessControl, Headers

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

INTERNAL_ERROR = "internal error; the server's log has the cause under this request_id"
log = logging.getLogger(__name__)


class Protocol(NamedTuple):
    """A protocol as the request path calls it."""

    route: int
    """Index of the protocol's route in metrics.ROUTES."""
    answer: Callable[[Request, ServedModel], Reply]
    """Pure function; raises BadInput with the place, or Refused with 406, 411 or 415."""


NATIVE = Protocol(ROUTES.index("/predict"), native.answer)
V2 = Protocol(ROUTES.index("/v2/infer"), v2.answer)
V1 = Protocol(ROUTES.index("/v1/predict"), tfserving.answer)


@dataclass(frozen=True)
class PredictionPath:
    """The guards of predictions in every protocol."""

    find: Callable[[], ServedModel]
    """Returns the current version; raises Refused."""
    access: AccessControl
    admission: Admission
    metrics: WorkerMetrics
    max_body_bytes: int
    """Maximum size of a body in bytes, compressed and decompressed."""

    def __call__(
        self, environ: Environ, protocol: Protocol, find: Callable[[], ServedModel] | None = None
    ) -> tuple[Reply, Headers]:
        """Return the reply or an error, and the headers that every reply has.

        The version that `find` returns answers, by default the current one.
        """
        start = perf_counter()
        request_id = replies.request_id(environ)
        self.metrics.count_arrival()
        reason = None
        try:
            if self.access.tokens:
                self.access.check(environ)
            served = (find or self.find)()
            reply = self._admitted(environ, protocol, served)
        except Exception as error:
            reply, reason = error_reply(error, environ, request_id)
            body.drain_body(environ)
        self.metrics.count_reply(protocol.route, reply.status, perf_counter() - start, reason)
        return reply, self.finish_reply(reply.status, environ, request_id, start)

    def finish_reply(self, status: int, environ: Environ, request_id: str, start: float) -> Headers:
        """Write the access log's line and return the headers that every reply has."""
        if logs.access.isEnabledFor(logging.INFO):
            seconds = perf_counter() - start
            method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
            fields = {
                "request_id": request_id,
                "trace_id": replies.trace_id(environ),
                "method": method,
                "path": path,
                "status": status,
                "seconds": round(seconds, 6),
                "remote": environ.get("REMOTE_ADDR"),
            }
            logs.access.info("%s %r %d %.1f ms", method, path, status, seconds * 1e3, extra=fields)
        headers: Headers = (("X-Request-ID", request_id), NOSNIFF)
        if self.access.origins:
            headers += self.access.cors(environ)
        if self.metrics.shared.draining:
            headers += (("Connection", "close"),)
        return headers

    def _admitted(self, environ: Environ, protocol: Protocol, served: ServedModel) -> Reply:
        admission = self.admission
        admission.enter()
        try:
            request = body.read_request(environ, self.max_body_bytes)
            if served.is_batched:
                return protocol.answer(request, served)
            admission.begin()
            try:
                return protocol.answer(request, served)
            finally:
                admission.end()
        finally:
            admission.leave()


@dataclass(frozen=True)
class Dispatch:
    """WSGI application that answers exact prediction paths itself and passes the rest to Flask."""

    flask: "WSGIApplication"
    predict: PredictionPath
    routes: Mapping[str, Protocol]
    """Protocols by the exact path of a POST; the mapping may grow."""

    def __call__(self, environ: Environ, start_response: "StartResponse") -> Iterable[bytes]:
        """Answer a request or pass it to Flask."""
        protocol = self.routes.get(environ["PATH_INFO"])
        if protocol is None or environ["REQUEST_METHOD"] != "POST":
            # A server may ignore an Upgrade offer (RFC 9110, 7.8), and werkzeug refuses it.
            environ.pop("HTTP_UPGRADE", None)
            return self.flask(environ, start_response)
        reply, headers = self.predict(environ, protocol)
        entity = (("Content-Type", reply.content_type), ("Content-Length", str(len(reply.body))))
        start_response(replies.STATUS_LINES[reply.status], [*entity, *headers, *reply.headers])
        return [reply.body]


def error_reply(error: Exception, environ: Environ, request_id: str) -> tuple[Reply, str | None]:
    """Return the reply to an exception, and the reason that the metrics count, if it has one.

    An exception other than BadInput and Refused is logged and answered with status 500.
    """
    accept = environ.get("HTTP_ACCEPT", "")
    problem = partial(replies.problem_reply, request_id=request_id, accept=accept)
    if isinstance(error, BadInput):
        return problem(error.status, str(error), where=error.where), None
    if isinstance(error, Refused):
        return problem(error.status, str(error), headers=error.headers), error.reason
    trace_id, path = replies.trace_id(environ), environ["PATH_INFO"]
    fields = {"request_id": request_id, "trace_id": trace_id, "path": path}
    log.error("request %s failed", request_id, exc_info=error, extra=fields)
    return problem(500, INTERNAL_ERROR), None
