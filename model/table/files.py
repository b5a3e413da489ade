"""CSV, Parquet and NPZ files as a polars frame, and a frame's columns as numbers.

Everything a person can get wrong in a file is refused here, in one line that says what, where,
expected and found. Rows are counted from 1, the header not included.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from model.errors import DataError, first_line
from model.table.csv_file import read_csv
from model.table.npz_file import read_npz
from tabular.names import near_miss, quote_names

MAX_VALUES_PER_READ = 1 << 23
"""Values that are read from a file at once."""


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
            frame = read_csv(path).lazy()
        case ".parquet" | ".pq":
            frame = pl.scan_parquet(path, glob=False)
        case ".npz":
            frame = read_npz(path).lazy()
        case other:
            raise DataError(
                f"{path}: expected .csv, .tsv, .txt, .parquet, .pq or .npz, found '{other}'"
            )
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
    at_once = max(1, MAX_VALUES_PER_READ // count_rows(frame, source))
    for start in range(0, len(names), at_once):
        yield from _collect(frame.select(names[start : start + at_once]), source).iter_columns()


def require_columns(wanted: Sequence[str], found: Sequence[str], role: str, source: str) -> None:
    """Raise a DataError that names the first of `wanted` that is not in `found`, with the near miss."""
    for name in wanted:
        if name not in found:
            raise DataError(
                f"{source}: no {role} '{name}'{near_miss(name, found)}; there are {quote_names(found)}"
            )


def _collect(frame: pl.LazyFrame, source: str) -> pl.DataFrame:
    try:
        return frame.collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise DataError(f"{source}: not a Parquet file ({first_line(error)})") from None
