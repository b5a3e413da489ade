"""model.files: CSV, Parquet and NPZ, and one line for everything that can be wrong with them."""

import codecs
import csv
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.errors import DataError
from model.table import columns, files
from tabular.names import near_miss

ROWS = "1,2\n" * 12
GENES = [f"gene_{index}" for index in range(20_000)]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes | str], Path]:
    """Return a function that writes a file into an empty current folder."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, content: bytes | str) -> Path:
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
        return Path(name)

    return write


def npz(**arrays: Any) -> bytes:
    """Return the bytes of an NPZ file."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


text = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n"), max_size=8)
Write = Callable[[str, bytes | str], Path]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.lists(text.map(str.strip).filter(bool), min_size=2, max_size=4, unique=True),
    rows=st.lists(
        st.tuples(text, st.floats(allow_nan=False, allow_infinity=False, width=32)),
        min_size=1,
        max_size=5,
    ),
    separator=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    ending=st.sampled_from(["\n", "\r\n"]),
    mark=st.sampled_from(["", "\ufeff"]),
)
def test_csv_is_read_as_python_writes_it(
    path: Write,
    header: list[str],
    rows: list[tuple[str, float]],
    separator: str,
    quoting: Literal[0, 1, 2],
    ending: str,
    mark: str,
) -> None:
    """Any names, numbers and labels, in each dialect of csv.writer, come back as they were."""
    content = io.StringIO()
    writer = csv.writer(content, delimiter=separator, quoting=quoting, lineterminator=ending)
    writer.writerows([header, *([label, *[number] * (len(header) - 1)] for label, number in rows)])
    frame = files.read_frame(path("a.csv", mark + content.getvalue())).collect()
    assert header == frame.columns
    for name in header[1:]:
        assert [number for _, number in rows] == columns.parse_numbers(
            frame[name], "a.csv"
        ).tolist()


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ('"a, b","c ""d""",größe (m²)\n1,2,3\n', ["a, b", 'c "d"', "größe (m²)"]),
        ('\ufeff"a b";preis €\n1;2\n', ["a b", "preis €"]),
        ("a\tb, c\n1\t2\n", ["a", "b, c"]),
        ("a|b\n1|2\n", ["a", "b"]),
        ("a , b\n1 , 2\n", ["a", "b"]),
        ("a;b\n1,5;2,5\n", ["a", "b"]),
        ('"a\nb",c\r\n1,2\r\n', ["a\nb", "c"]),
        ('"a\u2028b",c\n1,2\n', ["a\u2028b", "c"]),
        ("a,b,c\n1,2\n" + "1,2,3\n" * 9, ["a", "b", "c"]),  # a short row hides no separator
        (",".join(GENES) + "\n" + ",".join("1" for _ in GENES) + "\n", GENES),
    ],
)
def test_header(path: Write, content: str, columns: list[str]) -> None:
    """Quotes, spaces, commas, non-ASCII, a byte-order mark, each separator, and 20,000 columns."""
    assert columns == files.read_frame(path("a.csv", content)).collect().columns


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "2"], [1, 2]),
        ([" 1 ", "2"], [1, 2]),
        (['"1"', '" 2"'], [1, 2]),
        ([" 1.5", "2e3"], [1.5, 2000.0]),
        (["1", "NA"], [1, None]),
        (["1.5", " ? "], [1.5, None]),
        (["n/a", '"7"'], [None, 7]),
        ([" ", '"x"'], [None, "x"]),
        (["NA", "x"], ["NA", "x"]),  # a label, for all that is known
        ([" a b", "c "], ["a b", "c"]),
        (["true", "false"], [True, False]),
    ],
)
def test_types_of_csv_columns(path: Write, cells: list[str], expected: list[Any]) -> None:
    """A number is a number also between spaces, quotes and missing values; text is stripped."""
    frame = files.read_frame(
        path("a.csv", "c,d\n" + "".join(f"{cell},0\n" for cell in cells))
    ).collect()
    assert [(type(value), value) for value in expected] == [
        (type(value), value) for value in frame["c"].to_list()
    ]


