"""Read CSV, Parquet and NPZ files as lazy polars frames.

Error messages count rows from 1, without the header; load_table() prefixes the name of the file.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from model.errors import DataError
from model.table.csv_file import first_line, read_csv
from model.table.npz_file import read_npz
from tabular.names import find_name, name_key, names_by_key, near_miss, quote_names

MAX_VALUES_PER_READ = 1 << 23
"""Maximum number of values read from a Parquet file at once."""


def read_frame(path: Path) -> pl.LazyFrame:
    """Read a file by its suffix: .csv .tsv .txt, .parquet .pq, or .npz (arrays x and y).

    Reads only the schema of a Parquet file; read_columns() reads its columns.

    Raises:
        DataError: the file is missing, empty or malformed, or its suffix is unknown.
    """
    if not path.exists():
        raise DataError("no such file")
    if path.is_dir():
        raise DataError("is a folder, expected a CSV, Parquet or NPZ file")
    if path.stat().st_size == 0:
        raise DataError("the file is empty")
    match path.suffix.lower():
        case ".csv" | ".tsv" | ".txt":
            frame = read_csv(path).lazy()
        case ".parquet" | ".pq":
            frame = pl.scan_parquet(path, glob=False)
        case ".npz":
            frame = read_npz(path).lazy()
        case other:
            raise DataError(f"expected .csv, .tsv, .txt, .parquet, .pq or .npz, found '{other}'")
    if not count_rows(frame):
        raise DataError("no rows of data")
    return frame


def count_rows(frame: pl.LazyFrame) -> int:
    """Return the number of rows; raise a DataError if the file cannot be read."""
    rows: int = _collect(frame.select(pl.len())).item()
    return rows


def read_columns(frame: pl.LazyFrame, names: Sequence[str]) -> Iterator[pl.Series]:
    """Yield the named columns, reading only a few at a time to save memory."""
    count = max(1, MAX_VALUES_PER_READ // count_rows(frame))
    for start in range(0, len(names), count):
        yield from _collect(frame.select(names[start : start + count])).iter_columns()


def require_columns(names: Sequence[str], columns: Sequence[str], role: str) -> tuple[str, ...]:
    """Return the columns with these names, each once, spelled as in the table.

    Raise a DataError for the first name that is not in columns, with the most similar column.
    """
    known = names_by_key(columns)
    spelled: dict[str, None] = {}
    for name in names:
        if (column := find_name(name, known)) is None:
            hint = near_miss(name, columns)
            raise DataError(f"no {role} '{name}'{hint}; there are {quote_names(columns)}")
        spelled[column] = None
    return tuple(spelled)


def require_different_names(columns: Sequence[str]) -> None:
    """Raise a DataError if the names of two columns differ only in their Unicode spelling."""
    positions: dict[str, int] = {}
    for position, name in enumerate(columns, start=1):
        if (first := positions.setdefault(name_key(name), position)) != position:
            problem = f"expected different names, found two spellings of '{name_key(name)}'"
            raise DataError(f"columns {first} and {position}: {problem}; rename one")


def _collect(frame: pl.LazyFrame) -> pl.DataFrame:
    try:
        return frame.collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise DataError(f"not a Parquet file ({first_line(error)})") from None
