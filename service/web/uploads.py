"""Request bodies that are being received: their places, minimum rate and deadline.

A request thread waits until its body has arrived. The request already holds an admission permit,
which a late body would withhold from others. When no permit is free, a late body therefore gives up
its permit: it moves to one of the places for late bodies, and is admitted again when it is
complete. The connection of a body is closed if the body breaks a limit, or if it is the slowest one
when these places are full or when others wait for the memory that it holds.
"""

import logging
import math
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
SCAN_SECONDS = 0.05
"""Time in seconds between two scans of the admitted bodies while requests are refused, and the time
without progress after which a scan counts a body as stalled."""
MAX_CALM_SECONDS = 0.1
"""Time in seconds for which requests wait although few bodies are stalled, as a burst of bodies may
have just begun. After that, the reason is overload."""
MIN_EVICTION_SECONDS = 1.0
"""Minimum time without progress in seconds after which a body may lose its place to another."""
WATCH_SECONDS = 0.5
"""Time in seconds between two checks of the limits."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UploadLimits:
    """Limits on the bodies that a worker receives."""

    max_late: int = 32
    """Maximum number of late bodies, and of requests that wait for one to be moved; each of them
    holds a thread."""
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
        self.piece_start = math.inf  # waiting for memory is not the client's fault
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
        self._waiters = threading.Semaphore(limits.max_late)
        self._scan_time, self._calm_start = 0.0, math.inf
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._to_abort: list[Upload] = []
        threading.Thread(target=self._watch, name="uploads", daemon=True).start()

    def admit(self) -> None:
        """Admit a request, if necessary in place of a late body; raise Refused (503) otherwise."""
        try:
            return self._admission.enter()
        except Refused as error:
            refusal = error
        deadline, is_last = monotonic() + self._admission.deadline_seconds, False
        if not (self._move_late_bodies() or self._wait()):
            raise self._refusal() or refusal
        while True:
            try:
                return self._admission.enter()
            except Refused as error:  # another request has taken the permit
                if is_last:
                    raise self._refusal() or error from None
            is_last = not (self._move_late_bodies() or self._wait()) or monotonic() > deadline

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

    def _move_late_bodies(self) -> bool:
        """Move the late bodies to their own places; return whether one has moved.

        The admitted bodies are scanned once per SCAN_SECONDS, whatever the number of requests.
        """
        now = monotonic()
        if now < self._scan_time + SCAN_SECONDS:
            return False
        with self._lock:
            idle = [u for u in list(self._admitted) if u.piece_start <= now - SCAN_SECONDS]
            if self._is_half(len(idle)):
                self._calm_start = math.inf
            elif self._calm_start == math.inf or now > self._scan_time + 2 * SCAN_SECONDS:
                self._calm_start = now
            self._scan_time = now
            late = [upload for upload in idle if upload.piece_start <= now - LATE_SECONDS]
            moves = [self._move(upload, now) for upload in late]
            return any(moves)

    def _move(self, upload: Upload, now: float) -> bool:
        """Move a body to a place of its own, if there is one; the caller holds the lock."""
        if upload not in self._admitted or not self._make_place(now):
            return False
        if not self._admitted.pop(upload, None):
            return False
        self._late[upload] = True
        self._admission.leave()
        return True

    def _wait(self) -> bool:
        """Wait a little if most of the permits belong to bodies that stand still, or may do so.

        Return False if the worker has too many requests instead.
        """
        if monotonic() > self._calm_start + MAX_CALM_SECONDS:
            return False
        if not self._waiters.acquire(blocking=False):
            return False
        try:
            sleep(SCAN_SECONDS)
        finally:
            self._waiters.release()
        return True

    def _is_half(self, uploads: int) -> bool:
        """Return whether this number of admitted bodies is at least half of the permits."""
        return 2 * uploads >= self._admission.max_admitted

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
