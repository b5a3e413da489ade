"""Random header values on every route and method: every GET, and a prediction in each protocol.

A header may change a reply only as its specification says. Headers that frame a message have
random values too; the host rejects those that are invalid.
"""

import re
from collections.abc import Mapping, Sequence

from tests.conformance.draw import Case, Draw, Headers, kind, words
from tests.conformance.header_values import combine, header_value, random_headers
from tests.conformance.kinds.routes import (
    EMPTY_BATCH,
    GET_PATHS,
    POST_PATHS,
    fill,
    get_outcome,
)
from tests.conformance.kinds.v2 import all_outputs
from tests.conformance.outcomes import (
    ANYWHERE,
    BYTES,
    CSV,
    JSON,
    PROBLEM,
    AnyOf,
    ErrorReply,
    HostError,
    OptionsReply,
    Outcome,
    TextReply,
)
from tests.conformance.predictions import Predictions, RowPredictions

LOGGABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
OPENMETRICS = "application/openmetrics-text"
PREDICTION_ERRORS = (400, 406, 411, 415, 422)
"""Statuses of a prediction whose headers contradict its body or exclude every reply."""
CONSEQUENTIAL = frozenset(
    words("Accept Content-Type Content-Encoding Inference-Header-Content-Length Upgrade")
)
"""Headers for which a prediction may be refused."""
FRAMING_VALUES = {
    "Content-Length": ("0", "5", "18", "18, 18", "+18", "018", "1e1", "18446744073709551616", "a"),
    "Transfer-Encoding": ("chunked", "Chunked", "gzip, chunked", "chunked, gzip", "identity", ""),
    "Expect": ("100-continue", "100-Continue", "200-ok", ""),
    "Connection": ("close", "keep-alive", "upgrade, close", "Content-Type", "x-request-id, te"),
}
FRAMING_PATHS = ("/healthz", "/predict")
QUERY_CHARACTERS = "abcz019-._~%&=+;:@!$'()*,/?[]|^`{}\u00e9"
"""Characters that the host accepts in a query."""
MAX_SENT_BYTES = 2000
"""Maximum length of a body; a larger Content-Length announces bytes that never arrive."""


def send(
    draw: Draw,
    method: str,
    path: str,
    headers: Headers,
    outcome: Outcome,
    body: bytes = b"",
    **options: bool,
) -> Case:
    """Return a request with exactly these headers, except that a missing Host is added."""
    names = {name for name, _ in headers}
    fields = [*headers, *([] if "Host" in names else [("Host", "localhost")])]
    lines = [f"{method} {path} HTTP/1.1".encode()]
    lines += [
        name.encode() + b": " + (value if isinstance(value, bytes) else value.encode())
        for name, value in fields
    ]
    if "Host" in names:  # Flask rejects a host name that is too long.
        outcome = AnyOf([outcome, error(headers, 400, empty=method == "HEAD")])
    request_id = combine(headers, "X-Request-ID") or ""
    echoed = request_id if LOGGABLE_ID.fullmatch(request_id) else None
    content = b"\r\n".join(lines) + b"\r\n\r\n" + body
    return Case((content,), outcome, echoed, method == "HEAD", **options)


def error(
    headers: Headers, status: int, more: Mapping[str, str] | None = None, empty: bool = False
) -> ErrorReply:
    """Return an error reply with more headers; its media type depends on Accept."""
    first = (combine(headers, "Accept") or "").partition(",")[0].partition(";")[0].strip()
    media_type = PROBLEM if first == PROBLEM else JSON
    return ErrorReply(status, ANYWHERE, headers=more or {}, media_type=media_type, empty=empty)


def expected_reply(draw: Draw, method: str, template: str, headers: Headers) -> Outcome:
    """Return the expected reply to any request except a prediction."""
    allowed, empty = "POST" if template in POST_PATHS else "GET", method == "HEAD"
    if method == "OPTIONS":
        return OptionsReply(allowed)
    if allowed == "POST" or method not in ("GET", "HEAD"):
        return error(headers, 405, {"allow": allowed}, empty)
    if template == "/metrics":
        parts = ("# HELP", "# TYPE", draw.model.name)
        return AnyOf([TextReply(media, parts, empty) for media in ("text/plain", OPENMETRICS)])
    is_page = "text/html" in (combine(headers, "Accept") or "")
    return get_outcome(draw, template, "text/html" if is_page else None, empty)


