"""Request bodies that are being received: their places, minimum rate and deadline.

A request thread waits until its body has arrived. A request is admitted before that, and a body
that is late would keep its admission from others. When no admission is left, the late bodies
therefore give up theirs: they move to places of their own and are admitted again when they are
complete. A body that breaks a limit, or that is the slowest when these places are full, loses its
connection.
"""

import logging
import threading
from dataclasses import dataclass
from time import monotonic, sleep

from service.errors import Refused
from service.host.abort import ABORT
from service.runtime.admission import Admission, overloaded
from service.runtime.budget import ByteBudget
from service.runtime.request_memory import BODY_COPIES
from service.web import replies
from service.web.body import PIECE_BYTES, Environ, Receiver

LATE_SECONDS = 0.05
"""Time without progress in seconds after which a body is late: it may lose its admission."""
MIN_EVICTION_SECONDS = 1.0
"""Minimum time without progress in seconds after which a body may lose its place to another."""
WATCH_SECONDS = 0.5
"""Time in seconds between two checks of the limits."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UploadLimits:
    """Limits on the bodies that a worker receives."""

    max_late: int = 64
    """Maximum number of late bodies; each of them holds a thread."""
    min_bytes_per_second: float = 500
    """Minimum rate, which is checked for each piece of at most PIECE_BYTES."""
    grace_seconds: float = 5
    """Time in seconds that each piece may take in addition."""
    max_seconds: float = 300
    """Maximum time in seconds for a whole body."""


class Upload(Receiver):
    """A request body that is being received."""

    __slots__ = ("bodies", "environ", "piece_start", "problem", "request_id", "reserved", "start")

    def __init__(self, environ: Environ, request_id: str, bodies: ByteBudget) -> None:
        self.environ, self.request_id, self.bodies = environ, request_id, bodies
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

    def hold(self, count: int) -> None:
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

    def __init__(self, limits: UploadLimits, admission: Admission, bodies: ByteBudget) -> None:
        """Start the thread.

        Args:
            limits: limits on each body and on their number.
            admission: its permits are given up for late bodies.
            bodies: memory for bodies.
        """
        self.limits, self._admission, self._bodies = limits, admission, bodies
        # Only pop() decides who ends an upload: a dictionary's methods are atomic in CPython.
        self._admitted: dict[Upload, bool] = {}
        self._late: dict[Upload, bool] = {}
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._doomed: list[Upload] = []
        threading.Thread(target=self._watch, name="uploads", daemon=True).start()

    def admit(self) -> None:
        """Admit a request, if necessary in place of late bodies; raise Refused (503) otherwise."""
        try:
            return self._admission.enter()
        except Refused as error:
            refusal = error
        deadline = monotonic() + self._admission.deadline_seconds
        while True:
            is_last = not self._move_late_bodies() or monotonic() > deadline
            try:
                return self._admission.enter()
            except Refused:
                if is_last:
                    raise self._refusal() or refusal from None

    def start(self, environ: Environ, request_id: str) -> Upload:
        """Register the body of an admitted request; call finish() when it has been read."""
        upload = Upload(environ, request_id, self._bodies)
        self._admitted[upload] = True
        return upload

    def start_late(self, environ: Environ, request_id: str) -> Upload | None:
        """Register the body of a rejected request, or return None if there is no place for it."""
        upload = Upload(environ, request_id, self._bodies)
        with self._lock:
            if not self._has_place(upload.start):
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

    def _is_receiving(self) -> bool:
        """Return whether most of the admitted requests wait for their bodies."""
        return 2 * len(self._admitted) >= self._admission.max_admitted

    def _move_late_bodies(self) -> bool:
        """Move late bodies to their own places; return whether a further call may move more."""
        if is_receiving := self._is_receiving():
            sleep(LATE_SECONDS)  # These bodies may have just begun.
        now, moved = monotonic(), 0
        with self._lock:
            for upload in list(self._admitted):
                if now - upload.piece_start < LATE_SECONDS:
                    continue
                if not self._has_place(now):
                    return False
                if self._admitted.pop(upload, None):
                    self._late[upload] = True
                    self._admission.leave()
                    moved += 1
        return is_receiving or moved > 0

    def _refusal(self) -> Refused | None:
        """Return the refusal of a request if bodies are the reason, or None."""
        if not self._is_receiving():
            return None
        count = len(self._admitted) + len(self._late)
        detail = f"the bodies of {count} other requests are still arriving"
        return overloaded(detail, self._admission.deadline_seconds)

    def _has_place(self, now: float) -> bool:
        """Return whether another late body has a place, if necessary that of the slowest one."""
        if len(self._late) < self.limits.max_late:
            return True
        slowest = min(self._late, key=lambda upload: upload.piece_start)
        if now - slowest.piece_start < MIN_EVICTION_SECONDS or ABORT not in slowest.environ:
            return False
        self._doom(slowest, "the body arrived too slowly while many others were arriving")
        return True

    def _doom(self, upload: Upload, problem: str) -> None:
        """Have the thread abort a request; the caller holds the lock."""
        upload.problem = problem
        if self._late.pop(upload, None) is None:
            if not self._admitted.pop(upload, None):
                return  # The body is complete.
            self._admission.leave()
        self._doomed.append(upload)
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
                        self._doom(upload, problem)
                doomed, self._doomed = self._doomed, []
            for upload in doomed:
                # A client that does not read delays this for up to send_seconds.
                threading.Thread(target=_abort, args=(upload,), name="abort", daemon=True).start()

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


def _abort(upload: Upload) -> None:
    reply = replies.problem_reply(
        408,
        upload.problem or "",
        request_id=upload.request_id,
        accept=upload.environ.get("HTTP_ACCEPT", ""),
    )
    headers = (("Content-Type", reply.content_type), ("X-Request-ID", upload.request_id))
    try:
        upload.environ[ABORT](408, headers, reply.body)
    except Exception:
        log.exception("request %s cannot be aborted", upload.request_id)
