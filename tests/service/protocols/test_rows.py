"""Tests of service.protocols.rows: values give float32 rows or errors with locations."""

from typing import Any, Literal
from unicodedata import normalize

import numpy as np
import pytest
from hypothesis import given

from service.protocols.rows import array_from_list, rows_from_instances
from service.runtime.session import Rows
from tests.service.protocols.refusal import refusal
from tests.service.protocols.strategies import float32, matrices

FEATURES = ("a", "b c", "größe, €")
MAX_ROWS = 1000
GOOD = [1, 2, 3]
RECORD = {"a": 1, "b c": 2, "größe, €": 3}
NFD = {normalize("NFD", name): value for name, value in RECORD.items()}
Form = Literal["NFC", "NFD"]


@given(matrices(3, min_rows=1, values=float32))
def test_rows_keep_their_bits(rows: Rows) -> None:
    """Lists, and records with names in any order, give the same float32 values."""
    wide = rows.astype(np.float64).tolist()
    records = [dict(zip(reversed(FEATURES), reversed(row), strict=True)) for row in wide]
    for actual in (
        rows_from_instances(wide, FEATURES, MAX_ROWS),
        rows_from_instances(records, FEATURES, MAX_ROWS),
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
        ([NFD, RECORD | {"b c": "x"}], '[1]["b c"]', 'expected a number, found "x"'),
        ([NFD | {"b c": "x"}], '[0]["b c"]', 'expected a number, found "x"'),
        ([NFD | {"d": 1}], "[0]", "unknown feature 'd'"),
        ([NFD | RECORD], "[0]", 'the feature "größe, €" appears twice'),
    ],
)
def test_instances_that_do_not_fit(instances: Any, where: str, detail: str) -> None:
    """The error locates the first invalid value, and gives the expected and actual values."""
    status = 413 if "at most" in detail else 400 if "twice" in detail else 422
    expected = (status, f"instances{where}", detail)
    assert expected == refusal(rows_from_instances, instances, FEATURES, 2)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("known", ["NFC", "NFD"])
def test_spellings_of_a_name(form: Form, known: Form) -> None:
    """A record may spell a name with composed or with combining characters."""
    features = [normalize(known, name) for name in FEATURES]
    record = {normalize(form, name): value for name, value in RECORD.items()}
    assert [[1, 2, 3]] * 2 == rows_from_instances([record, RECORD], features, 2).tolist()


def test_features_that_differ_in_their_spelling_alone() -> None:
    """An artifact that has both spellings of a name accepts records with both."""
    features = ("a", FEATURES[2], normalize("NFD", FEATURES[2]))
    record = dict(zip(features, GOOD, strict=True))
    assert [GOOD] == rows_from_instances([record], features, 2).tolist()


def test_number_that_does_not_fit() -> None:
    """The error gives the index of the number in a flat list."""
    for value, detail in ((False, "number, found false"), (-1e39, "within float32, found -1e")):
        status, where, message = refusal(array_from_list, [1, value, 2], "data")
        assert (422, "data[1]") == (status, where)
        assert detail in message