@kind("hostile", 12, variants=("GET", "HEAD"))
def of_get(draw: Draw, variant: str) -> Case:
    """Random headers and a random query do not change the reply to GET, except Accept."""
    template, headers = draw.choice(GET_PATHS), random_headers(draw.random)
    outcome = expected_reply(draw, variant, template, headers)
    return send(draw, variant, fill(draw, template) + query(draw), headers, outcome)


@kind("hostile", 4)
def of_other_methods(draw: Draw) -> Case:
    """Random headers do not change the reply to OPTIONS and to wrong methods."""
    template, headers = draw.choice((*GET_PATHS, *POST_PATHS)), random_headers(draw.random)
    others = ("GET", "HEAD") if template in POST_PATHS else ("POST", "get")
    method = draw.choice(("OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "options", *others))
    outcome = expected_reply(draw, method, template, headers)
    return send(draw, method, fill(draw, template) + query(draw), headers, outcome)


@kind("hostile", 8, variants=("native", "V1", "V2"))
def of_predictions(draw: Draw, variant: str) -> Case:
    """Predictions are right, and refused only for a header that the service reads."""
    index, model = draw.index(at_most=7), draw.model
    more = random_headers(draw.random)
    headers = [("Content-Type", JSON), *more]
    paths = {"native": "/predict", "V1": "/v1/models/{}:predict", "V2": "/v2/models/{}/infer"}
    document: object = {"instances": draw.cells(index)}
    accepted: Sequence[Outcome] = [RowPredictions(model, index)]
    if variant == "native":
        accepted = [Predictions(model, index, media_type) for media_type in (JSON, CSV, BYTES)]
    elif variant == "V2":
        cells = [cell for row in draw.cells(index) for cell in row]
        shape = [len(index), len(model.features)]
        tensor = {"name": "input", "shape": shape, "datatype": "FP32", "data": cells}
        document, accepted = {"inputs": [tensor]}, [all_outputs(draw, index)]
    body = draw.json(document)
    body += b" " * (len(body) % 4 == 0)  # A header may declare a V2 body to be float32 bytes.
    statuses = () if CONSEQUENTIAL.isdisjoint(name for name, _ in more) else PREDICTION_ERRORS
    outcome = AnyOf([*accepted, *(error(headers, status) for status in statuses)])
    headers.append(("Content-Length", str(len(body))))
    return send(draw, "POST", fill(draw, paths[variant]) + query(draw), headers, outcome, body)


@kind("hostile", 6)
def that_frame_a_message(draw: Draw) -> Case:
    """Random values of the headers that frame a message: the host rejects an invalid value."""
    headers: list[tuple[str, str | bytes]] = [("Content-Type", JSON)]
    for name in draw.random.sample(tuple(FRAMING_VALUES), draw.random.randint(1, 2)):
        headers.append((name, header_value(draw.random, FRAMING_VALUES[name])))
    length, announced, body = combine(headers, "Content-Length"), 0, b""
    if combine(headers, "Transfer-Encoding") is not None:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(EMPTY_BATCH), EMPTY_BATCH)
    elif length is not None and re.fullmatch("[0-9]+", length):
        announced = int(length[-9:])
        body = EMPTY_BATCH.ljust(MAX_SENT_BYTES)[:announced]
    method, path = draw.choice(("GET", "POST", "HEAD", "OPTIONS")), draw.choice(FRAMING_PATHS)
    outcomes = [expected_reply(draw, method, path, headers)]
    if (method, path) == ("POST", "/predict"):
        outcomes = [Predictions(draw.model, draw.index()[:0])]
        outcomes += [error(headers, status) for status in (400, 413)]
    options = {"half_close": announced > len(body), "may_close": True}
    return send(draw, method, path, headers, AnyOf([*outcomes, HostError(400)]), body, **options)


def query(draw: Draw) -> str:
    """Return a random query, or none."""
    if draw.chance(0.5):
        return ""
    length = draw.choice((0, 1, 5, 40, 3000))
    return "?" + "".join(draw.random.choices(QUERY_CHARACTERS, k=length))
