"""Conversion of a column to numbers, and the markers of missing values."""

import re

import numpy as np
import polars as pl

from model.errors import DataError
from model.table.dataset import FloatArray

MISSING_CLASS_MARKERS = frozenset({"?", "na", "n/a", "nan", "null"})
"""Lower-case spellings of a missing class. "none" and "nil" are valid names of classes."""
MISSING_MARKERS = frozenset({"", "?", "na", "n/a", "nan", "nil", "none", "null", "-"})
"""Lower-case spellings of a missing number."""


def parse_numbers(column: pl.Series) -> FloatArray:
    """Convert a column of numbers, booleans, or numeric text to (rows,) float64.

    Raises:
        DataError: a cell is missing, is not a number, or is too large for float32.
    """
    where = f"column '{column.name}'"
    numbers = column
    if column.dtype in (pl.String, pl.Categorical, pl.Enum):
        text = column.cast(pl.String).str.strip_chars()
        numbers = text.cast(pl.Float64, strict=False)
        for row in (numbers.is_null() & text.is_not_null()).arg_true():
            if text[row].lower() not in MISSING_MARKERS:
                comma = re.fullmatch(r"[+-]?\d+,\d+", text[row])
                hint = "write a decimal point" if comma else "leave out columns of text with --drop"
                cell = f"{where}, row {row + 1}"
                raise DataError(f"{cell}: expected a number, found {text[row][:40]!r}; {hint}")
    elif not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise DataError(f"{where}: expected numbers, found {column.dtype}; convert or drop it")
    floats = numbers.cast(pl.Float64)
    refuse_missing(floats.fill_nan(None))
    values: FloatArray = floats.to_numpy()
    too_large = np.flatnonzero(~(np.abs(values) <= np.finfo(np.float32).max))
    if too_large.size:
        row = int(too_large[0])
        raise DataError(
            f"{where}, row {row + 1}: expected a number within float32, found {values[row]:g}"
        )
    return values


def refuse_missing(column: pl.Series) -> None:
    """If a column has nulls, raise a DataError with their number and the row of the first."""
    missing = column.is_null()
    if count := missing.sum():
        first = missing.arg_true()[0] + 1
        raise DataError(
            f"column '{column.name}': {count} missing value{'s' if count > 1 else ''}, "
            f"the first in row {first}; fill them in or remove the rows"
        )
