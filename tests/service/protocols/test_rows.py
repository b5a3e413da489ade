"""Tests of service.protocols.rows: values and bytes give float32 rows or errors with locations."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given

from service.protocols.rows import array_from_list, rows_from_bytes, rows_from_instances
from service.runtime.session import Rows
from tests.service.protocols.refusal import refusal
from tests.service.protocols.strategies import float32, matrices

FEATURES = ("a", "b c", "größe, €")
MAX_ROWS = 1000
GOOD = [1, 2, 3]
NAN = np.array([GOOD, [0, np.nan, 0]], "<f4").tobytes()
RECORD = {"a": 1, "b c": 2, "größe, €": 3}


@given(matrices(3, min_rows=1, values=float32))
def test_rows_keep_their_bits(rows: Rows) -> None:
    """Lists, records with names in any order, and bytes give the same float32 values."""
    wide = rows.astype(np.float64).tolist()
    records = [dict(zip(reversed(FEATURES), reversed(row), strict=True)) for row in wide]
    for actual in (
        rows_from_instances(wide, FEATURES, MAX_ROWS),
        rows_from_instances(records, FEATURES, MAX_ROWS),
        rows_from_bytes(rows.astype("<f4").tobytes(), FEATURES, MAX_ROWS),
        array_from_list([value for row in wide for value in row], "data").reshape(-1, 3),
    ):
        assert ("float32", rows.tobytes()) == (actual.dtype.name, actual.tobytes())


def test_no_rows_and_one_feature() -> None:
    """An empty list gives the shape (0, in_features), and a single feature gives one column."""
    assert (0, 3) == rows_from_instances([], FEATURES, MAX_ROWS).shape
    assert [[2.0]] == rows_from_instances([{"a": 2}], ("a",), 1).tolist()


@pytest.mark.parametrize(
    ("instances", "where", "detail"),
    [
        ([GOOD] * 3, "", "expected at most 2 rows, found 3 or more"),
        (3, "", "expected a list of rows or records, found 3"),
        ({"a": 1}, "", "expected a list of rows or records, found an object"),
        ([GOOD, 7], "[1]", "expected a list or an object, found 7"),
        ([GOOD, {"a": 1}], "[1]", "rows and records do not mix in one request"),
        ([GOOD, [1, 2]], "[1]", "expected 3 values, found 2"),
        ([[1, True, 3]], "[0][1]", "expected a number, found true"),
        ([[1, [2], 3]], "[0][1]", "expected a number, found a list"),
        ([GOOD, [1, 2, 1e39]], "[1][2]", "expected a number within float32, found 1e+39"),
        ([{"a": 1, "b c": 2}], "[0]", "missing feature 'größe, €'"),
        ([{"a": 1, "bc": 2, "größe, €": 3}], "[0]", "unknown feature 'bc' (did you mean 'b c'?)"),
        ([RECORD | {"größe, €": "x"}], '[0]["größe, €"]', 'expected a number, found "x"'),
    ],
)
def test_instances_that_do_not_fit(instances: Any, where: str, detail: str) -> None:
    """The error locates the first invalid value, and gives the expected and actual values."""
    status = 413 if "at most" in detail else 422
    expected = (status, f"instances{where}", detail)
    assert expected == refusal(rows_from_instances, instances, FEATURES, 2)


def test_number_that_does_not_fit() -> None:
    """The error gives the index of the number in a flat list."""
    for value, detail in ((False, "number, found false"), (-1e39, "within float32, found -1e")):
        status, where, message = refusal(array_from_list, [1, value, 2], "data")
        assert (422, "data[1]") == (status, where)
        assert detail in message


@pytest.mark.parametrize(
    ("body", "status", "where", "detail"),
    [
        (b"", 400, None, "the body is empty"),
        (
            bytes(13),
            422,
            None,
            "expected a multiple of 12 bytes (3 float32 values a row), found 13",
        ),
        (NAN, 422, "row 1, column 1", "expected a finite number, found nan"),
        (bytes(36), 413, None, "expected at most 2 rows, found 3 or more"),
    ],
)
def test_bytes_that_do_not_fit(body: bytes, status: int, where: str | None, detail: str) -> None:
    """The error locates a value that is not finite."""
    assert (status, where, detail) == refusal(rows_from_bytes, body, FEATURES, 2)
