"""Replies in HTTP: JSON documents, pages and errors, with request IDs and trace IDs."""

import functools
import random
import re
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
from flask import Response, request
from markupsafe import escape

from service.protocols.messages import JSON, PROBLEM, Reply
from service.web.body import Environ
from service.web.security import Headers, page_policy

STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}
_PAGES = Path(__file__).parent / "pages"
"""Folder of the templates of pages."""
_ROOT_MARK = b"<!--root-->"
"""Placeholder for the root URL in a template; a value cannot contain it because `<` is escaped."""
_REQUEST_ID_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT_PATTERN = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def respond(reply: Reply, headers: Headers = ()) -> Response:
    """Convert a reply to a Flask response."""
    body = reply.parts or reply.body
    response = Response(body, reply.status, content_type=reply.content_type)
    response.headers.extend((*headers, *reply.headers))
    response.content_length = len(reply.body)
    return response


def as_reply(response: Response) -> Reply:
    """Convert a Flask response to a reply."""
    entity = ("Content-Type", "Content-Length")
    headers = tuple((name, value) for name, value in response.headers if name not in entity)
    return Reply(response.get_data(), response.content_type or "", response.status_code, headers)


def document(content: Mapping[str, Any]) -> Response:
    """Return a JSON document as a Flask response."""
    return respond(Reply(orjson.dumps(content)))


def page(template: str, html: bytes) -> Response:
    """Return a rendered page, completed with the root URL of the request, under its policy."""
    body = html.replace(_ROOT_MARK, escape(request.root_url).encode())
    return respond(Reply(body, "text/html; charset=utf-8", headers=_policy(template)))


@functools.cache
def _policy(template: str) -> Headers:
    return page_policy((_PAGES / template).read_text("utf-8"))


def problem_reply(
    status: int,
    detail: str,
    *,
    request_id: str,
    where: str | None = None,
    accept: str = "",
    headers: Headers = (),
) -> Reply:
    """Return an error reply with the members of RFC 9457, and `error` for clients of V1 and V2.

    `where` is the location in the body, such as instances[3][17]. The media type is RFC 9457's if
    the Accept header names it first.
    """
    text = f"{where}: {detail}" if where else detail
    members = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    members |= {"detail": text, "error": text, "request_id": request_id}
    if where:
        members["where"] = where
    first_type = accept.partition(",")[0].partition(";")[0].strip()
    return Reply(orjson.dumps(members), PROBLEM if first_type == PROBLEM else JSON, status, headers)


def request_id(environ: Environ) -> str:
    """Return the client's X-Request-ID if it is safe to log, else a new random ID."""
    header = environ.get("HTTP_X_REQUEST_ID")
    if header and _REQUEST_ID_PATTERN.fullmatch(header):
        return str(header)
    # The ID need not be secret, and uuid4() would release the GIL for a system call.
    return random.getrandbits(128).to_bytes(16, "big").hex()


def trace_id(environ: Environ) -> str | None:
    """Return the trace ID of a W3C traceparent header, or None."""
    header = environ.get("HTTP_TRACEPARENT")
    match = _TRACEPARENT_PATTERN.fullmatch(header) if header else None
    return match[1] if match else None
