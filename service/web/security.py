"""Who may ask, and from which pages: tokens, CORS, and the headers that keep a browser safe."""

import hmac
from collections.abc import Sequence

from service.errors import Refused
from service.web.body import Environ

NOSNIFF = ("X-Content-Type-Options", "nosniff")
PUBLIC_PATHS = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
"""Answered without a token: whoever watches over the service has none."""
_PREFLIGHT_HEADERS = (
    ("Access-Control-Allow-Methods", "GET, POST, OPTIONS"),
    (
        "Access-Control-Allow-Headers",
        "Content-Type, Content-Encoding, Inference-Header-Content-Length, Authorization, X-API-Key, "
        "X-Request-ID, Traceparent, Tracestate",
    ),
    ("Access-Control-Max-Age", "600"),
)
Headers = tuple[tuple[str, str], ...]


class AccessControl:
    """Decides about requests by their headers alone."""

    def __init__(self, tokens: Sequence[bytes] = (), origins: Sequence[str] = ()) -> None:
        """Take the tokens, any of which will do, and the origins of pages that may ask, or `*`; none by default."""
        self.tokens, self.origins = tokens, origins

    def check(self, environ: Environ) -> None:
        """Let a request pass that shows a token, as `Authorization: Bearer ...` or `X-API-Key: ...`.

        Raises:
            Refused: 401.
        """
        if not self.tokens:
            return
        scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        shown = token.strip() if scheme.lower() == "bearer" else environ.get("HTTP_X_API_KEY", "")
        given = shown.encode("latin-1", "replace")
        # All are compared, each in the same time: how long it takes tells nothing about any of them.
        if not sum(hmac.compare_digest(given, known) for known in self.tokens):
            headers = (("WWW-Authenticate", "Bearer"),)
            detail = "expected a token this service knows, as Authorization: Bearer ... or X-API-Key: ..."
            raise Refused(401, detail, reason="unauthorized", headers=headers)

    def cors(self, environ: Environ) -> Headers:
        """Return the headers that let a page of an allowed origin read the answer."""
        if not self.origins:
            return ()
        origin = environ.get("HTTP_ORIGIN")
        vary = (("Vary", "Origin"),)
        if origin is None or ("*" not in self.origins and origin not in self.origins):
            return vary
        allowed = (("Access-Control-Allow-Origin", "*" if "*" in self.origins else origin), *vary)
        exposed = (
            (
                "Access-Control-Expose-Headers",
                "X-Request-ID, Retry-After, Inference-Header-Content-Length",
            ),
        )
        return (
            *allowed,
            *(_PREFLIGHT_HEADERS if environ["REQUEST_METHOD"] == "OPTIONS" else exposed),
        )


def page_policy(nonce: str) -> Headers:
    """Return the headers of a page: only its own style and script run, and nobody frames it."""
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return (
        ("Content-Security-Policy", policy),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
    )
