"""Access control: tokens, CORS, and the security headers of pages."""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

from service.errors import Refused
from service.web.body import Environ

NOSNIFF = ("X-Content-Type-Options", "nosniff")
PUBLIC_PATHS = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
"""Paths that need no token, because health probes have none."""
_ALLOWED_HEADERS = (
    "Content-Type, Content-Encoding, Inference-Header-Content-Length, Authorization, X-API-Key, "
    "X-Request-ID, Traceparent, Tracestate"
)
_PREFLIGHT_HEADERS = (
    ("Access-Control-Allow-Methods", "GET, POST, OPTIONS"),
    ("Access-Control-Allow-Headers", _ALLOWED_HEADERS),
    ("Access-Control-Max-Age", "600"),
)
_EXPOSED_HEADERS = "X-Request-ID, Retry-After, Inference-Header-Content-Length"
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class AccessControl:
    """Access decisions, which depend only on the headers of a request."""

    tokens: Sequence[bytes] = ()
    """Tokens, each of which grants access; if there are none, every request is allowed."""
    origins: Sequence[str] = ()
    """Origins whose pages may send requests, or `*`."""

    def check(self, environ: Environ) -> None:
        """Raise Refused (401) without a valid token in `Authorization: Bearer` or `X-API-Key`."""
        if not self.tokens:
            return
        scheme, _, credentials = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        bearer = scheme.lower() == "bearer"
        token = credentials.strip() if bearer else environ.get("HTTP_X_API_KEY", "")
        encoded = token.encode("latin-1", "replace")
        # Compare every token, each in constant time, so the duration reveals none of them.
        if not sum(hmac.compare_digest(encoded, known) for known in self.tokens):
            headers = (("WWW-Authenticate", "Bearer"),)
            detail = "expected a valid token, as Authorization: Bearer ... or X-API-Key: ..."
            raise Refused(401, detail, reason="unauthorized", headers=headers)

    def common_headers(self, environ: Environ) -> Headers:
        """Return the headers of every reply to a request, except those about its connection."""
        return (NOSNIFF, *self.cors(environ))

    def cors(self, environ: Environ) -> Headers:
        """Return the headers that let a page of an allowed origin read the reply."""
        if not self.origins:
            return ()
        origin = environ.get("HTTP_ORIGIN")
        vary = (("Vary", "Origin"),)
        if origin is None or ("*" not in self.origins and origin not in self.origins):
            return vary
        allow = ("Access-Control-Allow-Origin", "*" if "*" in self.origins else origin)
        if environ["REQUEST_METHOD"] == "OPTIONS":
            return (allow, *vary, *_PREFLIGHT_HEADERS)
        return (allow, *vary, ("Access-Control-Expose-Headers", _EXPOSED_HEADERS))


def page_policy(template: str) -> Headers:
    """Return headers that allow only the style and script in a template, and no frames around it.

    The policy names them by their hashes, which is as strict as a nonce and lets pages be cached.
    They are hashed in the template, not in the page, because the page also contains values.
    """
    policy = (
        f"default-src 'none'; style-src {_hashes(template, 'style')}; "
        f"script-src {_hashes(template, 'script')}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return (
        ("Content-Security-Policy", policy),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
    )


def _hashes(template: str, element: str) -> str:
    """Return the sources of a policy that allow each element of this name in a template."""
    texts = re.findall(f"<{element}>(.*?)</{element}>", template, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in texts)
    return " ".join(f"'sha256-{digest.decode()}'" for digest in digests) or "'none'"
