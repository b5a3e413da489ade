"""TODO: service.web.replies."""

import random
import re
from http import HTTPStatus
from typing import Any

import orjson

from service.protocols.messages import JSON, PROBLEM, Reply
from service.web.body import Environ

STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
_REQUEST_ID_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT_PATTERN = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def request_id(environ: Environ) -> str:
    """Return the caller's X-Request-ID, or a new one where there is none that is fit for a log."""
    given = environ.get("HTTP_X_REQUEST_ID")
    if given and _REQUEST_ID_PATTERN.fullmatch(given):
        return str(given)
    # No secret; uuid4() would ask the system, and give up Python's lock to do so.
    return random.getrandbits(128).to_bytes(16, "big").hex()


def trace_id(environ: Environ) -> str | None:
    """Return the trace that a W3C traceparent header names."""
    given = environ.get("HTTP_TRACEPARENT")
    match = _TRACEPARENT_PATTERN.fullmatch(given) if given else None
    return match[1] if match else None


def problem_reply(
    status: int,
    detail: str,
    *,
    request_id: str,
    where: str | None = None,
    accept: str = "",
    headers: tuple[tuple[str, str], ...] = (),
) -> Reply:
    """Make the one error shape: RFC 9457's members, and `error`, which existing clients read.

    Args:
        status: of HTTP.
        detail: the one line that a person should read.
        request_id: stands in the log too.
        where: the place in the payload, such as instances[3][17].
        accept: the caller's Accept; RFC 9457's media type is for those who ask for it first.
        headers: of the reply.
    """
    text = f"{where}: {detail}" if where else detail
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": text,
        "error": text,
        "request_id": request_id,
    }
    if where:
        document["where"] = where
    content_type = (
        PROBLEM if accept.partition(",")[0].partition(";")[0].strip() == PROBLEM else JSON
    )
    return Reply(orjson.dumps(document), content_type, status, headers)
