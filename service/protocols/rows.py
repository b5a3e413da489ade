"""Conversion of Python values to float32 rows; errors name the first invalid value."""

import json
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np

from service.errors import MAX_SHOWN_CHARACTERS, TOO_LARGE, UNPARSEABLE, BadInput, describe_value
from service.runtime.session import Rows
from tabular.names import find_name, names_by_key, near_miss

Place = Callable[[int], str]
"""Function from the index of a row to its location in the request, such as instances[3]."""
NUMBER_TYPES = {int, float}
"""Python types of JSON numbers; compare them with type(), as isinstance() would accept bool."""


def rows_from_instances(
    instances: Any,
    features: Sequence[str],
    max_rows: int,
    where: str = "instances",
    *,
    records: bool = True,
) -> Rows:
    """Convert a list of rows, or of records by feature name, to (rows, in_features) float32.

    Raise BadInput: 422 with the location of the first invalid value, 413 for too many rows, 400 for
    a record that has two spellings of one name.

    Args:
        instances: parsed JSON.
        features: names in the order of the columns.
        max_rows: maximum number of rows.
        where: location of `instances` in the request.
        records: whether records are accepted; a tensor consists of rows only.
    """
    if type(instances) is not list:
        rows = "a list of rows or records" if records else "a list of rows"
        raise mismatch(rows, instances, where)
    require_row_count(len(instances), max_rows, where)
    matrix = _as_matrix(instances, features, records)
    if matrix is None and records and dict in map(type, instances):
        instances = _with_known_spellings(instances, features, where)
        matrix = _as_matrix(instances, features, records)
    if matrix is None:
        raise _first_fault(instances, features, where, records)
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
    known, present = names_by_key(features), set()
    for name in names:
        if (feature := find_name(name, known)) is None:
            short = name[:MAX_SHOWN_CHARACTERS]
            return f"unknown feature '{short}'{near_miss(short, features)}"
        present.add(feature)
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


def _as_matrix(instances: list[Any], features: Sequence[str], records: bool) -> Rows | None:
    """Return (rows, in_features) float32, or None if any row or value is invalid."""
    width = len(features)
    kinds = set(map(type, instances))
    if records and kinds == {dict}:
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


def _with_known_spellings(instances: list[Any], features: Sequence[str], where: str) -> list[Any]:
    """Return records with the features' spellings as keys, up to the first unknown key."""
    known = names_by_key(features)
    renamed: list[Any] = []
    for i, row in enumerate(instances):
        record = {}
        for name, value in row.items() if type(row) is dict else ():
            if (feature := find_name(name, known)) is None:
                return renamed + instances[i:]
            if feature in record:
                detail = f"the feature {describe_value(feature)} appears twice"
                raise BadInput(detail, where=f"{where}[{i}]", status=UNPARSEABLE)
            record[feature] = value
        renamed.append(record or row)
    return renamed


def _first_fault(
    instances: list[Any], features: Sequence[str], where: str, records: bool
) -> BadInput:
    """Return the error for the first invalid row or value; at least one must be invalid."""
    first, known = type(instances[0]), set(features)
    keys: Sequence[object] = range(len(features))
    if first is dict:
        keys = [json.dumps(name, ensure_ascii=False) for name in features]
    for i, row in enumerate(instances):
        place = f"{where}[{i}]"
        if type(row) not in ((list, dict) if records else (list,)):
            return mismatch("a list or an object" if records else "a list", row, place)
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
