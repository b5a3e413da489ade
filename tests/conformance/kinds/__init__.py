"""The kinds of request, one module for each part of the service's interface."""

from tests.conformance.kinds import (
    csv_and_bytes,
    encodings,
    framing,
    json_rows,
    native,
    routes,
    v1,
    v2,
    v2_binary,
    v2_tensor,
)

MODULES = (
    *(json_rows, native, csv_and_bytes, v1, v2, v2_tensor, v2_binary),
    *(routes, encodings, framing),
)
"""The modules that register kinds of request."""
