"""Tests of model.table.files: the format follows from the suffix, and bad files are errors."""

from pathlib import Path

import polars as pl
import pytest

from model.errors import DataError
from model.table.files import read_frame
from tests.model.table.conftest import WriteFile

NAMES = ("d*.csv", "d[1].csv", "d?.csv", "s3:x.csv", "~.csv", "d*.parquet", "d[1].parquet")


@pytest.mark.parametrize("name", NAMES)
def test_file_names_are_not_patterns(write_file: WriteFile, name: str) -> None:
    """A name with wildcard characters or a colon reads only the file of exactly that name."""
    frame = pl.DataFrame({"größe, €": [1.5, 2.5], "b c": ["x", "y"], "d": [True, False]})
    for stem in ("d1", "dd", Path(name).stem):
        write = frame.write_parquet if name.endswith("parquet") else frame.write_csv
        write(write_file(stem + Path(name).suffix, ""))
    assert frame.equals(read_frame(Path(name)).collect())


PARQUET_END = (
    "not a Parquet file (parquet: File out of specification: The file must end with PAR1 or PARE)"
)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "", "the file is empty"),
        ("a.csv", "a,b\n", "no rows of data"),
        ("a.csv", "a,b\n\n\n", "no rows of data"),
        ("a.parquet", "not Parquet, surely", PARQUET_END),
        ("a.xlsx", "PK", "expected .csv, .tsv, .txt, .parquet, .pq or .npz, found '.xlsx'"),
    ],
)
def test_bad_file(write_file: WriteFile, name: str, content: str, expected: str) -> None:
    """An empty or malformed file, or an unknown suffix, gives a one-line error."""
    with pytest.raises(DataError) as caught:
        read_frame(write_file(name, content))
    assert expected == str(caught.value)


def test_missing_file(write_file: WriteFile) -> None:
    """A path that does not exist, or is a folder, is an error."""
    with pytest.raises(DataError, match=r"^no such file$"):
        read_frame(Path("none.csv"))
    with pytest.raises(DataError, match=r"^is a folder, expected a CSV, Parquet or NPZ file$"):
        read_frame(Path())
