"""What schemathesis must know and no schema can say: bodies that are no JSON, and what one member says of another."""

import struct
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis.core.parameters import ParameterLocation

LENGTH = "Inference-Header-Content-Length"
JSON = "application/json"
CSV = "text/csv"
BYTES = "application/octet-stream"
MOST_ROWS = 4
LARGEST = 1e6
"""A float32 may be larger, and then its answer may be no float32: that is a 422 which no schema can foretell."""


def before_load_schema(context: Any, document: Any) -> None:
    """Make CSV and float32 bytes as wide as the model; bodies that are no JSON must be bytes, examples too."""
    width = document["components"]["schemas"]["Row"]["minItems"]
    row = st.lists(st.floats(-LARGEST, LARGEST, width=32), min_size=width, max_size=width)
    rows = st.lists(row, min_size=1, max_size=MOST_ROWS)
    lines = rows.map(lambda found: "\n".join(",".join(map(repr, row)) for row in found).encode())
    floats = rows.map(lambda found: b"".join(struct.pack(f"<{width}f", *row) for row in found))
    schemathesis.openapi.media_type(CSV, lines)
    schemathesis.openapi.media_type(BYTES, floats)
    for example in document["paths"]["/predict"]["post"]["requestBody"]["content"][CSV][
        "examples"
    ].values():
        example["value"] = example["value"].encode()


def before_call(context: Any, case: Any, **kwargs: Any) -> None:
    """Mend what is valid, member by member, and is no request as a whole; what is meant to be wrong stays so."""
    if case.meta is None:
        return
    inference = case.operation.path.endswith("/infer")
    if inference and not case.meta.is_negative_at(ParameterLocation.HEADER):
        case.headers.pop(LENGTH, None)
        if case.media_type == BYTES:
            case.headers[LENGTH] = "0"  # no JSON, the tensor alone
    if case.media_type != JSON or case.meta.is_negative_at(ParameterLocation.BODY):
        return
    case.body = _answerable(case.body)
    if inference:
        tensor = case.body["inputs"][0]
        width, data = tensor["shape"][1], tensor["data"]
        if not data or isinstance(data[0], list):
            tensor["shape"][0] = len(data)
        else:
            tensor["shape"][0] = len(data) // width
            tensor["data"] = data[: len(data) // width * width]


def _answerable(value: Any) -> Any:
    """Return a JSON value without numbers that are so large that the answer to them may overflow."""
    if isinstance(value, dict):
        return {name: _answerable(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_answerable(item) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return max(-LARGEST, min(value, LARGEST))
    return value


schemathesis.hook(before_load_schema)
schemathesis.hook(before_call)
schemathesis.deserializer(BYTES)(
    lambda context, response: response.content.hex()
)  # its schema has nothing to say
