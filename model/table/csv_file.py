"""TODO: model.table.csv_file."""

import codecs
import contextlib
import csv
import io
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import polars as pl

from model.errors import DataError, first_line
from model.table.columns import MISSING_MARKERS

SAMPLE_BYTES = 1 << 24
"""Holds the header, and shows the separator, of tables with 100,000 columns."""


def read_csv(path: Path) -> pl.DataFrame:
    with path.open("rb") as file:
        sample = file.read(SAMPLE_BYTES)
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path}: expected UTF-8, found UTF-16; save it as UTF-8")
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(sample)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    separator = _guess_separator(text)
    try:
        header = [name.strip() for name in next(_records(text, separator), [])]
    except csv.Error as error:
        raise DataError(f"{path}: not readable as CSV: {error}") from None
    if not any(header):
        raise DataError(f"{path}: the first line is blank, expected column names")
    if "" in header:
        raise DataError(f"{path}: column {header.index('') + 1} has no name; name it or remove it")
    for name, count in Counter(header).items():
        if count > 1:
            raise DataError(
                f"{path}: column '{name}' stands {count} times in the header; names must differ"
            )
    try:
        frame = pl.read_csv(
            path, separator=separator, infer_schema_length=None, new_columns=header, glob=False
        )
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{path}: not readable as CSV: {_first_long_row(text, separator) or first_line(error)}"
        ) from None
    filled = frame.select(pl.any_horizontal(pl.all().is_not_null()).arg_true()).to_series()
    frame = frame.head(filled[-1] + 1 if len(filled) else 0)  # blank lines at the end are no rows
    return frame.with_columns(
        _infer_numbers(column) for column in frame.iter_columns() if column.dtype == pl.String
    )


def _infer_numbers(text: pl.Series) -> pl.Series:
    """Return text stripped; as numbers where every value is one or missing: padded with spaces, or NA among them."""
    text = text.str.strip_chars().replace("", None)
    values = text.set(text.str.to_lowercase().is_in(MISSING_MARKERS), None)
    for dtype in (pl.Int64, pl.Float64):
        parsed = values.cast(dtype, strict=False)
        if parsed.count() == values.count() > 0:
            return parsed
    return text


def _records(text: str, separator: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text), delimiter=separator)


def _first_long_row(text: str, separator: str) -> str:
    """Name the first row with more values than the header has columns; an empty string where there is none."""
    with contextlib.suppress(csv.Error):
        records = _records(text, separator)
        columns = len(next(records))
        for row, values in enumerate(records, start=1):
            if len(values) > columns:
                return f"row {row}: expected {columns} values, found {len(values)}"
    return ""


def _guess_separator(text: str) -> str:
    """Return the separator that cuts the header into the most columns, and most of the first lines like it."""

    def cuts(separator: str) -> tuple[bool, int]:
        try:
            widths = [len(row) for row in islice(_records(text, separator), 20) if row] or [0]
        except csv.Error:  # uncut, a line of many columns is longer than a field may be
            return False, 0
        return widths[0] > 1 and 2 * widths.count(widths[0]) > len(widths), widths[0]

    return max(",;\t|", key=cuts)
