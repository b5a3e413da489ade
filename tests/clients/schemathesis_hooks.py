"""Hooks for schemathesis: generated CSV and binary bodies, and consistent JSON documents."""

import struct
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis.core.parameters import ParameterLocation

JSON_LENGTH = "Inference-Header-Content-Length"
JSON = "application/json"
CSV = "text/csv"
BYTES = "application/octet-stream"
MAX_ROWS = 4
MAX_VALUE = 1e6
"""Maximum magnitude of a value; larger values may overflow the network, which is a 422."""


def before_load_schema(context: Any, document: Any) -> None:
    """Register generators of CSV and float32 bodies with as many columns as the model."""
    width = document["components"]["schemas"]["Row"]["minItems"]
    row = st.lists(st.floats(-MAX_VALUE, MAX_VALUE, width=32), min_size=width, max_size=width)
    rows = st.lists(row, min_size=1, max_size=MAX_ROWS)
    lines = rows.map(lambda x: "\n".join(",".join(map(repr, row)) for row in x).encode())
    floats = rows.map(lambda x: b"".join(struct.pack(f"<{width}f", *row) for row in x))
    schemathesis.openapi.media_type(CSV, lines)
    schemathesis.openapi.media_type(BYTES, floats)
    content = document["paths"]["/predict"]["post"]["requestBody"]["content"]
    for example in content[CSV]["examples"].values():
        example["value"] = example["value"].encode()  # schemathesis needs CSV as bytes.


def before_call(context: Any, case: Any, **kwargs: Any) -> None:
    """Make the members of a valid request consistent; leave an invalid request unchanged."""
    if case.meta is None:
        return
    inference = case.operation.path.endswith("/infer")
    if case.operation.path == "/predict" and (case.media_type or "").startswith(BYTES):
        case.headers["Content-Type"] = f"{BYTES}; dtype=float32"  # schemathesis omits parameters
    if inference and not case.meta.is_negative_at(ParameterLocation.HEADER):
        case.headers.pop(JSON_LENGTH, None)
        if case.media_type == BYTES:
            case.headers[JSON_LENGTH] = "0"  # The body is the tensor alone.
    if case.media_type != JSON or case.meta.is_negative_at(ParameterLocation.BODY):
        return
    case.body = _bounded(case.body)
    if inference:
        tensor = case.body["inputs"][0]
        width, data = tensor["shape"][1], tensor["data"]
        tensor["datatype"] = "FP64"  # The schema does not exclude fractions from integer types.
        if not data or isinstance(data[0], list):
            tensor["shape"][0] = len(data)
        else:
            tensor["shape"][0] = len(data) // width
            tensor["data"] = data[: len(data) // width * width]


def _bounded(value: Any) -> Any:
    """Return a JSON value with every number clipped to MAX_VALUE."""
    if isinstance(value, dict):
        return {name: _bounded(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_bounded(item) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return max(-MAX_VALUE, min(value, MAX_VALUE))
    return value


schemathesis.hook(before_load_schema)
schemathesis.hook(before_call)
# The schema of a binary body is empty, so it accepts any deserialised value.
schemathesis.deserializer(BYTES)(lambda context, response: response.content.hex())
