"""Requests to a server with access tokens and CORS: random credentials, random origins."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.conformance.draw import Case, Draw, Headers, kind
from tests.conformance.header_values import combine, header_value, random_headers
from tests.conformance.kinds.headers import error, expected_reply, query, send
from tests.conformance.kinds.routes import GET_PATHS, POST_PATHS, fill
from tests.conformance.outcomes import JSON, ErrorReply, Outcome, Reply
from tests.conformance.predictions import Predictions

TOKENS = ("s3cret-Token", "another~token+/=")
ORIGINS = ("https://a.example", "http://localhost:3000")
PUBLIC_PATHS = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")
CREDENTIALS = {
    "Authorization": (
        *(f"Bearer {TOKENS[0]}", f"bearer  {TOKENS[1]} ", f"Bearer {TOKENS[0][:-1]}", "Bearer"),
        *(f"Basic {TOKENS[0]}", f"Bearer\t{TOKENS[0]}", f"Bearer {TOKENS[0]}x", TOKENS[0]),
    ),
    "X-API-Key": (*TOKENS, TOKENS[0].upper(), TOKENS[0] + "x", "", f"Bearer {TOKENS[0]}"),
}
ORIGIN_VALUES = (*ORIGINS, "https://a.example.evil", "HTTPS://A.EXAMPLE", "null", "*", "")
PREFLIGHT = ("access-control-allow-methods", "access-control-allow-headers")
CORS_HEADERS = {
    *PREFLIGHT,
    *("access-control-allow-origin", "access-control-expose-headers", "access-control-max-age"),
}


@dataclass(frozen=True)
class Guarded(Outcome):
    """An outcome with the CORS headers for the origin of the request."""

    inner: Outcome
    origin: str | None
    """The value of Origin."""
    preflight: bool
    """Whether the method is OPTIONS."""
    more_headers = frozenset({*CORS_HEADERS, "www-authenticate"})

    @property
    def status(self) -> int:
        """The expected status."""
        return getattr(self.inner, "status", 200)

    def differences(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong with a reply."""
        yield from self.inner.differences(reply)
        is_allowed = self.origin in ORIGINS
        allowed = reply.header("access-control-allow-origin")
        if allowed != (self.origin if is_allowed else None):
            yield f"Access-Control-Allow-Origin: found {allowed!r} for the origin {self.origin!r}"
        if any(
            (reply.header(name) is not None) != (is_allowed and self.preflight)
            for name in PREFLIGHT
        ):
            yield f"the headers for preflight: found {reply.headers}"
        if "Origin" not in (reply.header("vary") or ""):
            yield "Vary: expected Origin, because a cache may keep the reply"


def grants_access(headers: Headers) -> bool:
    """Return whether the credentials are a token: a bearer token, or else an API key."""
    scheme, _, credentials = (combine(headers, "Authorization") or "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip() in TOKENS
    return combine(headers, "X-API-Key") in TOKENS


def guarded_headers(draw: Draw) -> Headers:
    """Return random credentials, an origin or none, and other headers."""
    names = draw.random.sample((*CREDENTIALS, "Origin"), draw.random.randint(0, 3))
    typical: Mapping[str, tuple[str, ...]] = {**CREDENTIALS, "Origin": ORIGIN_VALUES}
    headers = [(name, header_value(draw.random, typical[name])) for name in names]
    return [*headers, *random_headers(draw.random, exclude=("Host", *typical))]


@kind("guarded", 5, variants=("GET", "HEAD", "OPTIONS", "DELETE"))
def request(draw: Draw, variant: str) -> Case:
    """Any route: 401 without a token, except to OPTIONS and to health probes."""
    headers, template = guarded_headers(draw), draw.choice((*GET_PATHS, *POST_PATHS))
    if variant == "OPTIONS" or template in PUBLIC_PATHS or grants_access(headers):
        outcome = expected_reply(draw, variant, template, headers)
    else:
        outcome = unauthorized(headers, empty=variant == "HEAD")
    outcome = Guarded(outcome, combine(headers, "Origin"), variant == "OPTIONS")
    return send(draw, variant, fill(draw, template) + query(draw), headers, outcome)


@kind("guarded", 10)
def prediction(draw: Draw) -> Case:
    """A prediction: 401 without a token."""
    index, headers = draw.index(at_most=7), guarded_headers(draw)
    changing = ("Accept", "Content-Type", "Content-Encoding", "Inference-Header-Content-Length")
    headers = [(name, value) for name, value in headers if name not in changing]
    body = draw.json({"instances": draw.cells(index)})
    headers += [("Content-Type", JSON), ("Content-Length", str(len(body)))]
    outcome: Outcome = Predictions(draw.model, index)
    if not grants_access(headers):
        outcome = unauthorized(headers)
    guarded = Guarded(outcome, combine(headers, "Origin"), preflight=False)
    return send(draw, "POST", "/predict" + query(draw), headers, guarded, body)


def unauthorized(headers: Headers, *, empty: bool = False) -> ErrorReply:
    """Return the reply to a request without a valid token."""
    return error(headers, 401, {"www-authenticate": "Bearer"}, empty)
