"""Tests of model.table.column_statistics: statistics, constant columns and warnings."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from model.table.column_statistics import column_statistics, column_warnings
from model.table.dataset import Kind
from tests.model.tables import make_table


def test_statistics_equal_float64() -> None:
    """Every statistic equals NumPy's in float64, also for values far from zero."""
    scale, shift = [1, 1e-3, 1e4], [0, 2000, 1e6]
    x = (np.random.default_rng(0).normal(size=(200, 3)) * scale + shift).astype(np.float32)
    statistics, exact = column_statistics(x), x.astype(np.float64)
    for name in ("mean", "std", "min", "max", "median"):
        expected = getattr(np, name)(exact, axis=0)
        np.testing.assert_allclose(getattr(statistics, name), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("column", "constant"),
    [
        ([0.1] * 9, True),
        ([0.0] * 9, True),
        ([1.7e9] * 9, True),
        ([0.1, np.nextafter(np.float32(0.1), np.float32(1))] * 5, True),  # differ by one rounding
        ([1e-42, 2e-42] * 5, True),  # 1 / std overflows float32
        ([2000, 2001] * 5, False),
        ([1e-30, 2e-30] * 5, False),
        ([-1, 1] * 5, False),
        ([1e6, 1e6 + 4] * 5, False),
    ],
)
def test_constant_column_has_scale_0(column: list[float], constant: bool) -> None:
    """A column that varies only by rounding has scale 0, any other has scale 1 / std."""
    statistics = column_statistics(np.array(column, np.float32)[:, None])
    assert [constant] == statistics.constant.tolist()
    with np.errstate(over="raise"):
        scale = statistics.scale.astype(np.float32).item()
    assert (0.0 if constant else 1 / statistics.std[0]) == pytest.approx(scale)


IGNORES = "which the network ignores"
SECONDS = 1_700_000_000 + 3600 * np.arange(50)
"""Unix seconds of 50 rows, one hour apart."""


def rounding(value: str, nearest: str, std: str) -> list[str]:
    """Return the expected warning about a column that float32 rounds."""
    return [
        f"column 'a': float32 rounds values near {value} to the nearest {nearest}, and their "
        f"standard deviation is {std}; subtract a constant before training"
    ]


@pytest.mark.parametrize(
    ("columns", "kind", "expected"),
    [
        ([2000 + np.arange(50) % 24], "integer", []),
        ([np.linspace(-1, 1, 50)], "float", []),
        ([SECONDS - 1_700_000_000], "integer", []),
        ([SECONDS], "integer", rounding("1.700088e+09", "1.3e+02", "5.2e+04")),
        ([1e6 + np.linspace(0, 10, 50)], "float", rounding("1000005", "0.062", "2.94")),
        ([2**25 + 2 * np.arange(50) ** 3], "integer", rounding("3.361446e+07", "4", "6.87e+04")),
        ([np.full(50, 0.1)], "float", [f"1 constant column, {IGNORES} ('a')"]),
        ([np.full(50, 0.1)] * 3, "float", [f"3 constant columns, {IGNORES} ('a', 'b', 'c')"]),
    ],
)
def test_warnings(columns: list[NDArray[np.float64]], kind: Kind, expected: list[str]) -> None:
    """Columns that float32 rounds and constant columns give a warning; a year does not."""
    x = np.stack(columns, axis=1).astype(np.float32)
    features = tuple("abc"[: len(columns)])
    table = dataclasses.replace(make_table(), features=features, kinds=(kind,) * len(columns), x=x)
    assert expected == column_warnings(table, column_statistics(x))
