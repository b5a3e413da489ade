"""Tests of tabular.number_format: numbers that people read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabular.number_format import format_number


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (0.00012, "0.00012"),
        (0.000123456, "0.0001235"),
        (0.000012, "1.2e-05"),
        (0.5, "0.5"),
        (3.14159, "3.142"),
        (57.92, "57.92"),
        (999.96, "1,000"),
        (1234.5678, "1,235"),
        (71_580.4, "71,580"),
        (-11_670.4, "-11,670"),
        (1_700_000_123.0, "1,700,000,123"),
        (1e18, "1e+18"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
    ],
)
def test_format(value: float, expected: str) -> None:
    """Small numbers have four significant digits, large ones are written to units."""
    assert expected == format_number(value)


@given(st.floats(-1e300, 1e300))
def test_text_is_close_to_the_number(value: float) -> None:
    """The text reads back as the number to half a unit of its fourth significant digit."""
    assert pytest.approx(value, rel=5.001e-4, abs=0) == float(format_number(value).replace(",", ""))
