"""The target columns: infer the task, and encode the values or the classes."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from model.errors import DataError
from model.table.columns import MISSING_CLASS_MARKERS, parse_numbers, refuse_missing
from model.table.dataset import ClassValue, FloatArray, IntArray, Task
from tabular.number_format import format_number

MAX_INTEGER_CLASSES = 20
"""Maximum number of distinct integers that are taken for classes when the task is inferred."""
MAX_TARGET_MAGNITUDE = 1e18
"""Maximum magnitude of a regression target, whose square must be within float32's range."""
MIN_ROWS_IN_CLASS = 3
"""Minimum number of rows in each class: one each for train, validation and test."""


def infer_task(columns: Sequence[pl.Series], task: Task | None) -> tuple[Task, str]:
    """Return the task and a note about it; if task is None, infer it from the target columns."""
    names = ", ".join(f"'{column.name}'" for column in columns)
    if task:
        return task, f"{task} of {names}, as given by --task"
    column = columns[0]
    other: Task
    if len(columns) > 1:
        return "regression", f"{len(columns)} targets -> regression"
    if column.dtype in (pl.String, pl.Categorical, pl.Enum, pl.Boolean):
        return "classification", f"target {names} holds {_plain_type(column)} -> classification"
    if column.dtype.is_integer() and (distinct := column.n_unique()) <= MAX_INTEGER_CLASSES:
        task, reason, other = "classification", f"{distinct} distinct integers", "regression"
    else:
        task, reason, other = "regression", f"{_plain_type(column)} values", "classification"
    return task, f"target {names} holds {reason} -> {task} (--task {other} overrides)"


def encode_target(
    columns: Sequence[pl.Series], task: Task
) -> tuple[tuple[ClassValue, ...], FloatArray | IntArray]:
    """Return the classes, empty for a regression, and the encoded target of each row."""
    if task == "regression":
        return (), encode_numbers(columns)
    if len(columns) > 1:
        raise DataError(f"classification takes one target, found {len(columns)}")
    return encode_classes(columns[0])


def encode_numbers(columns: Sequence[pl.Series]) -> FloatArray:
    """Return the targets of a regression, (rows, columns) float64.

    Raises:
        DataError: a cell is not a number, a value is too large, or a column is constant.
    """
    y = np.stack([parse_numbers(column) for column in columns], axis=1)
    for column, low, high in zip(columns, y.min(axis=0), y.max(axis=0), strict=True):
        where = f"target '{column.name}'"
        if max(-low, high) > MAX_TARGET_MAGNITUDE:
            value = high if high > -low else low
            expected = f"expected values within {MAX_TARGET_MAGNITUDE:g}"
            raise DataError(f"{where}: {expected}, found {value:g}")
        if low == high:
            raise DataError(f"{where} is {format_number(low)} in every row: nothing to learn")
    return y


def encode_classes(column: pl.Series) -> tuple[tuple[ClassValue, ...], IntArray]:
    """Return the distinct values in sorted order, and the index of each row's value, (rows,) int64.

    Raises:
        DataError: a cell is missing, the values have an unsuitable type, or a class is too rare.
    """
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        column = column.set(column.str.to_lowercase().is_in(MISSING_CLASS_MARKERS), None)
    where = f"target '{column.name}'"
    integer = column.dtype.is_integer()
    if integer and column.cast(pl.Int64, strict=False).null_count() > column.null_count():
        raise DataError(f"{where}: expected integers of 64 bits, found larger ones")
    labels: np.ndarray[tuple[int, ...], np.dtype[np.generic]]
    if integer or column.dtype in (pl.String, pl.Boolean):
        refuse_missing(column)
        labels = column.to_numpy()
    else:
        labels = parse_numbers(column)
    values, indices, counts = np.unique(labels, return_inverse=True, return_counts=True)
    classes: tuple[ClassValue, ...] = tuple(values.tolist())
    if len(classes) < 2:
        raise DataError(f"{where} is {classes[0]!r} in every row: expected two classes or more")
    if counts.min() < MIN_ROWS_IN_CLASS:
        numbers = column.cast(pl.Float64, strict=False) if column.dtype == pl.String else None
        if numbers is not None and 2 * numbers.count() > len(column):
            parse_numbers(column)  # raises a more helpful error, which quotes the text
        rare = classes[int(counts.argmin())]
        raise DataError(
            f"{where}: class {rare!r}: expected at least {MIN_ROWS_IN_CLASS} rows (one each for "
            f"train, validation and test), found {counts.min()}; add rows or remove the class"
        )
    return classes, indices.astype(np.int64)


def _plain_type(column: pl.Series) -> str:
    if column.dtype == pl.Boolean:
        return "true/false"
    if column.dtype.is_integer():
        return "many distinct integer"
    return "decimal" if column.dtype.is_numeric() else "text"