@pytest.mark.parametrize(
    "name", ["d*.csv", "d[1].csv", "d?.csv", "s3:x.csv", "~.csv", "d*.parquet", "d[1].parquet"]
)
def test_file_names_are_no_patterns(path: Write, name: str) -> None:
    """Exactly the file named is read, whatever lies beside it."""
    frame = pl.DataFrame({"a": [1, 2], "b": [3, 4]})
    for each in ("d1", "dd", Path(name).stem):
        (frame.write_parquet if name.endswith("parquet") else frame.write_csv)(
            path(each + Path(name).suffix, "")
        )
    assert frame.equals(files.read_frame(Path(name)).collect())


def test_parquet_round_trips(path: Write) -> None:
    """Names and values as polars wrote them."""
    frame = pl.DataFrame({"größe, €": [1.5, 2.5], "b c": ["x", "y"], "d": [True, False]})
    frame.write_parquet(path("a.parquet", ""))
    assert frame.equals(files.read_frame(Path("a.parquet")).collect())


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", "<f2", "<i8", ">i2", "|u1", "|b1"])
def test_npz_keeps_its_values(path: Write, dtype: str) -> None:
    """Every plain dtype, of either byte order, row-major or column-major."""
    x = np.asfortranarray(np.arange(12).reshape(6, 2) % 2).astype(dtype)
    frame = files.read_frame(path("a.npz", npz(x=x, y=x[:, 0]))).collect()
    expected = {"x0": x[:, 0], "x1": x[:, 1], "y": x[:, 0]}
    assert list(expected) == frame.columns
    for name, values in expected.items():
        assert values.astype(float).tolist() == columns.parse_numbers(frame[name], "a.npz").tolist()


class Evil:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch pwned",)


