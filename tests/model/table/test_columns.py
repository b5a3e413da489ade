"""Tests of the errors of model.table.columns for cells that are not numbers."""

from typing import Any

import polars as pl
import pytest

from model.errors import DataError
from model.table.columns import parse_numbers

FILL = "; fill them in or remove the rows"
TEXT = "; leave out columns of text with --drop"
RANGE = "expected a number within float32"
TYPE = "; convert or drop it"


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (["1", "two"], f", row 2: expected a number, found 'two'{TEXT}"),
        (["1,5", "2"], ", row 1: expected a number, found '1,5'; write a decimal point"),
        (["1", "a\nb"], rf", row 2: expected a number, found 'a\nb'{TEXT}"),
        (["1", "?"], f": 1 missing value, the first in row 2{FILL}"),
        ([None, 1.0, float("nan")], f": 2 missing values, the first in row 1{FILL}"),
        ([1.0, 1e39], f", row 2: {RANGE}, found 1e+39"),
        ([1.0, float("-inf")], f", row 2: {RANGE}, found -inf"),
        ([[1], [2]], f": expected numbers, found List(Int64){TYPE}"),
        ([None, None], f": expected numbers, found Null{TYPE}"),
    ],
)
def test_not_numbers(column: list[Any], expected: str) -> None:
    """The error names the column and the row, counted from 1 without the header."""
    with pytest.raises(DataError) as caught:
        parse_numbers(pl.Series("c", column))
    assert f"column 'c'{expected}" == str(caught.value)
