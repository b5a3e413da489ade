"""Tests of model.table.target: the inferred task, the classes, and invalid targets."""

from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest

from model.errors import DataError
from model.table.dataset import Task
from model.table.target import encode_classes, encode_numbers, infer_task

INTEGER_CLASSES_NOTE = "distinct integers -> classification (--task regression overrides)"
REGRESSION_NOTE = "values -> regression (--task classification overrides)"


@pytest.mark.parametrize(
    ("values", "task", "note"),
    [
        (["b", "a c", "ä"], "classification", "text -> classification"),
        ([True, False], "classification", "true/false -> classification"),
        ([3, 1, 7, 7], "classification", f"3 {INTEGER_CLASSES_NOTE}"),
        (list(range(20)), "classification", f"20 {INTEGER_CLASSES_NOTE}"),
        (list(range(21)), "regression", f"many distinct integer {REGRESSION_NOTE}"),
        ([0.0, 1.5], "regression", f"decimal {REGRESSION_NOTE}"),
    ],
)
def test_task_is_inferred(values: list[Any], task: Task, note: str) -> None:
    """Text, booleans and up to 20 distinct integers are inferred as classes."""
    expected = task, f"target 't €' holds {note}"
    assert expected == infer_task([pl.Series("t €", values)], None)


def test_task_is_chosen() -> None:
    """The task option overrides the inference, and several targets make a regression."""
    column = pl.Series("t", [1, 2])
    assert ("regression", "regression of 't', as given by --task") == infer_task(
        [column], "regression"
    )
    assert ("regression", "2 targets -> regression") == infer_task([column, column], None)


@pytest.mark.parametrize(
    ("values", "dtype", "classes"),
    [
        (["b", "a c", "ä"], None, ("a c", "b", "ä")),
        (["b", "a", "c"], pl.Categorical, ("a", "b", "c")),
        ([True, False], None, (False, True)),
        ([3, 1, 7], None, (1, 3, 7)),
        ([1.5, 0.5], None, (0.5, 1.5)),
        ([Decimal("1.5"), Decimal(2)], None, (1.5, 2.0)),
    ],
)
def test_classes(values: list[Any], dtype: Any, classes: tuple[Any, ...]) -> None:
    """Classes are sorted, and have the JSON type of their column."""
    encoded, indices = encode_classes(pl.Series("t", values * 3, dtype=dtype))
    assert [(type(value), value) for value in classes] == [(type(item), item) for item in encoded]
    assert values * 3 == [encoded[index] for index in indices]


RARE = (
    "expected at least 3 rows (one each for train, validation and test), found 2; add rows or "
    "remove the class"
)
NOT_NUMBERS = "expected numbers, found {}; convert or drop it"
FILL = "; fill them in or remove the rows"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["x"] * 9, "target 't' is 'x' in every row: expected two classes or more"),
        (["x", "y"] * 5 + ["z", "z"], f"target 't': class 'z': {RARE}"),
        (
            ["1", "2.5", "3", "1O.5"],
            "column 't', row 4: expected a number, found '1O.5'; "
            "leave out columns of text with --drop",
        ),
        (["a", "b", "NA"] * 3, f"column 't': 3 missing values, the first in row 3{FILL}"),
        ([0, 1, None] * 3, f"column 't': 3 missing values, the first in row 3{FILL}"),
        ([0.5, float("inf")] * 3, "column 't', row 2: expected a number within float32, found inf"),
        ([2**63, 1] * 5, "target 't': expected integers of 64 bits, found larger ones"),
        ([date(2020, 1, 1)] * 9, "column 't': " + NOT_NUMBERS.format("Date")),
    ],
)
def test_bad_classes(values: list[Any], expected: str) -> None:
    """Each invalid classification target gives a one-line error."""
    with pytest.raises(DataError) as caught:
        encode_classes(pl.Series("t", values))
    assert expected == str(caught.value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.5] * 9, "target 't' is 0.5 in every row: nothing to learn"),
        ([1234567] * 9, "target 't' is 1,234,567 in every row: nothing to learn"),
        ([0.0, 2e18], "target 't': expected values within 1e+18, found 2e+18"),
        ([-2e18, 0.0], "target 't': expected values within 1e+18, found -2e+18"),
        ([date(2020, 1, 1)] * 9, "column 't': " + NOT_NUMBERS.format("Date")),
    ],
)
def test_bad_numbers(values: list[Any], expected: str) -> None:
    """Each invalid regression target gives a one-line error."""
    with pytest.raises(DataError) as caught:
        encode_numbers([pl.Series("s", np.arange(len(values))), pl.Series("t", values)])
    assert expected == str(caught.value)
