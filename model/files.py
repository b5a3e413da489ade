"""CSV, Parquet and NPZ files as a polars frame, and a frame's columns as numbers.

Everything a person can get wrong in a file is refused here, in one line that says what, where,
expected and found. Rows are counted from 1, the header not included.
"""

import codecs
import contextlib
import csv
import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from model.table import DataError, FloatArray, near_miss, quoted

MISSING_CLASSES = frozenset({"?", "na", "n/a", "nan", "null"})
"""What people write for a missing class, in lower case; none and nil may be the names of classes."""
MISSING = frozenset({"", "?", "na", "n/a", "nan", "nil", "none", "null", "-"})
"""What people write for a missing number, in lower case."""

COLUMN_VALUES = 1 << 23
"""Values that are read from a file at once."""
SAMPLE_BYTES = 1 << 24
"""Holds the header, and shows the separator, of tables with 100,000 columns."""


def read_frame(path: Path) -> pl.LazyFrame:
    """Read a file by its suffix: .csv .tsv .txt, .parquet .pq, or .npz (arrays x and y).

    Of a Parquet file only the schema is read; its columns are read as they are asked for.

    Raises:
        DataError: the file is missing, empty or malformed, or its suffix is not known.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.is_dir():
        raise DataError(f"{path}: is a folder, expected a CSV, Parquet or NPZ file")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    match path.suffix.lower():
        case ".csv" | ".tsv" | ".txt":
            frame = _read_csv(path).lazy()
        case ".parquet" | ".pq":
            frame = pl.scan_parquet(path, glob=False)
        case ".npz":
            frame = _read_npz(path).lazy()
        case other:
            raise DataError(f"{path}: expected .csv, .tsv, .txt, .parquet, .pq or .npz, found '{other}'")
    if not count_rows(frame, str(path)):
        raise DataError(f"{path}: no rows of data")
    return frame


def count_rows(frame: pl.LazyFrame, source: str) -> int:
    """Return the number of rows; DataError where the file cannot be read."""
    rows: int = _collect(frame.select(pl.len()), source).item()
    return rows


def read_columns(frame: pl.LazyFrame, names: Sequence[str], source: str) -> Iterator[pl.Series]:
    """Read columns in the order given, a few at a time, so that a large file is never held twice.

    Raises:
        DataError: the file cannot be read.
    """
    at_once = max(1, COLUMN_VALUES // count_rows(frame, source))
    for start in range(0, len(names), at_once):
        yield from _collect(frame.select(names[start : start + at_once]), source).iter_columns()


def require_columns(wanted: Sequence[str], found: Sequence[str], role: str, source: str) -> None:
    """Raise a DataError that names the first of `wanted` that is not in `found`, with the near miss."""
    for name in wanted:
        if name not in found:
            raise DataError(f"{source}: no {role} '{name}'{near_miss(name, found)}; there are {quoted(found)}")


def numbers(column: pl.Series, source: str) -> FloatArray:
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
            if text[row].lower() not in MISSING:
                comma = re.fullmatch(r"[+-]?\d+,\d+", text[row])
                hint = "write a decimal point" if comma else "a column of text is left out with --drop"
                raise DataError(f"{where}, row {row + 1}: expected a number, found {text[row][:40]!r}; {hint}")
    elif not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise DataError(f"{where}: expected numbers, found {column.dtype}; drop it or write it as numbers")
    values = parsed.cast(pl.Float64)
    refuse_missing(values.fill_nan(None), source)
    found: FloatArray = values.to_numpy()
    wrong = np.flatnonzero(~(np.abs(found) <= np.finfo(np.float32).max))
    if wrong.size:
        row = int(wrong[0])
        raise DataError(f"{where}, row {row + 1}: expected a number within float32, found {found[row]:g}")
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


def _collect(frame: pl.LazyFrame, source: str) -> pl.DataFrame:
    try:
        return frame.collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise DataError(f"{source}: not a Parquet file ({_first_line(error)})") from None


def _read_csv(path: Path) -> pl.DataFrame:
    with path.open("rb") as file:
        sample = file.read(SAMPLE_BYTES)
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path}: expected UTF-8, found UTF-16; save it as UTF-8")
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(sample)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    separator = _separator(text)
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
            raise DataError(f"{path}: column '{name}' stands {count} times in the header; names must differ")
    try:
        frame = pl.read_csv(path, separator=separator, infer_schema_length=None, new_columns=header, glob=False)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: not readable as CSV: {_ragged(text, separator) or _first_line(error)}") from None
    filled = frame.select(pl.any_horizontal(pl.all().is_not_null()).arg_true()).to_series()
    frame = frame.head(filled[-1] + 1 if len(filled) else 0)  # blank lines at the end are no rows
    return frame.with_columns(_typed(column) for column in frame.iter_columns() if column.dtype == pl.String)


def _typed(text: pl.Series) -> pl.Series:
    """Return text stripped; as numbers where every value is one or missing: padded with spaces, or NA among them."""
    text = text.str.strip_chars().replace("", None)
    values = text.set(text.str.to_lowercase().is_in(MISSING), None)
    for dtype in (pl.Int64, pl.Float64):
        parsed = values.cast(dtype, strict=False)
        if parsed.count() == values.count() > 0:
            return parsed
    return text


def _records(text: str, separator: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text), delimiter=separator)


def _ragged(text: str, separator: str) -> str:
    """Name the first row with more values than the header has columns; an empty string where there is none."""
    with contextlib.suppress(csv.Error):
        records = _records(text, separator)
        columns = len(next(records))
        for row, values in enumerate(records, start=1):
            if len(values) > columns:
                return f"row {row}: expected {columns} values, found {len(values)}"
    return ""


def _separator(text: str) -> str:
    """Return the separator that cuts the header into the most columns, and most of the first lines like it."""

    def cuts(separator: str) -> tuple[bool, int]:
        try:
            widths = [len(row) for row in islice(_records(text, separator), 20) if row] or [0]
        except csv.Error:  # uncut, a line of many columns is longer than a field may be
            return False, 0
        return widths[0] > 1 and 2 * widths.count(widths[0]) > len(widths), widths[0]

    return max(",;\t|", key=cuts)


def _read_npz(path: Path) -> pl.DataFrame:
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                found = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
                arrays = [_array(archive, name) for name in ("x", "y") if name in found]
        except ValueError as error:
            if "allow_pickle" in str(error):
                raise DataError(f"{path}: holds pickled objects, which can run code; save plain arrays") from None
            raise DataError(f"{path}: {_first_line(error)}") from None
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            OSError,
            RuntimeError,
        ):  # as zipfile says that bytes are wrong
            raise DataError(f"{path}: not an NPZ file, or a truncated one") from None
    if len(arrays) < 2:
        raise DataError(f"{path}: expected arrays x and y, found {quoted(found)}")
    x, y = arrays
    if x.ndim != 2 or y.ndim not in (1, 2) or len(x) != len(y):
        raise DataError(
            f"{path}: expected x (rows, in_features) and y (rows,) or (rows, out_features), "
            f"found x {x.shape} and y {y.shape}"
        )
    targets = {"y": y} if y.ndim == 1 else {f"y{i}": column for i, column in enumerate(y.T)}
    try:
        return pl.DataFrame({f"x{i}": column for i, column in enumerate(x.T)} | targets)
    except (pl.exceptions.PolarsError, TypeError, ValueError):
        raise DataError(f"{path}: expected numbers or text, found x of {x.dtype} and y of {y.dtype}") from None


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as file:
        found: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return found


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
