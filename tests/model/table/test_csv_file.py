"""Tests of model.table.csv_file: dialects, headers, types and malformed files."""

import codecs
import csv
import io
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.errors import DataError
from model.table.columns import parse_numbers
from model.table.csv_file import read_csv
from tests.model.table.conftest import WriteFile

ROWS = "1,2\n" * 12
GENES = [f"gene_{index}" for index in range(20_000)]
text = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n"), max_size=8)
number = st.floats(allow_nan=False, allow_infinity=False, width=32)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.lists(text.map(str.strip).filter(bool), min_size=2, max_size=4, unique=True),
    rows=st.lists(st.tuples(text, number), min_size=1, max_size=5),
    separator=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    ending=st.sampled_from(["\n", "\r\n"]),
    mark=st.sampled_from(["", "\ufeff"]),
)
def test_reads_what_python_writes(
    write_file: WriteFile,
    header: list[str],
    rows: list[tuple[str, float]],
    separator: str,
    quoting: Literal[0, 1, 2],
    ending: str,
    mark: str,
) -> None:
    """Reading restores the names and numbers that csv.writer writes in each dialect."""
    content = io.StringIO()
    writer = csv.writer(content, delimiter=separator, quoting=quoting, lineterminator=ending)
    writer.writerows([header, *([label, *[value] * (len(header) - 1)] for label, value in rows)])
    frame = read_csv(write_file("a.csv", mark + content.getvalue()))
    assert header == frame.columns
    for name in header[1:]:
        assert [value for _, value in rows] == parse_numbers(frame[name]).tolist()


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ('"a, b","c ""d""",größe (m²)\n1,2,3\n', ["a, b", 'c "d"', "größe (m²)"]),
        ("a , b\n1 , 2\n", ["a", "b"]),
        ("a;b\n1,5;2,5\n", ["a", "b"]),
        ('"a\nb",c\r\n1,2\r\n', ["a\nb", "c"]),
        ('"a\u2028b",c\n1,2\n', ["a\u2028b", "c"]),
        ("a,b,c\n1,2\n" + "1,2,3\n" * 9, ["a", "b", "c"]),  # the first row is short
        (",".join(GENES) + "\n" + ",".join("1" for _ in GENES) + "\n", GENES),
    ],
)
def test_header(write_file: WriteFile, content: str, columns: list[str]) -> None:
    """Headers with quotes, spaces, non-ASCII names and 20,000 columns are read correctly."""
    assert columns == read_csv(write_file("a.csv", content)).columns


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
        (["NA", "x"], ["NA", "x"]),  # NA may be a label here
        ([" a b", "c "], ["a b", "c"]),
        (["true", "false"], [True, False]),
    ],
)
def test_types_of_columns(write_file: WriteFile, cells: list[str], expected: list[Any]) -> None:
    """Columns of numbers stay numeric despite spaces, quotes and missing values."""
    content = "c,d\n" + "".join(f"{cell},0\n" for cell in cells)
    column = read_csv(write_file("a.csv", content))["c"].to_list()
    assert [(type(value), value) for value in expected] == [(type(cell), cell) for cell in column]


REPEATED = "expected different column names, found 2 of 'a'"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("\n\n1,2\n", "the first line is blank, expected column names"),
        (f"a,a,b\n{ROWS}", REPEATED),
        (f'a," a"\n{ROWS}', REPEATED),
        (f"a,,\n{ROWS}", "column 2 has no name; name it or remove it"),
        (f"a,b\n{ROWS}1,2,3\n", "not readable as CSV: row 13: expected 2 values, found 3"),
        (f"b\n{ROWS}", "not readable as CSV: row 1: expected 1 values, found 2"),
        ("a,größe\n1,2\n".encode("latin-1"), "not UTF-8 at byte 4; save it as UTF-8"),
        (b"a,b\n" + b"1,2\n" * 10**6 + b"\xff,1\n", "not UTF-8 at byte 4000004; save it as UTF-8"),
        (
            codecs.BOM_UTF16_LE + "a,b\n".encode("utf-16-le"),
            "expected UTF-8, found UTF-16; save it as UTF-8",
        ),
        ('a,b\n1,2\n"1,2\n', 'not readable as CSV: could not parse `"1,2'),
        ('"' + "a" * 200_000, "not readable as CSV: field larger than field limit (131072)"),
    ],
)
def test_bad_file(write_file: WriteFile, content: bytes | str, expected: str) -> None:
    """Each defect of a file gives its exact one-line error."""
    with pytest.raises(DataError) as caught:
        read_csv(write_file("a.csv", content))
    assert expected == str(caught.value)
