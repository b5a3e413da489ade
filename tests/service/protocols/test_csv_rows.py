"""Tests of service.protocols.csv_rows: CSV bodies give float32 rows or errors with locations."""

from typing import Literal
from unicodedata import normalize

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadInput
from service.protocols.csv_rows import rows_from_csv
from service.runtime.session import Rows
from tests.service.protocols.refusal import refusal
from tests.service.protocols.strategies import float32, matrices

FEATURES = ("a", "b c", "größe, €")
MAX_ROWS = 1000
LONG_TEXT = "x" * 100_000
TWO_SPELLINGS = 'a,"größe, €",b c,"' + normalize("NFD", 'größe, €"\n1,2,3,4\n')
Form = Literal["NFC", "NFD"]


@given(matrices(3, min_rows=1, values=float32))
def test_rows_keep_their_bits(rows: Rows) -> None:
    """Columns are reordered by the header, and every number keeps its float32 bits."""
    lines = [f"{c!r},{a!r},{b!r}\n" for a, b, c in rows.astype(np.float64).tolist()]
    body = '"größe, €",a,b c\n' + "".join(lines)
    actual, _ = rows_from_csv(body.encode(), FEATURES, MAX_ROWS)
    assert ("float32", rows.tobytes()) == (actual.dtype.name, actual.tobytes())


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_dialects(separator: str, mark: str, end: str) -> None:
    """Separators, byte-order marks, line ends and spaces around cells do not change the rows."""
    header = separator.join([" b c ", '"größe, €"', "a"])
    body = f"{mark}{header}{end}2 {separator}3{separator} 1{end}"
    assert [[1, 2, 3]] == rows_from_csv(body.encode(), FEATURES, MAX_ROWS)[0].tolist()


def test_header() -> None:
    """A first line of numbers is a row, unless the numbers are the names of the features."""
    body = b"2,1,0\n7,6,5"
    assert [[2, 1, 0], [7, 6, 5]] == rows_from_csv(body, FEATURES, MAX_ROWS)[0].tolist()
    assert [[5, 6, 7]] == rows_from_csv(body, ("0", "1", "2"), MAX_ROWS)[0].tolist()


def test_lines_of_rows() -> None:
    """Each row has its line in the body, after a header, empty lines and quoted line ends."""
    body = b'\na,"b c","gr\xc3\xb6\xc3\x9fe, \xe2\x82\xac"\n\n1,2,3\n4,"5\n",6\n7,8,9\n'
    rows, lines = rows_from_csv(body, FEATURES, MAX_ROWS)
    assert [[1, 2, 3], [4, 5, 6], [7, 8, 9]] == rows.tolist()
    assert [4, 6, 7] == list(lines)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("known", ["NFC", "NFD"])
def test_spellings_of_a_name(form: Form, known: Form) -> None:
    """A header may spell a name with composed or with combining characters."""
    features = [normalize(known, name) for name in FEATURES]
    body = normalize(form, '"größe, €",a,b c\n3,1,2\n').encode()
    assert [[1, 2, 3]] == rows_from_csv(body, features, MAX_ROWS)[0].tolist()


@pytest.mark.parametrize(
    ("body", "status", "where", "detail"),
    [
        (b"\xff\xfe", 400, None, "not UTF-8 at byte 0"),
        (b"", 400, None, "no rows"),
        ('a,b c,"größe, €"\n'.encode(), 400, None, "no rows"),
        (b"1,2,3\n\n4,5\n", 422, "line 3", "expected 3 values, found 2"),
        (b"1,2,3\n4,1_000,6\n", 422, "line 2, column 'b c'", "expected a number, found '1_000'"),
        (b"1,2,3\n4,nan,6\n", 422, "line 2, column 'b c'", "within float32, found nan"),
        (b"a,b c,x\n1,2,3\n", 422, "line 1", "unknown feature 'x'"),
        (b"a,a,b c\n1,2,3\n", 400, "line 1", "the column 'a' appears twice"),
        (b"\na,b c,d\n1,2,3\n", 422, "line 2", "unknown feature 'd'"),
        (TWO_SPELLINGS.encode(), 400, "line 1", "the column 'größe, €' appears twice"),
        (b"x" * 200_000, 400, "line 1", "not CSV: field larger than field limit"),
        (b'1,2,"3\n', 400, "line 1", "not CSV: unexpected end of data"),
        (b"1,2,3\n" * 1001, 413, "line 1001", "expected at most 1000 rows, found 1001 or more"),
        (f"1,2,3\n1,2,{LONG_TEXT}\n".encode(), 422, "line 2, column 'größe, €'", "xxx ..."),
        (f"{LONG_TEXT},{LONG_TEXT},3\n".encode(), 400, "line 1", "appears twice"),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes | str) else None,
)
def test_csv_that_does_not_fit(body: bytes, status: int, where: str | None, detail: str) -> None:
    """The error gives the line and column, and is short even for a long cell."""
    actual = refusal(rows_from_csv, body, FEATURES, MAX_ROWS)
    assert (status, where) == actual[:2]
    assert detail in actual[2]
    assert len(actual[2]) < 200


@given(st.binary(max_size=200))
def test_any_bytes_are_rows_or_refused(body: bytes) -> None:
    """Every body gives finite rows or raises BadInput."""
    try:
        assert np.isfinite(rows_from_csv(body, FEATURES, MAX_ROWS)[0]).all()
    except BadInput as error:
        assert error.status in (400, 422)