def member(content: bytes, name: str = "x.npy") -> bytes:
    """Return a zip file with one member."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(name, content)
    return archive.getvalue()


def npy(values: Any) -> bytes:
    """Return the bytes of an NPY file."""
    content = io.BytesIO()
    np.save(content, values)
    return content.getvalue()


X = np.zeros((6, 2))
PARQUET_END = (
    "not a Parquet file (parquet: File out of specification: The file must end with PAR1 or PARE)"
)
CUT_NPZ = "not an NPZ file, or a truncated one"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "", "the file is empty"),
        ("a.csv", "\n\n1,2\n", "the first line is blank, expected column names"),
        ("a.csv", "a,b\n", "no rows of data"),
        ("a.csv", f"a,a,b\n{ROWS}", "column 'a' stands 2 times in the header; names must differ"),
        ("a.csv", f'a," a"\n{ROWS}', "column 'a' stands 2 times in the header; names must differ"),
        ("a.csv", f"a,,\n{ROWS}", "column 2 has no name; name it or remove it"),
        ("a.csv", f"a,b\n{ROWS}1,2,3\n", "not readable as CSV: row 13: expected 2 values, found 3"),
        ("a.csv", f"b\n{ROWS}", "not readable as CSV: row 1: expected 1 values, found 2"),
        ("a.csv", "a,größe\n1,2\n".encode("latin-1"), "not UTF-8 at byte 4; save it as UTF-8"),
        (
            "a.csv",
            b"a,b\n" + b"1,2\n" * 10**6 + b"\xff,1\n",
            "not UTF-8 at byte 4000004; save it as UTF-8",
        ),
        (
            "a.csv",
            codecs.BOM_UTF16_LE + "a,b\n".encode("utf-16-le"),
            "expected UTF-8, found UTF-16; save it as UTF-8",
        ),
        ("a.csv", 'a,b\n1,2\n"1,2\n', 'not readable as CSV: could not parse `"1,2'),
        (
            "a.csv",
            '"' + "a" * 200_000,
            "not readable as CSV: field larger than field limit (131072)",
        ),
        ("a.parquet", "", "the file is empty"),
        ("a.parquet", "not Parquet, surely", PARQUET_END),
        ("a.npz", "", "the file is empty"),
        ("a.npz", "not NPZ", CUT_NPZ),
        ("a.npz", npz(x=X, y=X)[:-1], CUT_NPZ),
        ("a.npz", npz(x=X, y=X)[:300], CUT_NPZ),
        ("a.npz", npy(X), CUT_NPZ),
        (
            "a.npz",
            npz(x=X, y=X).replace(b"\0" * 8, b"\1" * 8, 1),
            CUT_NPZ,
        ),  # the checksum does not fit
        ("a.npz", member(b"\x80\x04"), "EOF: reading magic string, expected 8 bytes got 2"),
        ("a.npz", member(npy(X), "x.txt"), "expected arrays x and y, found nothing"),
        ("a.npz", npz(x=X, z=X), "expected arrays x and y, found 'x', 'z'"),
        (
            "a.npz",
            npz(x=X, y=np.array([Evil()] * 6, object)),
            "holds pickled objects, which can run code; save plain arrays",
        ),
        (
            "a.npz",
            npz(x=X, y=np.zeros(5)),
            "expected x (rows, in_features) and y (rows,) or (rows, out_features), found x (6, 2) and y (5,)",
        ),
        (
            "a.npz",
            npz(x=X[0], y=X[0]),
            "expected x (rows, in_features) and y (rows,) or (rows, out_features), found x (2,) and y (2,)",
        ),
        ("a.npz", npz(x=X[:0], y=X[:0]), "no rows of data"),
        ("a.xlsx", "PK", "expected .csv, .tsv, .txt, .parquet, .pq or .npz, found '.xlsx'"),
    ],
)
def test_bad_file(path: Write, name: str, content: bytes | str, expected: str) -> None:
    """Each ends in one line, and none runs code."""
    with pytest.raises(DataError) as caught:
        files.read_frame(path(name, content))
    assert f"{name}: {expected}" == str(caught.value)
    assert [Path(name)] == list(Path().iterdir())


def test_missing_file(path: Write) -> None:
    """What is not there is said, and a folder is no file."""
    with pytest.raises(DataError, match=r"^none\.csv: no such file$"):
        files.read_frame(Path("none.csv"))
    with pytest.raises(DataError, match=r"^\.: is a folder, expected a CSV, Parquet or NPZ file$"):
        files.read_frame(Path())


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1, exclude_max=True), compressed=st.booleans())
def test_truncated_npz(path: Write, cut: float, compressed: bool) -> None:
    """Cut anywhere, it is refused."""
    content = io.BytesIO()
    x = np.random.default_rng(0).normal(size=(50, 2))
    (np.savez_compressed if compressed else np.savez)(content, x=x, y=x)
    with pytest.raises(
        DataError, match=r"^a\.npz: (the file is empty|not an NPZ file, or a truncated one)$"
    ):
        files.read_frame(path("a.npz", content.getvalue()[: int(cut * len(content.getvalue()))]))


MISSING = "; this version refuses missing values: fill them in or remove the rows"


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (
            ["1", "two"],
            "column 'c', row 2: expected a number, found 'two'; a column of text is left out with --drop",
        ),
        (["1,5", "2"], "column 'c', row 1: expected a number, found '1,5'; write a decimal point"),
        (
            ["1", "a\nb"],
            r"column 'c', row 2: expected a number, found 'a\nb'; a column of text is left out with --drop",
        ),
        (["1", "?"], "column 'c': 1 missing value, the first in row 2" + MISSING),
        ([None, 1.0, float("nan")], "column 'c': 2 missing values, the first in row 1" + MISSING),
        ([1.0, 1e39], "column 'c', row 2: expected a number within float32, found 1e+39"),
        ([1.0, float("-inf")], "column 'c', row 2: expected a number within float32, found -inf"),
        (
            [[1], [2]],
            "column 'c': expected numbers, found List(Int64); drop it or write it as numbers",
        ),
        ([None, None], "column 'c': expected numbers, found Null; drop it or write it as numbers"),
    ],
)
def test_not_numbers(column: list[Any], expected: str) -> None:
    """The column is named, and the row counted from 1 without the header."""
    with pytest.raises(DataError) as caught:
        columns.parse_numbers(pl.Series("c", column), "a.csv")
    assert f"a.csv: {expected}" == str(caught.value)


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("pirce", ["size", "price"], " (did you mean 'price'?)"),
        ("PRICE €", ["size", "Price €"], " (did you mean 'Price €'?)"),
        ("colour", ["size", "price"], ""),
        ("x", [], ""),
    ],
)
def test_near_miss(name: str, known: list[str], expected: str) -> None:
    """A slip of the finger or of the shift key is recognised; a guess is not made."""
    assert expected == near_miss(name, known)


def test_blank_lines_at_the_end_are_no_rows(tmp_path: Path) -> None:
    """A file may end in blank lines; one of nothing else holds no rows."""
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n3,4\n\n\n")
    assert [(1, 2), (3, 4)] == files.read_frame(path).collect().rows()
    path.write_text("a,b\n\n\n")
    with pytest.raises(DataError, match="no rows of data"):
        files.read_frame(path)
