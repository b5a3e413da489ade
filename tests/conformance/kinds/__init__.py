"""The kinds of request, one module for each part of the service's interface."""

from tests.conformance.kinds import (
    framing,
    guarded,
    headers,
    json_rows,
    native,
    routes,
    v1,
    v2,
    v2_tensor,
)

MODULES = (json_rows, native, v1, v2, v2_tensor, routes, headers, guarded, framing)
"""The modules that register kinds of request."""
