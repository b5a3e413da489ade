"""Conversion of Python values and raw bytes to float32 rows; errors name the first bad value."""

import json
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from service.errors import MAX_SHOWN_CHARACTERS, TOO_LARGE, UNPARSEABLE, BadInput, describe_value
from service.runtime.session import Rows
from tabular.names import near_miss

NUMBER_TYPES = {int, float}
"""Python types of JSON numbers; compare them with type(), as isinstance() would accept bool."""


def rows_from_instances(
    instances: Any, features: Sequence[str], max_rows: int, where: str = "instances"
) -> Rows:
    """Convert a list of rows, or of records by feature name, to (rows, in_features) float32.

    Raise BadInput: 422 with the location of the first invalid value, 413 for too many rows.
    """
    if type(instances) is not list:
        raise mismatch("a list of rows or records", instances, where)
    require_row_count(len(instances), max_rows, where)
    matrix = _as_matrix(instances, features)
    if matrix is None:
        raise _first_fault(instances, features, where)
    return matrix


def array_from_list(values: list[Any], where: str) -> Rows:
    """Convert a list to float32, (len(values),); raise BadInput (422) at the first wrong value."""
    if not set(map(type, values)) <= NUMBER_TYPES:
        index = next(index for index, value in enumerate(values) if type(value) not in NUMBER_TYPES)
        raise mismatch("a number", values[index], f"{where}[{index}]")
    numbers = to_float32(values)
    if not (finite := np.isfinite(numbers)).all():
        index = int(finite.argmin())
        detail = f"expected a number within float32, found {values[index]:g}"
        raise BadInput(detail, where=f"{where}[{index}]")
    return numbers


def rows_from_bytes(body: bytes, features: Sequence[str], max_rows: int) -> Rows:
    """Read little-endian, row-major float32 values as (rows, in_features).

    Raise BadInput: 400 for an empty body, 422 for a partial row or a value that is not finite, 413
    for too many rows.
    """
    if not body:
        raise BadInput("the body is empty", status=UNPARSEABLE)
    width = 4 * len(features)
    if len(body) % width:
        row = f"{len(features)} float32 values a row"
        raise BadInput(f"expected a multiple of {width} bytes ({row}), found {len(body)}")
    require_row_count(len(body) // width, max_rows)
    rows = np.frombuffer(body, dtype="<f4").reshape(-1, len(features))
    if (place := first_non_finite(rows)) is not None:
        i, j = place
        detail = f"expected a finite number, found {rows[i, j]}"
        raise BadInput(detail, where=f"row {i}, column {j}")
    return rows.astype(np.float32, copy=False)  # convert to native byte order


def mismatch(expected: str, value: object, where: str | None = None) -> BadInput:
    """Return the error (422) for a JSON value other than the expected one."""
    return BadInput(f"expected {expected}, found {describe_value(value)}", where=where)


def require_row_count(rows: int, max_rows: int, where: str | None = None) -> None:
    """Raise BadInput (413) if there are more rows than one request may hold."""
    if rows > max_rows:
        detail = f"expected at most {max_rows} rows, found {rows} or more"
        raise BadInput(detail, where=where, status=TOO_LARGE)


def name_mismatch(names: Sequence[str], features: Sequence[str]) -> str | None:
    """Return a message about the first unknown or missing feature, or None if all names match."""
    known, present = set(features), set(names)
    for name in names:
        if name not in known:
            short = name[:MAX_SHOWN_CHARACTERS]
            return f"unknown feature '{short}'{near_miss(short, features)}"
    missing = next((name for name in features if name not in present), None)
    return f"missing feature '{missing}'" if missing is not None else None


def to_float32(values: Any) -> Rows:
    """Convert to float64 and round to float32; a value beyond float32's range becomes infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(values, dtype=np.float64).astype(np.float32)


def first_non_finite(rows: Rows) -> tuple[int, int] | None:
    """Return the row and the column of the first value that is not finite, or None."""
    finite = np.isfinite(rows)
    if finite.all():
        return None
    i, j = np.argwhere(~finite)[0].tolist()
    return i, j


def _as_matrix(instances: list[Any], features: Sequence[str]) -> Rows | None:
    """Return (rows, in_features) float32, or None if any row or value is invalid."""
    width = len(features)
    kinds = set(map(type, instances))
    if kinds == {dict}:
        if set(map(len, instances)) != {width}:
            return None
        try:
            instances = [[record[name] for name in features] for record in instances]
        except KeyError:
            return None
    elif not kinds <= {list} or not set(map(len, instances)) <= {width}:
        return None
    if not set(map(type, chain.from_iterable(instances))) <= NUMBER_TYPES:
        return None
    rows = to_float32(instances).reshape(-1, width)
    return rows if first_non_finite(rows) is None else None


def _first_fault(instances: list[Any], features: Sequence[str], where: str) -> BadInput:
    """Return the error for the first invalid row or value; at least one must be invalid."""
    first, known = type(instances[0]), set(features)
    keys: Sequence[object] = range(len(features))
    if first is dict:
        keys = [json.dumps(name, ensure_ascii=False) for name in features]
    for i, row in enumerate(instances):
        place = f"{where}[{i}]"
        if type(row) not in (list, dict):
            return mismatch("a list or an object", row, place)
        if type(row) is not first:
            return BadInput("rows and records do not mix in one request", where=place)
        if first is dict and row.keys() != known:
            return BadInput(name_mismatch(list(row), features) or "", where=place)
        if len(row) != len(features):
            return BadInput(f"expected {len(features)} values, found {len(row)}", where=place)
        cells = [row[name] for name in features] if first is dict else row
        for j, value in enumerate(cells) if not set(map(type, cells)) <= NUMBER_TYPES else ():
            if type(value) not in NUMBER_TYPES:
                return mismatch("a number", value, f"{place}[{keys[j]}]")
    values = [[row[name] for name in features] for row in instances] if first is dict else instances
    i, j = first_non_finite(to_float32(values)) or (0, 0)
    detail = f"expected a number within float32, found {values[i][j]:g}"
    return BadInput(detail, where=f"{where}[{i}][{keys[j]}]")
