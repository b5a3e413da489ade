"""The handling of every prediction: access control, admission, inference, errors and metrics.

An empty Flask view takes longer than a whole prediction of one row, so Dispatch handles the common
routes without Flask. See docs/http.md.
"""

import contextlib
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
from service.protocols.byte_rows import max_value_counts
from service.protocols.messages import Reply, Request
from service.runtime.admission import Admission
from service.runtime.request_memory import MemoryBudgets
from service.runtime.served_model import ServedModel
from service.web import body, replies
from service.web.body import Environ
from service.web.security import NOSNIFF, AccessControl, Headers
from service.web.sending import MIN_HELD_BYTES, HeldParts
from service.web.uploads import Upload, Uploads

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

INTERNAL_ERROR = "internal error; the server's log has the cause under this request_id"
log = logging.getLogger(__name__)


class Protocol(NamedTuple):
    """A protocol: its route in the metrics, and its function from a request to a reply."""

    route: int
    """Index of the protocol's route in metrics.ROUTES."""
    answer: Callable[[Request, ServedModel], Reply]
    """Pure function, which raises BadInput, or Refused with status 406, 411 or 415."""


NATIVE = Protocol(ROUTES.index("/predict"), native.answer)
V2 = Protocol(ROUTES.index("/v2/infer"), v2.answer)
V1 = Protocol(ROUTES.index("/v1/predict"), tfserving.answer)


@dataclass(frozen=True)
class PredictionPath:
    """The handling of predictions in every protocol."""

    find: Callable[[], ServedModel]
    """Returns the current version, or raises Refused (503) if none is loaded."""
    access: AccessControl
    admission: Admission
    uploads: Uploads
    memory: MemoryBudgets
    metrics: WorkerMetrics
    max_body_bytes: int
    """Maximum size of a body in bytes, compressed and decompressed."""

    def __call__(
        self, environ: Environ, protocol: Protocol, find: Callable[[], ServedModel] | None = None
    ) -> tuple[Reply, Headers]:
        """Return the reply, which may be an error, and the headers that every reply has.

        `find` returns the version to use, by default the current one.
        """
        start = perf_counter()
        request_id = replies.request_id(environ)
        self.metrics.count_arrival()
        reason = None
        try:
            if self.access.tokens:
                self.access.check(environ)
            served = (find or self.find)()
            reply = self._answer(environ, protocol, served, request_id)
        except Exception as error:
            reply, reason = error_reply(error, environ, request_id)
            self.drain(environ, request_id, reply)
        self.metrics.count_reply(protocol.route, reply.status, perf_counter() - start, reason)
        return reply, self.finish_reply(reply.status, environ, request_id, start)

    def finish_reply(self, status: int, environ: Environ, request_id: str, start: float) -> Headers:
        """Log the request and return the headers that every reply has."""
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
        if self.metrics.closing:
            headers += (("Connection", "close"),)
        return headers

    def drain(self, environ: Environ, request_id: str, rejection: Reply) -> None:
        """Discard the small body of a rejected request, within the limits on late bodies.

        A body that breaks a limit ends with the rejection and the loss of its connection.
        """
        if not body.is_drainable(environ):
            return
        if upload := self.uploads.start_discarding(environ, request_id, rejection):
            try:
                body.drain_body(environ, upload)
            finally:
                with contextlib.suppress(Refused):  # the client has its reply
                    self.uploads.finish(upload)

    def _answer(
        self, environ: Environ, protocol: Protocol, served: ServedModel, request_id: str
    ) -> Reply:
        self.uploads.admit()
        upload = self.uploads.start(environ, request_id)
        try:
            request = self._read(environ, upload)
            try:
                return self._predict(request, protocol, served)
            finally:
                self.admission.leave()
        finally:
            if upload.reserved:
                upload.release()

    def _read(self, environ: Environ, upload: Upload) -> Request:
        """Read the body of a request, which is admitted before and after, but not on an error."""
        try:
            request = body.read_request(environ, self.max_body_bytes, upload)
        except BaseException:
            if self.uploads.finish(upload):
                self.admission.leave()
            raise
        if not self.uploads.finish(upload):
            self.uploads.admit()
        return request

    def _predict(self, request: Request, protocol: Protocol, served: ServedModel) -> Reply:
        """Answer an admitted request, with memory reserved for it and its reply if it is large."""
        count = 0
        if len(request.body) > served.uncounted_body_bytes:
            count = self.memory.answers.reserve(served.memory.estimate(*max_value_counts(request)))
        try:
            reply = self._run(request, protocol, served)
            if len(reply.body) > MIN_HELD_BYTES:
                reply = reply._replace(parts=HeldParts(reply.body, self.memory.replies))
            return reply
        finally:
            if count:
                self.memory.answers.release(count)

    def _run(self, request: Request, protocol: Protocol, served: ServedModel) -> Reply:
        """Answer a request when it may run; batched requests wait in the batcher instead."""
        if served.is_batched:
            return protocol.answer(request, served)
        self.admission.begin()
        try:
            return protocol.answer(request, served)
        finally:
            self.admission.end()


@dataclass(frozen=True)
class Dispatch:
    """WSGI application that handles the paths in `routes` and passes other requests to Flask."""

    flask: "WSGIApplication"
    predict: PredictionPath
    routes: Mapping[str, Protocol]
    """Protocols by the exact path of a POST; a reload may add paths."""

    def __call__(self, environ: Environ, start_response: "StartResponse") -> Iterable[bytes]:
        """Answer a request or pass it to Flask."""
        protocol = self.routes.get(environ["PATH_INFO"])
        if protocol is None or environ["REQUEST_METHOD"] != "POST":
            # A server may ignore an Upgrade header (RFC 9110, 7.8), but werkzeug would reject it.
            environ.pop("HTTP_UPGRADE", None)
            return self.flask(environ, start_response)
        reply, headers = self.predict(environ, protocol)
        entity = (("Content-Type", reply.content_type), ("Content-Length", str(len(reply.body))))
        start_response(replies.STATUS_LINES[reply.status], [*entity, *headers, *reply.headers])
        return reply.parts or [reply.body]


def error_reply(error: Exception, environ: Environ, request_id: str) -> tuple[Reply, str | None]:
    """Return the reply to an exception, and its reason label in the metrics, if any.

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
