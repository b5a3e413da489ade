"""Request bodies that are being received: their places, minimum rate and deadline.

A request thread waits until its body has arrived. The request already holds an admission permit,
which a late body would withhold from others. When no permit is free, a late body therefore gives up
its permit: it moves to one of the places for late bodies, and is admitted again when it is
complete. The connection of a body is closed if the body breaks a limit, or if it is the slowest one
when these places are full or when others wait for the memory that it holds.
"""

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, sleep

from service.errors import Refused
from service.host.abort import ABORT
from service.protocols.messages import Reply
from service.runtime.admission import Admission, overloaded
from service.runtime.budget import ByteBudget
from service.runtime.request_memory import BODY_COPIES
from service.web import replies
from service.web.body import PIECE_BYTES, Environ, Receiver
from service.web.security import NOSNIFF, Headers

LATE_SECONDS = 0.25
"""Time without progress in seconds after which a body is late: it may lose its admission.

Under overload, the thread of a body that is complete may wait a tenth of a second for the
interpreter, which looks the same.
"""
STALL_SECONDS = 0.05
"""Time in seconds between two attempts to admit a request while most bodies make no progress."""
OVERLOAD_SECONDS = 0.5
"""Time in seconds in which excess requests are refused at once, after a wait has been in vain."""
MIN_EVICTION_SECONDS = 1.0
"""Minimum time without progress in seconds after which a body may lose its place to another."""
MAX_WAITING = 16
"""Maximum number of requests that wait to be admitted; each of them holds a thread."""
WATCH_SECONDS = 0.5
"""Time in seconds between two checks of the limits."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UploadLimits:
    """Limits on the bodies that a worker receives."""

    max_late: int = 32
    """Maximum number of late bodies; each of them holds a thread."""
    min_bytes_per_second: float = 500
    """Minimum rate, which is checked for each piece of PIECE_BYTES."""
    grace_seconds: float = 5
    """Time in seconds that each piece may take in addition."""
    max_seconds: float = 300
    """Maximum time in seconds for a whole body."""


class Upload(Receiver):
    """A request body that is being received."""

    __slots__ = (
        "bodies", "environ", "piece_start", "problem", "rejection", "request_id", "reserved",
        "start",
    )  # fmt: skip

    def __init__(
        self,
        environ: Environ,
        request_id: str,
        bodies: ByteBudget,
        rejection: Reply | None = None,
    ) -> None:
        self.environ, self.request_id, self.bodies = environ, request_id, bodies
        self.rejection = rejection
        """The reply to the request if its body is to be discarded, else None."""
        self.start = self.piece_start = monotonic()
        self.reserved = 0
        """Number of bytes reserved in `bodies`."""
        self.problem: str | None = None
        """Why the request was aborted, or None."""

    def expect(self, count: int) -> None:
        """Reserve memory for `count` further bytes; raise Refused (503) if there is none."""
        self.piece_start = float("inf")  # waiting for memory is not the client's fault
        self.reserved += self.bodies.reserve(BODY_COPIES * count, self.reserved)
        self.piece_start = monotonic()

    def note_progress(self) -> None:
        """Begin the time of the next piece."""
        self.piece_start = monotonic()

    def shrink(self, count: int) -> None:
        """Reduce the reserved memory to what a complete body of `count` bytes needs."""
        if (excess := self.reserved - BODY_COPIES * count) > 0:
            self.reserved -= excess
            self.bodies.release(excess)

    def release(self) -> None:
        """Give back the reserved memory, when the body has been answered."""
        if self.reserved:
            self.bodies.release(self.reserved)
            self.reserved = 0


class Uploads:
    """The bodies that a worker is receiving, and a thread that enforces their limits."""

    def __init__(
        self,
        limits: UploadLimits,
        admission: Admission,
        bodies: ByteBudget,
        common_headers: Callable[[Environ], Headers] = lambda environ: (NOSNIFF,),
    ) -> None:
        """Start the thread.

        Args:
            limits: limits on each body and on their number.
            admission: the worker's admission permits, which late bodies give up.
            bodies: memory for bodies.
            common_headers: returns the headers that every reply to a request has.
        """
        self.limits, self._admission, self._bodies = limits, admission, bodies
        self._common_headers = common_headers
        # Only pop() decides who ends an upload: a dictionary's methods are atomic in CPython.
        self._admitted: dict[Upload, bool] = {}
        self._late: dict[Upload, bool] = {}
        self._waiters, self._overload_end = threading.Semaphore(MAX_WAITING), 0.0
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._to_abort: list[Upload] = []
        threading.Thread(target=self._watch, name="uploads", daemon=True).start()

    def admit(self) -> None:
        """Admit a request, if necessary in place of a late body; raise Refused (503) otherwise."""
        try:
            return self._admission.enter()
        except Refused as error:
            refusal = error
        now = monotonic()
        if now >= self._overload_end:
            deadline = now + self._admission.deadline_seconds
            while monotonic() < deadline and self._make_room():
                with contextlib.suppress(Refused):  # another request has taken the permit
                    return self._admission.enter()
        raise self._refusal() or refusal

    def start(self, environ: Environ, request_id: str) -> Upload:
        """Register the body of an admitted request; call finish() when it has been read."""
        upload = Upload(environ, request_id, self._bodies)
        self._admitted[upload] = True
        return upload

    def start_discarding(
        self, environ: Environ, request_id: str, rejection: Reply
    ) -> Upload | None:
        """Register the body of a rejected request, or return None if there is no place for it.

        It takes no place from another body, as anyone can send requests that are rejected.
        """
        upload = Upload(environ, request_id, self._bodies, rejection)
        with self._lock:
            if len(self._late) >= self.limits.max_late:
                return None
            self._late[upload] = True
        return upload

    def finish(self, upload: Upload) -> bool:
        """Remove a body; return whether its request is still admitted.

        Raise Refused (408) if the request was aborted.
        """
        if self._admitted.pop(upload, None):
            return True
        with self._lock:
            self._late.pop(upload, None)
        if upload.problem:
            raise Refused(408, upload.problem, reason="slow_upload")
        return False

    def _make_room(self) -> bool:
        """If half of the permits belong to bodies that stand still, move one, or wait for it.

        Return False if they do not, as under overload: then excess requests are to be refused.
        """
        if not self._is_half(len(self._admitted)):
            return False
        if late := self._list_idle(LATE_SECONDS):
            return self._move_first(late)
        if not self._waiters.acquire(blocking=False):
            return False
        try:
            sleep(STALL_SECONDS)
        finally:
            self._waiters.release()
        if not self._list_idle(STALL_SECONDS):
            self._overload_end = monotonic() + OVERLOAD_SECONDS
            return False
        return True

    def _is_half(self, uploads: int) -> bool:
        """Return whether this number of admitted bodies is at least half of the permits."""
        return 2 * uploads >= self._admission.max_admitted

    def _list_idle(self, seconds: float) -> list[Upload]:
        """Return the admitted bodies without progress for `seconds`, or [] if they are few."""
        latest = monotonic() - seconds
        idle = [upload for upload in list(self._admitted) if upload.piece_start <= latest]
        return idle if self._is_half(len(idle)) else []

    def _move_first(self, uploads: list[Upload]) -> bool:
        """Move the first body that is still arriving to a place of its own, if there is one."""
        with self._lock:
            for upload in uploads:
                if not self._make_place(monotonic()):
                    return False
                if self._admitted.pop(upload, None):
                    self._late[upload] = True
                    self._admission.leave()
                    break
        return True

    def _refusal(self) -> Refused | None:
        """Return the refusal of a request if bodies are the reason, or None."""
        if not self._is_half(len(self._admitted)):
            return None
        count = len(self._admitted) + len(self._late)
        detail = f"the bodies of {count} other requests are still arriving"
        return overloaded(detail, self._admission.deadline_seconds)

    def _make_place(self, now: float) -> bool:
        """Return whether a late body may move, if necessary to the place of the slowest one."""
        if len(self._late) < self.limits.max_late:
            return True
        slowest = min(self._late, key=lambda upload: upload.piece_start)
        if now - slowest.piece_start < MIN_EVICTION_SECONDS or ABORT not in slowest.environ:
            return False
        self._abort_later(slowest, "the body arrived too slowly while many others were arriving")
        return True

    def _abort_later(self, upload: Upload, problem: str) -> None:
        """Have the thread abort a request; the caller holds the lock."""
        upload.problem = problem
        if self._late.pop(upload, None) is None:
            if not self._admitted.pop(upload, None):
                return  # The body is complete.
            self._admission.leave()
        self._to_abort.append(upload)
        self._wake.set()

    def _watch(self) -> None:
        """Abort the requests whose bodies break the limits."""
        while True:
            self._wake.wait(WATCH_SECONDS)
            self._wake.clear()
            with self._lock:
                now = monotonic()
                for upload in [*self._admitted, *self._late]:
                    problem = self._problem(upload, now)
                    if problem and ABORT in upload.environ:
                        self._abort_later(upload, problem)
                if self._bodies.is_contended:
                    self._free_memory(now)
                uploads, self._to_abort = self._to_abort, []
            for upload in uploads:
                # A client that does not read delays this for up to send_seconds.
                thread = threading.Thread(target=self._abort, args=(upload,), daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # the system has no thread left
                    log.error("%s; the next check tries again", error)
                    self._to_abort.append(upload)

    def _free_memory(self, now: float) -> None:
        """Abort the body without progress that holds the most memory while others wait for it."""
        idle = [
            upload
            for upload in (*self._admitted, *self._late)
            if now - upload.piece_start >= MIN_EVICTION_SECONDS and ABORT in upload.environ
        ]
        largest = max(idle, key=lambda upload: upload.reserved, default=None)
        if largest and largest.reserved:
            self._abort_later(largest, "the body stood still while others waited for memory")

    def _problem(self, upload: Upload, now: float) -> str | None:
        """Return which limit a body breaks, or None."""
        limits = self.limits
        if now - upload.start > limits.max_seconds:
            return f"the body did not arrive within {limits.max_seconds:g} s"
        header = upload.environ.get("CONTENT_LENGTH") or ""
        piece = min(int(header), PIECE_BYTES) if header.isdecimal() else PIECE_BYTES
        seconds = limits.grace_seconds + piece / limits.min_bytes_per_second
        if now - upload.piece_start > seconds:
            rate = f"{limits.min_bytes_per_second:g} bytes/s"
            return f"the body arrived more slowly than {rate} after {limits.grace_seconds:g} s"
        return None

    def _abort(self, upload: Upload) -> None:
        """Send the reply of an aborted request, and close its connection."""
        environ = upload.environ
        reply = upload.rejection or replies.problem_reply(
            408,
            upload.problem or "",
            request_id=upload.request_id,
            accept=environ.get("HTTP_ACCEPT", ""),
        )
        entity = (("Content-Type", reply.content_type), ("X-Request-ID", upload.request_id))
        headers = (*entity, *self._common_headers(environ), *reply.headers)
        try:
            environ[ABORT](reply.status, headers, reply.body)
        except Exception:
            log.exception("request %s cannot be aborted", upload.request_id)
