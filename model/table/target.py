"""TODO: model.table.target."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from model.errors import DataError
from model.table.columns import MISSING_CLASS_MARKERS, parse_numbers, refuse_missing
from model.table.dataset import ClassValue, IntArray, Task

MAX_INTEGER_CLASSES = 20


def infer_task(columns: Sequence[pl.Series], asked: Task | None) -> tuple[Task, str]:
    """Infer the task from the targets' types, and say so with the flag that overrides it."""
    names = ", ".join(f"'{column.name}'" for column in columns)
    if asked:
        return asked, f"{asked} of {names}, as asked"
    column = columns[0]
    task: Task
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


def _plain_type(column: pl.Series) -> str:
    if column.dtype == pl.Boolean:
        return "true/false"
    if column.dtype.is_integer():
        return "many distinct integer"
    return "decimal" if column.dtype.is_numeric() else "text"


def encode_classes(column: pl.Series, source: str) -> tuple[tuple[ClassValue, ...], IntArray]:
    """Return the distinct values in sorted order and each row's index into them."""
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        column = column.set(column.str.to_lowercase().is_in(MISSING_CLASS_MARKERS), None)
    if (
        column.dtype.is_integer()
        and column.cast(pl.Int64, strict=False).null_count() > column.null_count()
    ):
        raise DataError(
            f"{source}: target '{column.name}': expected integers of 64 bits, found larger ones"
        )
    if column.dtype.is_integer() or column.dtype in (pl.String, pl.Boolean):
        refuse_missing(column, source)
        labels = column.to_numpy()
    else:
        labels = parse_numbers(column, source)
    values, indices, counts = np.unique(labels, return_inverse=True, return_counts=True)
    classes: tuple[ClassValue, ...] = tuple(values.tolist())
    if len(classes) < 2:
        raise DataError(
            f"{source}: target '{column.name}' is {classes[0]!r} in every row: expected two classes or more"
        )
    if counts.min() < 3:
        if column.dtype == pl.String and 2 * column.cast(pl.Float64, strict=False).count() > len(
            column
        ):
            parse_numbers(column, source)  # names the text in what is a column of numbers
        rare = classes[int(counts.argmin())]
        raise DataError(
            f"{source}: class {rare!r} of target '{column.name}': expected at least 3 rows (one each for train, "
            f"validation and test), found {counts.min()}"
        )
    return classes, indices.astype(np.int64)
