"""Tests of service.protocols.byte_rows: bytes are rows of the declared type, or refused."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.protocols.byte_rows import DTYPES, read_layout, rows_from_bytes
from service.runtime.session import Rows
from tests.service.protocols.refusal import refusal
from tests.service.protocols.strategies import float32, matrices

FEATURES = ("a", "b", "c")
MAX_ROWS = 2
NAN = np.array([[1, 2, 3], [0, np.nan, 0]])
LARGE = np.array([[1, 2, 1e39]])


def read(body: bytes, header: str = "", max_rows: int = 1000) -> Rows:
    """Read bytes whose Content-Type has the given parameters, such as "dtype=int8 rows=1"."""
    parameters = dict(part.split("=") for part in header.split())
    dtype, rows = read_layout(parameters, required=False)
    return rows_from_bytes(body, FEATURES, max_rows, dtype, rows)


@given(matrices(3, min_rows=1, values=float32))
def test_rows_keep_their_bits(rows: Rows) -> None:
    """float32 and float64 bytes of float32 values give the same values."""
    count = f"rows={len(rows)}"
    for dtype, header in (("<f4", ""), ("<f4", count), ("<f8", f"dtype=float64 {count}")):
        actual = read(rows.astype(dtype).tobytes(), header)
        assert ("float32", rows.tobytes()) == (actual.dtype.name, actual.tobytes())


@pytest.mark.parametrize("name", DTYPES)
def test_types(name: str) -> None:
    """The largest and smallest numbers of each type are rounded to float32."""
    dtype = DTYPES[name]
    ends = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(np.float32)
    numbers = np.array([[ends.min, ends.max, 1]], dtype)
    assert numbers.tolist() == [[ends.min, ends.max, 1]]
    expected = np.array([[float(ends.min), float(ends.max), 1]]).astype(np.float32)
    assert np.array_equal(expected, read(numbers.tobytes(), f"dtype={name.upper()}"))


@pytest.mark.parametrize("name", ["int64", "uint64"])
@given(number=st.integers(0, 2**63 - 1))
@example(number=2**54 + 2**30 + 1)
def test_integers_are_rounded_once(name: str, number: int) -> None:
    """No float32 is closer to an integer than the one that is read."""
    body = np.full((1, 3), number, name).tobytes()
    value = read(body, f"dtype={name}")[0, 0]
    neighbors = np.nextafter(value, np.array([-np.inf, np.inf], np.float32))
    errors = [abs(int(near) - number) for near in (value, *neighbors)]
    assert min(errors) == errors[0]


def test_no_rows() -> None:
    """An empty body is valid if the number of rows is declared."""
    assert (0, 3) == read(b"", "rows=0").shape


@pytest.mark.parametrize("dtype", ["int64", "float64"])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_numpy_defaults_are_refused(dtype: str, rows: int) -> None:
    """The bytes of NumPy's default types are refused with the row count of the array."""
    body = np.arange(3 * rows, dtype=dtype).tobytes()
    layout = f"{rows} rows of 3 float32 values of 4 bytes"
    detail = f"expected {12 * rows} bytes ({layout}), found {24 * rows}"
    assert (422, None, detail) == refusal(read, body, f"rows={rows}")


@pytest.mark.parametrize(
    ("body", "header", "status", "where", "detail"),
    [
        (b"", "", 400, None, "the body is empty"),
        (bytes(13), "", 422, None, "a multiple of 12 bytes (3 float32 values a row), found 13"),
        (bytes(36), "dtype=float64", 422, None, "24 bytes (3 float64 values a row), found 36"),
        (bytes(24), "dtype=float64 rows=2", 422, None, "48 bytes (2 rows of 3 float64 values of 8"),
        (bytes(36), "", 413, None, "expected at most 2 rows, found 3 or more"),
        (bytes(36), "rows=3", 413, None, "expected at most 2 rows, found 3 or more"),
        (bytes(24), "dtype=object", 415, None, "expected one of float32, float64, int8, int16"),
        (bytes(24), "rows=-2", 400, None, "rows: expected a number of rows, found '-2'"),
        (bytes(24), "rows=²", 400, None, "rows: expected a number of rows, found '²'"),
        (bytes(24), f"rows={'9' * 5000}", 400, None, "rows: expected a number of rows, found '99"),
        (NAN.astype("<f4").tobytes(), "", 422, "row 1, column 1", "a finite number, found nan"),
        (NAN.tobytes(), "dtype=float64", 422, "row 1, column 1", "a finite number, found nan"),
        (LARGE.tobytes(), "dtype=float64", 422, "row 0, column 2", "within float32, found 1e+39"),
    ],
)
def test_bytes_that_do_not_fit(
    body: bytes, header: str, status: int, where: str | None, detail: str
) -> None:
    """The error gives the numbers that contradict each other, or the place of a value."""
    actual = refusal(read, body, header, MAX_ROWS)
    assert (status, where) == actual[:2]
    assert detail in actual[2]
    assert len(actual[2]) < 250
