"""TODO: model.table.columns."""

import re

import numpy as np
import polars as pl

from model.errors import DataError
from model.table.dataset import FloatArray

MISSING_CLASS_MARKERS = frozenset({"?", "na", "n/a", "nan", "null"})
"""What people write for a missing class, in lower case; none and nil may be the names of classes."""
MISSING_MARKERS = frozenset({"", "?", "na", "n/a", "nan", "nil", "none", "null", "-"})
"""What people write for a missing number, in lower case."""


def parse_numbers(column: pl.Series, source: str) -> FloatArray:
    """Return a column as (rows,) float64, every value finite and within float32's range.

    Raises:
        DataError: text, a missing value, or a number that float32 cannot hold; with column and row.
    """
    where = f"{source}: column '{column.name}'"
    parsed = column
    if column.dtype in (pl.String, pl.Categorical, pl.Enum):
        text = column.cast(pl.String).str.strip_chars()
        parsed = text.cast(pl.Float64, strict=False)
        for row in (parsed.is_null() & text.is_not_null()).arg_true():
            if text[row].lower() not in MISSING_MARKERS:
                comma = re.fullmatch(r"[+-]?\d+,\d+", text[row])
                hint = (
                    "write a decimal point" if comma else "a column of text is left out with --drop"
                )
                raise DataError(
                    f"{where}, row {row + 1}: expected a number, found {text[row][:40]!r}; {hint}"
                )
    elif not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise DataError(
            f"{where}: expected numbers, found {column.dtype}; drop it or write it as numbers"
        )
    values = parsed.cast(pl.Float64)
    refuse_missing(values.fill_nan(None), source)
    found: FloatArray = values.to_numpy()
    wrong = np.flatnonzero(~(np.abs(found) <= np.finfo(np.float32).max))
    if wrong.size:
        row = int(wrong[0])
        raise DataError(
            f"{where}, row {row + 1}: expected a number within float32, found {found[row]:g}"
        )
    return found


def refuse_missing(column: pl.Series, source: str) -> None:
    """Raise a DataError that counts the nulls of a column and names the first row that holds one."""
    missing = column.is_null()
    if count := missing.sum():
        row = missing.arg_max()
        first = 0 if row is None else row + 1
        raise DataError(
            f"{source}: column '{column.name}': {count} missing value{'s' if count > 1 else ''}, the first in "
            f"row {first}; this version refuses missing values: fill them in or remove the rows"
        )
