"""Tests of model.table.column_statistics: statistics, constant columns and warnings."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import DataError
from model.table.column_statistics import (
    answer_warnings,
    check_targets,
    column_statistics,
    column_warnings,
)
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


IGNORED = "the network ignores the column"
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
        ([SECONDS], "integer", rounding("1,700,088,200", "128", "51,955")),
        ([1e6 + np.linspace(0, 10, 50)], "float", rounding("1,000,005", "0.0625", "2.944")),
        ([2**25 + 2 * np.arange(50) ** 3], "integer", rounding("33,614,457", "4", "68,652")),
        (
            [1.7e9 + 600 * np.linspace(-1, 1, 50)],
            "float",
            rounding("1,700,000,000", "128", f"353.8, so {IGNORED}"),
        ),
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


@pytest.mark.parametrize(
    ("mean", "std", "error", "expected"),
    [
        (1.7e9, 600, None, ["128, and their standard deviation is 600"]),
        (1.7e9, 600, 200, ["128, and the network's rmse on the test rows is 200"]),
        (1.7e9, 600, 300, []),
        (2e5, 100, None, []),
        (2e5, 100, 0.02, ["0.01562, and the network's rmse on the test rows is 0.02"]),
        (2000, 10, 1, []),
        (5, 0, None, []),
    ],
)
def test_coarse_answers(mean: float, std: float, error: float | None, expected: list[str]) -> None:
    """Answers are coarse relative to the spread of the target, or to the network's error."""
    statistics = column_statistics(np.array([[mean - std], [mean + std]]))
    errors = None if error is None else np.array([error])
    text = f"target 'a': float32 rounds answers near {mean:,.0f} to the nearest "
    action = "; subtract a constant before training"
    expected = [text + reason + action for reason in expected]
    assert expected == answer_warnings(["a"], statistics, errors)


@pytest.mark.parametrize(("std", "usable"), [(600, True), (40, True), (30, False), (0, True)])
def test_target_that_float32_cannot_hold(std: float, usable: bool) -> None:
    """A target is refused if float32 rounds it by more than the error of predicting its mean."""
    statistics = column_statistics(np.array([[1.7e9 - std], [1.7e9 + std]]))
    if usable:
        check_targets(["a"], statistics)
        return
    expected = (
        "target 'a': float32 rounds answers near 1,700,000,000 to the nearest 128, and their "
        "standard deviation is 30; subtract a constant before training"
    )
    with pytest.raises(DataError, match=f"^{expected}$"):
        check_targets(["a"], statistics)
