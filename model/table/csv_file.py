"""Read CSV files: detect the separator, check the header, and infer the types of the columns."""

import codecs
import contextlib
import csv
import io
from collections import Counter
from pathlib import Path

import polars as pl

from model.errors import DataError
from model.table.columns import MISSING_MARKERS
from tabular.separator import guess_separator

MAX_SAMPLE_BYTES = 1 << 24
"""Maximum number of bytes read to find the separator and the header (100,000 columns fit)."""


def read_csv(path: Path) -> pl.DataFrame:
    """Read a CSV file in UTF-8, separated by commas, semicolons, tabs or vertical bars.

    Raises:
        DataError: the file is not UTF-8 or not CSV, or a column name is missing or repeated.
    """
    with path.open("rb") as file:
        sample = file.read(MAX_SAMPLE_BYTES)
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError("expected UTF-8, found UTF-16; save it as UTF-8")
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(sample)
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 at byte {error.start}; save it as UTF-8") from None
    separator = guess_separator(text)
    header = _read_header(text, separator)
    try:
        frame = pl.read_csv(
            path, separator=separator, infer_schema_length=None, new_columns=header, glob=False
        )
    except pl.exceptions.PolarsError as error:
        reason = _find_long_row(text, separator) or first_line(error)
        raise DataError(f"not readable as CSV: {reason}") from None
    # Blank lines at the end of a file are not rows.
    filled = frame.select(pl.any_horizontal(pl.all().is_not_null()).arg_true()).to_series()
    frame = frame.head(filled[-1] + 1 if len(filled) else 0)
    texts = frame.select(pl.col(pl.String)).iter_columns()
    return frame.with_columns(_infer_numbers(column) for column in texts)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message; polars appends lines of advice."""
    return str(error).strip().partition("\n")[0]


def _read_header(text: str, separator: str) -> list[str]:
    """Return the column names; raise a DataError if one is missing or repeated."""
    try:
        records = csv.reader(io.StringIO(text), delimiter=separator)
        header = [name.strip() for name in next(records, [])]
    except csv.Error as error:
        raise DataError(f"not readable as CSV: {error}") from None
    if not any(header):
        raise DataError("the first line is blank, expected column names")
    if "" in header:
        raise DataError(f"column {header.index('') + 1} has no name; name it or remove it")
    for name, count in Counter(header).items():
        if count > 1:
            raise DataError(f"expected different column names, found {count} of '{name}'")
    return header


def _infer_numbers(text: pl.Series) -> pl.Series:
    """Return the column as numbers if each cell is a number or missing, else as stripped text."""
    text = text.str.strip_chars().replace("", None)
    values = text.set(text.str.to_lowercase().is_in(MISSING_MARKERS), None)
    for dtype in (pl.Int64, pl.Float64):
        numbers = values.cast(dtype, strict=False)
        if numbers.count() == values.count() > 0:
            return numbers
    return text


def _find_long_row(text: str, separator: str) -> str:
    """Return a message about the first row that is longer than the header, or "" if none is."""
    with contextlib.suppress(csv.Error):
        records = csv.reader(io.StringIO(text), delimiter=separator)
        columns = len(next(records))
        for row, values in enumerate(records, start=1):
            if len(values) > columns:
                return f"row {row}: expected {columns} values, found {len(values)}"
    return ""
