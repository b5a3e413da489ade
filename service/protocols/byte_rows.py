"""Parsing of raw little-endian numbers into float32 rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from service.errors import MAX_SHOWN_CHARACTERS, UNPARSEABLE, BadInput, Refused
from service.protocols.messages import BYTES, Request
from service.protocols.rows import first_non_finite, require_row_count, to_float32
from service.runtime.request_memory import TEXT_VALUE_BYTES
from service.runtime.session import Rows

DType = np.dtype[Any]
_INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
DTYPES: dict[str, DType] = {
    name: np.dtype(name).newbyteorder("<") for name in ("float32", "float64", *_INTEGERS)
}
"""Accepted types of numbers by NumPy's name."""
FLOAT32, FLOAT64 = DTYPES["float32"], DTYPES["float64"]
MAX_ROW_DIGITS = 15
"""Maximum number of digits of a row count in a header."""
EXAMPLE = f"{BYTES}; dtype=float32; rows=2"


def max_value_counts(request: Request) -> tuple[int, int]:
    """Return how many values the text and the binary numbers of a body hold at most."""
    size, json_length = len(request.body), request.json_length
    text_bytes = size if json_length is None else min(json_length, size)
    if request.content_type != BYTES:
        return size // TEXT_VALUE_BYTES, size - text_bytes
    if not json_length:
        dtype = DTYPES.get(request.parameters.get("dtype", "float32").lower(), FLOAT32)
        return 0, size // dtype.itemsize
    # /predict ignores the length of the JSON, and V2 ignores the parameters of Content-Type. After
    # the JSON, the type is still unknown, and may have one byte.
    return text_bytes // TEXT_VALUE_BYTES, size if request.parameters else size - text_bytes


def read_layout(
    parameters: Mapping[str, str], *, required: bool = True
) -> tuple[DType, int | None]:
    """Return the type of the numbers and the number of rows that a Content-Type declares.

    If neither `dtype` nor `rows` is present, raise Refused (415) if one of them is required. The
    bytes of a float64 or int64 array would otherwise be read as twice as many float32 rows.
    """
    name, count = parameters.get("dtype", "float32"), parameters.get("rows")
    if required and not parameters.keys() & {"dtype", "rows"}:
        detail = f"expected the dtype or the number of rows, as in '{EXAMPLE}', found neither"
        raise Refused(415, f"Content-Type: {detail}", reason="unsupported_media_type")
    if (dtype := DTYPES.get(name.lower())) is None:
        detail = f"expected one of {', '.join(DTYPES)}, found {name[:MAX_SHOWN_CHARACTERS]!r}"
        raise Refused(415, f"Content-Type: dtype: {detail}", reason="unsupported_media_type")
    if count is None:
        return dtype, None
    if not (count.isascii() and count.isdigit() and len(count) <= MAX_ROW_DIGITS):
        detail = f"expected a number of rows, found {count[:MAX_SHOWN_CHARACTERS]!r}"
        raise BadInput(f"Content-Type: rows: {detail}", status=UNPARSEABLE)
    return dtype, int(count)


def rows_from_bytes(
    body: bytes,
    features: Sequence[str],
    max_rows: int,
    dtype: DType = FLOAT32,
    rows: int | None = None,
) -> Rows:
    """Read row-major numbers as (rows, in_features) float32; by default the length gives `rows`.

    Raise BadInput: 400 for an empty body, 422 for a length that contradicts `rows` or a value that
    is not finite, 413 for too many rows.
    """
    width = len(features)
    row_bytes = width * dtype.itemsize
    if rows is None:
        if not body:
            raise BadInput("the body is empty", status=UNPARSEABLE)
        if len(body) % row_bytes:
            row = f"{width} {dtype.name} values a row"
            raise BadInput(f"expected a multiple of {row_bytes} bytes ({row}), found {len(body)}")
        rows = len(body) // row_bytes
    elif len(body) != rows * row_bytes:
        layout = f"{rows} rows of {width} {dtype.name} values of {dtype.itemsize} bytes"
        raise BadInput(f"expected {rows * row_bytes} bytes ({layout}), found {len(body)}")
    require_row_count(rows, max_rows)
    numbers = np.frombuffer(body, dtype).reshape(rows, width)
    # astype rounds an integer once, unlike to_float32. It converts to the native byte order, and
    # copies nothing if that is the order already.
    matrix = to_float32(numbers) if dtype is FLOAT64 else numbers.astype(np.float32, copy=False)
    if (place := first_non_finite(matrix)) is not None:
        i, j = place
        raise BadInput(_describe_non_finite(numbers[i, j]), where=f"row {i}, column {j}")
    return matrix


def _describe_non_finite(number: float) -> str:
    if np.isfinite(number):
        return f"expected a number within float32, found {number:g}"
    return f"expected a finite number, found {number}"
