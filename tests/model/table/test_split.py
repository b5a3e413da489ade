"""model.table: splits, statistics, and what a person is warned about."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.table.column_statistics import column_statistics, column_warnings
from model.table.dataset import Kind, Table
from model.table.load import MIN_ROWS, MIN_ROWS_PER_CLASS
from model.table.split import split
from tabular.names import quote_names


def table(x: Any, y: Any, classes: tuple[str, ...] = (), kinds: tuple[Kind, ...] = ()) -> Table:
    """Make a table of columns a, b, c ... with a target t."""
    x = np.asarray(x, np.float32)
    return Table(
        name="t",
        task="classification" if classes else "regression",
        features=tuple("abcdefghij"[: x.shape[1]]),
        kinds=kinds or ("float",) * x.shape[1],
        x=x,
        targets=("t",),
        y=np.asarray(y),
        classes=classes,
        notes=(),
    )


@st.composite
def labels(draw: st.DrawFn) -> NDArray[np.int64]:
    """Draw class indices as model.data lets them through: 3 rows or more of each class, 7 on average."""
    counts = draw(st.lists(st.integers(3, 40), min_size=2, max_size=8))
    needed = max(MIN_ROWS, MIN_ROWS_PER_CLASS * len(counts))
    counts[0] += max(0, needed - sum(counts))
    return np.random.default_rng(draw(st.integers(0, 9))).permutation(
        np.repeat(np.arange(len(counts)), counts)
    )


@settings(deadline=None)
@given(st.integers(MIN_ROWS, 500), st.integers(0, 2**32 - 1))
def test_split_takes_every_row_once(rows: int, seed: int) -> None:
    """Train, validation and test are disjoint, cover all rows, and are 64, 16 and 20 percent of them."""
    parts = split(table(np.zeros((rows, 1)), np.zeros((rows, 1))), seed)
    together = np.concatenate([parts.train, parts.validation, parts.test])
    assert list(range(rows)) == sorted(together.tolist())
    for share, part in ((0.64, parts.train), (0.16, parts.validation), (0.20, parts.test)):
        assert abs(share * rows - len(part)) < 2


@settings(deadline=None)
@given(labels(), st.integers(0, 2**32 - 1))
def test_split_is_stratified(y: NDArray[np.int64], seed: int) -> None:
    """Each part holds its share of each class to within two rows, and training sees every class."""
    classes = tuple(str(index) for index in range(y.max() + 1))
    parts = split(table(np.zeros((len(y), 1)), y, classes), seed)
    assert list(range(len(y))) == sorted(
        np.concatenate([parts.train, parts.validation, parts.test]).tolist()
    )
    counts = np.bincount(y)
    for share, part in ((0.64, parts.train), (0.16, parts.validation), (0.20, parts.test)):
        found = np.bincount(y[part], minlength=len(classes))
        assert (abs(share * counts - found) < 2).all()
    assert set(range(len(classes))) == set(y[parts.train].tolist())


def test_split_is_decided_by_the_seed() -> None:
    """The same seed gives the same rows, another seed others."""
    data = table(np.zeros((100, 1)), np.zeros((100, 1)))
    assert split(data, 5).test.tolist() == split(data, 5).test.tolist()
    assert split(data, 5).test.tolist() != split(data, 6).test.tolist()


def test_statistics_are_those_of_float64() -> None:
    """Every figure is the float64 NumPy one of the float32 column, also far from zero."""
    x = (np.random.default_rng(0).normal(size=(200, 3)) * [1, 1e-3, 1e4] + [0, 2000, 1e6]).astype(
        np.float32
    )
    found, exact = column_statistics(x), x.astype(np.float64)
    for name in ("mean", "std", "min", "max", "median"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(np, name)(exact, axis=0), rtol=1e-12
        )


@pytest.mark.parametrize(
    ("column", "constant"),
    [
        ([0.1] * 9, True),
        ([0.0] * 9, True),
        ([1.7e9] * 9, True),
        (
            [0.1, np.nextafter(np.float32(0.1), np.float32(1))] * 5,
            True,
        ),  # 1e-7 of it: lost in rounding
        ([1e-42, 2e-42] * 5, True),  # 1 / std would leave float32's range
        ([2000, 2001] * 5, False),
        ([1e-30, 2e-30] * 5, False),
        ([-1, 1] * 5, False),
        ([1e6, 1e6 + 4] * 5, False),
    ],
)
def test_constant_column_has_scale_0(column: list[float], constant: bool) -> None:
    """A spread that rounding explains is no spread; any other is divided by, within float32's range."""
    found = column_statistics(np.array(column, np.float32)[:, None])
    assert [constant] == found.constant.tolist()
    with np.errstate(over="raise"):
        assert (0.0 if constant else 1 / found.std[0]) == pytest.approx(
            found.scale.astype(np.float32).item()
        )


SECONDS = 1_700_000_000 + 3600 * np.arange(50)
"""Unix seconds, one row an hour."""


@pytest.mark.parametrize(
    ("column", "kind", "expected"),
    [
        (2000 + np.arange(50) % 24, "integer", []),
        (np.linspace(-1, 1, 50), "float", []),
        (SECONDS - 1_700_000_000, "integer", []),
        (
            SECONDS,
            "integer",
            [
                "column 'a': float32 keeps values near 1.700088e+09 only to the nearest 1.3e+02, and they spread by "
                "5.2e+04; subtract a constant before training"
            ],
        ),
        (
            1e6 + np.linspace(0, 10, 50),
            "float",
            [
                "column 'a': float32 keeps values near 1000005 only to the nearest 0.062, and they spread by 2.94; "
                "subtract a constant before training"
            ],
        ),
        (
            2**25 + 2 * np.arange(50) ** 3,
            "integer",
            [
                "column 'a': float32 keeps values near 3.361446e+07 only to the nearest 4, and they spread by "
                "6.87e+04; subtract a constant before training"
            ],
        ),
        (np.full(50, 0.1), "float", ["1 column is constant: the network does not see it ('a')"]),
    ],
)
def test_warnings(column: NDArray[np.float64], kind: Kind, expected: list[str]) -> None:
    """What float32 cannot hold is said with figures; a year is nothing to warn about."""
    data = table(column[:, None], np.arange(50.0)[:, None], kinds=(kind,))
    assert expected == column_warnings(data, column_statistics(data.x))


def test_constant_columns_are_warned_about_together() -> None:
    """One line for all of them."""
    data = table(np.full((20, 3), 0.1), np.arange(20.0)[:, None])
    expected = ["3 columns are constant: the network does not see them ('a', 'b', 'c')"]
    assert expected == column_warnings(data, column_statistics(data.x))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], "nothing"),
        (["a"], "'a'"),
        (["a", "b c"], "'a', 'b c'"),
        (list("abcd"), "'a', 'b', 'c' and 1 more"),
    ],
)
def test_quoted(names: list[str], expected: str) -> None:
    """Names are listed up to a limit, and the rest counted."""
    assert expected == quote_names(names, most=3)
